"""What a market does: trades, quotes, candles, its order book and status, exact, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from botswarm.domain.order import Side

Channel = Literal["trade", "quote", "candle", "book", "status"]
TIMEFRAMES_S = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    venue: str
    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    taker_side: Side
    exchange_ms: int
    """The venue's own clock; freshness is judged by it."""
    received_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The best bid and ask."""

    venue: str
    symbol: str
    sequence: int
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal
    exchange_ms: int
    """The venue's clock where it says one, else our receive time."""
    received_ms: int

    @property
    def is_crossed(self) -> bool:
        return self.bid >= self.ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    venue: str
    symbol: str
    timeframe: str
    open_ms: int
    """The first millisecond it covers; with venue, symbol and timeframe it is the identity."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    is_closed: bool


Level = tuple[Decimal, Decimal]
"""A price, and the quantity that waits there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The best levels of the order book, checked by the venue's own rule."""

    venue: str
    symbol: str
    sequence: int
    """The venue's number of the change it stands at; it only rises on one connection."""
    bids: tuple[Level, ...]
    """The highest price first."""
    asks: tuple[Level, ...]
    """The lowest price first."""
    exchange_ms: int
    """The venue's clock where it says one, else our receive time."""
    received_ms: int
    checksum: int | None = None
    """The venue's own, where it sends one; it was computed anew and is the same."""

    @property
    def is_crossed(self) -> bool:
        return bool(self.bids and self.asks) and self.bids[0][0] >= self.asks[0][0]


class Trading(StrEnum):
    """What a venue lets be done in a market."""

    OPEN = "open"
    POST_ONLY = "post_only"
    LIMIT_ONLY = "limit_only"
    CANCEL_ONLY = "cancel_only"
    HALTED = "halted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    venue: str
    symbol: str
    trading: Trading
    exchange_ms: int
    received_ms: int
    words: str = ""
    """The venue's own."""


Tick = Trade | Quote | Candle | Book | Status
