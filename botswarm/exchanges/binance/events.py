"""Binance's public events in our own words: trades, quotes, candles and order books, exact."""

from __future__ import annotations

from typing import Any

import msgspec

from botswarm.domain.market import TIMEFRAMES_S, Book, Level, Quote, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.binance.depth import Change
from botswarm.exchanges.reading import moment, number, positive, shown, whole
from botswarm.exchanges.streams import AggregateTrade, StreamedCandle, Unreadable

LEVELS_MAX = 20_000


class Kline(msgspec.Struct):
    t: Any
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - Binance's name for it
    c: str
    v: str
    n: Any
    x: bool


class Event(msgspec.Struct):
    """The fields of the events we read; those with two meanings are looked at when they are used.

    Whatever else an event carries, now or after Binance's next change, does not matter.
    """

    e: str | None = None
    E: Any = None
    s: str | None = None
    t: Any = None
    a: Any = None
    f: Any = None
    l: Any = None  # noqa: E741 - Binance's name for it
    p: Any = None
    q: Any = None
    T: Any = None
    m: Any = None
    u: Any = None
    U: Any = None
    b: Any = None
    B: Any = None
    A: Any = None
    k: Kline | None = None
    lastUpdateId: Any = None  # noqa: N815 - Binance's name for it
    bids: Any = None
    asks: Any = None
    id: Any = msgspec.UNSET
    code: Any = None
    msg: Any = None
    error: Any = None


class Frame(Event):
    """Raw, or combined: then all is in ``data``."""

    stream: str | None = None
    data: Event | None = None


def trade(event: Event, venue: str, symbol: str, received_ms: int) -> Trade:
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(event.t),
        price=positive(event.p),
        quantity=positive(event.q),
        taker_side=_taker(event.m),
        exchange_ms=moment(event.T, received_ms),
        received_ms=received_ms,
    )


def aggregate_trade(event: Event, venue: str, symbol: str, received_ms: int) -> AggregateTrade:
    first, last = whole(event.f), whole(event.l)
    if first > last:
        raise Unreadable("bad_number", f"an aggregate of trades {first} to {last}")
    return AggregateTrade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(event.a),
        price=positive(event.p),
        quantity=positive(event.q),
        taker_side=_taker(event.m),
        exchange_ms=moment(event.T, received_ms),
        received_ms=received_ms,
        first_id=first,
        last_id=last,
    )


def _taker(buyer_is_maker: Any) -> Side:
    if buyer_is_maker is True:
        return Side.SELL  # the buyer was waiting in the book, so the seller came and took
    if buyer_is_maker is False:
        return Side.BUY
    raise Unreadable("wrong_shape", "a trade without a side")


def quote(event: Event, venue: str, symbol: str, received_ms: int) -> Quote:
    return Quote(
        venue=venue,
        symbol=symbol,
        sequence=whole(event.u),
        bid=positive(event.b),
        bid_quantity=positive(event.B),
        ask=positive(event.a),
        ask_quantity=positive(event.A),
        exchange_ms=_said_at(event, received_ms),
        received_ms=received_ms,
    )


def candle(event: Event, venue: str, symbol: str, received_ms: int) -> StreamedCandle:
    line = event.k
    if line is None:
        raise Unreadable("wrong_shape", "a kline without a candle")
    if line.i not in TIMEFRAMES_S:
        raise Unreadable(
            "unknown_event", f"a candle of a timeframe we do not keep: {shown(line.i)}"
        )
    return StreamedCandle(
        venue=venue,
        symbol=symbol,
        timeframe=line.i,
        open_ms=moment(line.t, received_ms),
        open=positive(line.o),
        high=positive(line.h),
        low=positive(line.l),
        close=positive(line.c),
        volume=number(line.v),
        trades=whole(line.n),
        is_closed=line.x,
        exchange_ms=_said_at(event, received_ms),
        received_ms=received_ms,
    )


def change(event: Event, received_ms: int) -> Change:
    first, last = whole(event.U), whole(event.u)
    if first > last:
        raise Unreadable("bad_number", f"a change of the book from {first} to {last}")
    return Change(
        first, last, levels(event.b), levels(event.a), _said_at(event, received_ms), received_ms
    )


def partial_book(event: Event, venue: str, symbol: str, count: int, received_ms: int) -> Book:
    return Book(
        venue=venue,
        symbol=symbol,
        sequence=whole(event.lastUpdateId),
        bids=tuple(sorted(_standing(event.bids), reverse=True)[:count]),
        asks=tuple(sorted(_standing(event.asks))[:count]),
        exchange_ms=_said_at(event, received_ms),
        received_ms=received_ms,
    )


def levels(rows: Any) -> tuple[Level, ...]:
    """A quantity of nothing removes a level; old messages have a third part, always empty."""
    if not isinstance(rows, list) or len(rows) > LEVELS_MAX:
        raise Unreadable("wrong_shape", "levels are missing")
    try:
        return tuple([(positive(row[0]), number(row[1])) for row in rows])
    except (LookupError, TypeError) as error:
        raise Unreadable("wrong_shape", "a level that is not a price and a quantity") from error


def _standing(rows: Any) -> list[Level]:
    return [level for level in levels(rows) if level[1]]


def _said_at(event: Event, received_ms: int) -> int:
    at = event.E if event.T is None else event.T
    return received_ms if at is None else moment(at, received_ms)
