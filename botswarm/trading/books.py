"""What trading needs of the ledger. Every method is one transaction, committed when it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import Approved, Exposure, Frozen, Refused, Verdict
from botswarm.exchanges.base import SignedRequest

Judge = Callable[[Order, Exposure], Verdict]
Freeze = Callable[[Order, Instrument | None], Frozen[SignedRequest] | Refused | None]
"""None where it cannot be sent now."""
Begun = Approved | Refused | Frozen[SignedRequest]


class Books(Protocol):
    def instrument(self, venue: str, symbol: str) -> Instrument: ...

    def save_instruments(self, instruments: Sequence[Instrument]) -> None: ...

    def begin(
        self,
        order_id: str,
        judge: Judge,
        freeze: Freeze,
        now: datetime,
        before: OrderState = OrderState.READY,
    ) -> Begun | None:
        """READY or APPROVED -> SENDING with the frozen bytes, in one transaction.

        By compare-and-set on ``before``, under a lock of the account: exposure is read and, by
        the new state, reserved in the same transaction, so workers that race cannot exceed a
        limit together. What passes ``judge`` is rounded and signed by ``freeze``; from this
        commit on the bytes may be at the venue, before it they cannot be.

        Refused is an order that ends here, REFUSED or STALE; Approved one that passed and could
        not be frozen now: it is APPROVED, and sent by a later round. None when the order is not
        ``before`` any more, or not there: an earlier delivery of the message had it; while an
        order that it replaces is not at its end; and for an APPROVED order while trading is
        halted: a halt stops what was judged before it.

        Either function may be called twice, and its first answer be of no consequence.
        """
        ...

    def judge(self, order_id: str, judge: Judge, now: datetime) -> Verdict | None:
        """The same for a READY order, and no further than APPROVED."""
        ...

    def is_halted(self, order: Order, now: datetime) -> bool:
        """Whether trading is halted for this order at this moment."""
        ...

    def record(
        self,
        order_id: str,
        after: OrderState,
        now: datetime,
        *,
        fills: Sequence[Fill] = (),
        venue_order_id: str | None = None,
        reason: str | None = None,
    ) -> Order:
        """Book fills of this order, as ``book`` does, and move it, with an event row, at once.

        The same state is no move. Raises IllegalTransition where the table of states has no such
        move; the fills are booked all the same.
        """
        ...

    def reopen(self, order_id: str, fence_at: datetime, now: datetime) -> Order | None:
        """UNKNOWN -> APPROVED by proof that the attempt of this fence placed nothing.

        By compare-and-set on the last attempt's fence: None, and nothing is changed, when a
        later attempt exists. A proof is worth nothing for any attempt but its own. None, too,
        where somebody wants the order ended: it is REFUSED then, and nothing is to be sent.
        """
        ...

    def decline(
        self, order_id: str, fence_at: datetime, now: datetime, *, reason: str
    ) -> Order | None:
        """SENDING or UNKNOWN -> REJECTED: the venue refused the attempt of this fence.

        By the same compare-and-set: a sender that slept through its fence is refused for being
        late, and that says nothing about the attempt that was made after it.
        """
        ...

    def book(self, fills: Sequence[Fill], now: datetime) -> int:
        """Book fills once each, in double entry; positions and filled quantities follow.

        Answers how many were new. A fill of an order that is not ours is kept as external.
        """
        ...

    def approved(self, venue: str, account: str) -> Sequence[Order]:
        """Orders that were judged and never sent: their worker died in between."""
        ...

    def unsettled(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        """Orders that are or may be live, with the fence of their last attempt."""
        ...

    def in_doubt(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        """Those of the unsettled that are SENDING or UNKNOWN."""
        ...

    def unsettled_one(self, order_id: str) -> tuple[Order, datetime | None] | None:
        """This order and its fence; None where it is not among the unsettled."""
        ...

    # --- wishes that orders end ------------------------------------------------------------------

    def to_cancel(self, venue: str, account: str) -> Sequence[Order]:
        """Orders that somebody wants ended and that may be at the venue, the oldest wish first.

        None of them is READY or APPROVED: what was not sent ends with the wish itself, and what
        is proven not to have been placed ends with the proof.
        """
        ...

    def finish_cancels(self, venue: str, account: str, now: datetime) -> None:
        """Note of wishes whose order is at its end that they are fulfilled."""
        ...

    def freed(self, venue: str, account: str) -> Sequence[str]:
        """READY orders whose predecessor, which they replace, has come to its end."""
        ...

    def last_trade_id(self, venue: str, account: str, symbol: str) -> int | None: ...
