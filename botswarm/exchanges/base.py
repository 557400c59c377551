"""The plugin API of venues that take orders; their markets are streams.py's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState


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


class TradingVenue(Protocol):
    """One account at one venue. Methods that read raise Unreachable when there is no answer."""

    name: str
    account: str

    def instruments(self) -> Sequence[Instrument]: ...

    def server_time(self) -> datetime: ...

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest: ...

    def send(self, request: SignedRequest) -> Answer:
        """Send these very bytes once. Never raises: what is not clear is Unclear."""
        ...

    def cancel(self, order: Order) -> Answer: ...

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

        With ``venue_order_id`` only those of that order: no other order's fill, booked out of
        turn, can then hide one of them.
        """
        ...

    def balances(self) -> dict[str, Decimal]:
        """Free and locked together, by asset."""
        ...
