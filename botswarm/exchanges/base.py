"""The plugin API of venues: what a market-data source and a trading venue must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Candle, Channel, Tick, Trade
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


class MarketData(Protocol):
    """How to read one venue's public streams."""

    name: str

    def instruments(self) -> Sequence[Instrument]: ...

    def stream_url(self, symbols: Sequence[str], channels: Sequence[Channel]) -> str: ...

    def parse(self, frame: str | bytes, received_ms: int) -> Sequence[Tick]:
        """Normalised ticks of one frame; raises Malformed for what is none of the venue's."""
        ...

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        """The latest closed candles, oldest first."""
        ...

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        """By rising id, for what a stream missed; fewer where the venue tells fewer."""
        ...

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """Those of these ids that the venue still tells, by rising id; at most one page."""
        ...
