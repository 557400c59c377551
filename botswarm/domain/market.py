"""What a market does: trades, quotes and candles, exact and in our own words."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from botswarm.domain.order import Side

Channel = Literal["trade", "quote", "candle"]
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


Tick = Trade | Quote | Candle
