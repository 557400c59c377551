"""The plugin API of venues that take orders; their markets are streams.py's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, TimeInForce
from botswarm.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingRules:
    """What a venue takes, and what it promises; the same for all its accounts."""

    kinds: frozenset[OrderKind]
    times_in_force: frozenset[TimeInForce]
    is_resend_safe: bool = False
    """A client order id that was ever taken is never taken again, not even after its order ended:
    sending the same request again is a question, not a second order.
    """
    dead_man_max_s: float | None = None
    """The venue itself cancels everything when it has not heard of us for so long; None where it
    has no such switch, and our own watchdog must do it.
    """
    taken_within_s: float | None = None
    """So long after a request was signed the venue may take it, whoever held it meanwhile; None
    where it refuses nothing for being late. The fence is later: by then its answers show it, too.
    """
    guarantees: str = "proof"
    """In words for a person: what an unknown outcome is resolved by, and what that is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a key may do, by the venue's own word."""

    can_trade: bool
    can_withdraw: bool
    """Such a key is refused: nothing here ever needs it."""
    is_address_bound: bool | None = None
    """It works from the named addresses only; None where the venue does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """An order request, frozen: committed before its first byte is sent, never signed again."""

    payload: bytes
    """Everything but the key's public header: method, path and signed parameters."""
    signed_at: datetime
    fence_at: datetime
    """From here on the venue itself refuses these bytes, whoever still holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The venue's word on one order."""

    client_order_id: str
    venue_order_id: str
    state: OrderState
    filled_quantity: Decimal
    fills: tuple[Fill, ...] = ()
    """Those the answer happened to carry; never to be taken for all of them."""


@dataclass(frozen=True, slots=True)
class Accepted:
    report: Report


@dataclass(frozen=True, slots=True)
class Declined:
    """Definitively not placed."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """No answer, or one that proves nothing: timeouts, resets, 5xx, what cannot be read."""

    reason: str


Answer = Accepted | Declined | Unclear


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """The venue spoke of one order on the account's own stream: a doorbell, never the record."""

    report: Report
    """Without fills: they are booked in the order of the account's history, not of arrival."""
    is_news: bool
    """The answer to its placement could not have told of this."""


class AccountStream(Protocol):
    """What the venue says of one account by itself."""

    def run(
        self,
        on_event: Callable[[AccountEvent], object],
        on_connected: Callable[[], object],
        stop: threading.Event,
    ) -> None:
        """Until ``stop``, connecting again for ever.

        ``on_connected`` says: look at everything, you may have missed some.
        """
        ...


def without_dead_man(name: str) -> Refused:
    """What ``hold_dead_man`` raises at a venue that has no such switch."""
    return Refused(
        f"{name} has no switch that cancels orders by itself",
        cure="use the watchdog of the order worker",
    )


class TradingVenue(Protocol):
    """One account at one venue. Methods that read raise Unreachable when there is no answer."""

    name: str
    account: str
    rules: TradingRules

    def instruments(self) -> Sequence[Instrument]: ...

    def server_time(self) -> datetime: ...

    def ready(self) -> None:
        """Make sure of everything that signing would have to wait for: connection, clocks.

        Called just before ``sign``, which is called while others wait for the account. Raises
        Unreachable or Refused where nothing can be sent now.
        """
        ...

    def clock_offset_s(self) -> float | None:
        """How far the venue's clock was from ours when it was last asked, which is not done here.

        None where nobody compares them.
        """
        ...

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest: ...

    def send(self, request: SignedRequest) -> Answer:
        """Send these very bytes once. Never raises: what is not clear is Unclear."""
        ...

    def cancel(self, order: Order) -> Answer:
        """Never raises. Declined says only that this request did nothing; ask what became of it."""
        ...

    def cancel_all(self, symbol: str) -> None:
        """Ask for the end of every open order of a market, whoever placed it; proves nothing."""
        ...

    def hold_dead_man(self, timeout_s: float) -> None:
        """Have the venue cancel everything unless it is asked again in time; 0 ends that.

        Raises Refused where the venue has no such switch (``rules.dead_man_max_s``).
        """
        ...

    def permissions(self) -> Permissions: ...

    def query(self, order: Order) -> Report | None:
        """Ask by client order id; None is "not found", which proves nothing before the fence."""
        ...

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        """Of one market, or of all: venues charge many times as much for all."""
        ...

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        """By rising trade id, at most one page; ask again from the last until it is empty.

        A venue that names its trades instead of numbering them gives each the same number for
        ever, rising with its time.

        With ``venue_order_id`` only those of that order: no other order's fill, booked out of
        turn, can then hide one of them.
        """
        ...

    def balances(self) -> dict[str, Decimal]:
        """Free and locked together, by asset."""
        ...

    def close(self) -> None:
        """End the connections that rest; the next request makes new ones."""
        ...
