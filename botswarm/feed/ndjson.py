"""Ticks as lines of JSON, each field in plain words (docs/feed-format.md)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from botswarm.domain.market import (
    TIMEFRAMES_S,
    Book,
    Candle,
    Channel,
    Level,
    Quote,
    Status,
    Tick,
    Trade,
)
from botswarm.exchanges.streams import AggregateTrade, Changed, StreamedCandle

UNSAID_MS = 4_102_444_800_000
"""The year 2100 stands for a receive time that nobody wrote down."""
MOMENT_END_MS = 253_402_300_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder().encode


def line(tick: Tick | Changed) -> bytes:
    """With its line end. A time that nobody said is null."""
    return _encode(told(tick)) + b"\n"


def told(tick: Tick | Changed) -> dict[str, object]:
    if isinstance(tick, Trade):
        return _head(tick) | _trade(tick)
    if isinstance(tick, Quote):
        return _head(tick) | {
            "bid": digits(tick.bid),
            "bid_size": digits(tick.bid_quantity),
            "ask": digits(tick.ask),
            "ask_size": digits(tick.ask_quantity),
            "sequence": sequence(tick.sequence),
        }
    if isinstance(tick, Candle):
        return _candle_head(tick) | _candle(tick)
    if isinstance(tick, Status):
        return _head(tick) | {"trading": tick.trading.value, "words": tick.words}
    return _head(tick) | {
        "type": "update" if isinstance(tick, Changed) else "snapshot",
        "bids": _levels(tick.bids),
        "asks": _levels(tick.asks),
        "sequence": sequence(tick.sequence),
        "checksum": tick.checksum if isinstance(tick, Book) else None,
    }


def channel_of(tick: Tick | Changed) -> Channel:
    if isinstance(tick, Trade):
        return "trade"
    if isinstance(tick, Quote):
        return "quote"
    if isinstance(tick, Candle):
        return "candle"
    return "status" if isinstance(tick, Status) else "book"


def _head(tick: Trade | Quote | Book | Status | Changed) -> dict[str, object]:
    return {
        "venue": tick.venue,
        "symbol": tick.symbol,
        "channel": channel_of(tick),
        "time": moment(tick.exchange_ms),
        "received": moment(tick.received_ms),
    }


def _trade(trade: Trade) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": trade.trade_id,
        "price": digits(trade.price),
        "size": digits(trade.quantity),
        "side": trade.taker_side.value,
    }
    if isinstance(trade, AggregateTrade):
        fields |= {"first_id": trade.first_id, "last_id": trade.last_id}
    return fields


def _candle_head(candle: Candle) -> dict[str, object]:
    if isinstance(candle, StreamedCandle):
        said_ms, received_ms = candle.exchange_ms, candle.received_ms
    else:
        # Without the venue's clock a closed candle was at least complete at its end.
        said_ms = candle.open_ms + TIMEFRAMES_S[candle.timeframe] * 1000
        received_ms = UNSAID_MS
    return {
        "venue": candle.venue,
        "symbol": candle.symbol,
        "channel": "candle",
        "time": moment(said_ms),
        "received": moment(received_ms),
    }


def _candle(candle: Candle) -> dict[str, object]:
    return {
        "timeframe": candle.timeframe,
        "open_time": moment(candle.open_ms),
        "open": digits(candle.open),
        "high": digits(candle.high),
        "low": digits(candle.low),
        "close": digits(candle.close),
        "volume": digits(candle.volume),
        "trades": candle.trades,
        "closed": candle.is_closed,
    }


def _levels(levels: Sequence[Level]) -> list[tuple[str, str]]:
    return [(digits(price), digits(quantity)) for price, quantity in levels]


def sequence(number: int) -> int | None:
    """Venues without numbers are counted by their clock; without that there is none."""
    return None if number // 1000 == UNSAID_MS else number


def digits(number: Decimal) -> str:
    """All that the venue wrote, trailing zeros too, and never an exponent."""
    return f"{number:f}"


def moment(at_ms: int) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if at_ms == UNSAID_MS or at_ms >= MOMENT_END_MS:
        return None
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
