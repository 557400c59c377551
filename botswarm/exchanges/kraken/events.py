"""What Kraken's frames say, in our own words; its numbers are floats whose very text counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from botswarm.domain.market import TIMEFRAMES_S, Level, Quote, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.kraken.book import Told, digits
from botswarm.exchanges.reading import (
    decoded,
    moment_of_text,
    number,
    positive,
    shown,
    whole,
)
from botswarm.exchanges.streams import StreamedCandle, Unreadable

CHECKSUM_MAX = 2**32
FRAME_MAX_BYTES = 4_194_304
"""The list of all assets and pairs is near a megabyte."""
_TIMEFRAMES = {length_s // 60: name for name, length_s in TIMEFRAMES_S.items() if length_s >= 60}
_NOTHING = msgspec.Raw(b"null")


class Head(msgspec.Struct):
    channel: str | None = None
    type: str | None = None
    data: msgspec.Raw = _NOTHING
    timestamp: Any = None
    method: str | None = None
    success: bool | None = None
    result: Any = None
    error: Any = None
    symbol: Any = None
    req_id: Any = None
    time_out: Any = None
    Error: Any = None


class ToldTicker(msgspec.Struct):
    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    timestamp: Any = None


class ToldTrade(msgspec.Struct):
    symbol: str
    side: str
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: Any
    timestamp: Any


class ToldCandle(msgspec.Struct):
    symbol: str
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw
    trades: Any
    interval_begin: Any
    interval: Any


class ToldLevel(msgspec.Struct):
    price: msgspec.Raw
    qty: msgspec.Raw


class ToldBook(msgspec.Struct):
    symbol: str
    bids: list[ToldLevel]
    asks: list[ToldLevel]
    checksum: Any
    timestamp: Any = None


class ToldPair(msgspec.Struct):
    symbol: str
    status: str


class _Instruments(msgspec.Struct):
    pairs: list[ToldPair]


class _System(msgspec.Struct):
    system: str


_head = msgspec.json.Decoder(Head)
_tickers = msgspec.json.Decoder(list[ToldTicker])
_trades = msgspec.json.Decoder(list[ToldTrade])
_candles = msgspec.json.Decoder(list[ToldCandle])
_books = msgspec.json.Decoder(list[ToldBook])
_instruments = msgspec.json.Decoder(_Instruments)
_systems = msgspec.json.Decoder(list[_System])


def head(frame: str | bytes) -> Head:
    return decoded(_head, frame)


def _literal(raw: msgspec.Raw) -> str:
    """The number's text, as it was sent; in quotes it means the same."""
    return bytes(raw).decode(errors="replace").strip('"')


def tickers(data: msgspec.Raw) -> list[ToldTicker]:
    return decoded(_tickers, bytes(data))


def quote(
    told: ToldTicker, venue: str, symbol: str, sequence: int, times: tuple[int, int]
) -> Quote:
    return Quote(
        venue=venue,
        symbol=symbol,
        sequence=sequence,
        bid=positive(_literal(told.bid)),
        bid_quantity=number(_literal(told.bid_qty)),
        ask=positive(_literal(told.ask)),
        ask_quantity=number(_literal(told.ask_qty)),
        exchange_ms=times[0],
        received_ms=times[1],
    )


def trades(data: msgspec.Raw) -> list[ToldTrade]:
    told = decoded(_trades, bytes(data))
    return sorted(told, key=lambda each: whole(each.trade_id))


def trade(told: ToldTrade, venue: str, symbol: str, received_ms: int) -> Trade:
    if told.side not in ("buy", "sell"):
        raise Unreadable("wrong_shape", f"a trade of the side {shown(told.side)}")
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(told.trade_id),
        price=positive(_literal(told.price)),
        quantity=positive(_literal(told.qty)),
        taker_side=Side.BUY if told.side == "buy" else Side.SELL,
        exchange_ms=moment_of_text(told.timestamp, received_ms),
        received_ms=received_ms,
    )


def candles(data: msgspec.Raw) -> list[ToldCandle]:
    return decoded(_candles, bytes(data))


def candle(
    told: ToldCandle, venue: str, symbol: str, at_ms: int, received_ms: int
) -> StreamedCandle:
    timeframe = _TIMEFRAMES.get(told.interval) if type(told.interval) is int else None
    if timeframe is None:
        raise Unreadable("wrong_shape", f"a candle of {shown(told.interval)} minutes")
    return StreamedCandle(
        venue=venue,
        symbol=symbol,
        timeframe=timeframe,
        open_ms=moment_of_text(told.interval_begin, received_ms),
        open=positive(_literal(told.open)),
        high=positive(_literal(told.high)),
        low=positive(_literal(told.low)),
        close=positive(_literal(told.close)),
        volume=number(_literal(told.volume)),
        trades=whole(told.trades),
        is_closed=False,
        exchange_ms=at_ms,
        received_ms=received_ms,
    )


def books(data: msgspec.Raw) -> list[ToldBook]:
    return decoded(_books, bytes(data))


def book(told: ToldBook, received_ms: int) -> Told:
    checksum = whole(told.checksum)
    if checksum >= CHECKSUM_MAX:
        raise Unreadable("bad_number", f"not a checksum: {shown(checksum)}")
    at_ms = received_ms
    if told.timestamp is not None:
        at_ms = moment_of_text(told.timestamp, received_ms)
    return Told(list(_levels(told.bids)), list(_levels(told.asks)), checksum, at_ms, received_ms)


def _levels(levels: Sequence[ToldLevel]) -> Iterator[tuple[Level, str]]:
    for level in levels:
        price, quantity = _literal(level.price), _literal(level.qty)
        known = positive(price), number(quantity)
        yield known, digits(price) + digits(quantity)


def pairs(data: msgspec.Raw) -> list[ToldPair]:
    """Here, and only here, ``data`` is an object."""
    return decoded(_instruments, bytes(data)).pairs


def system(data: msgspec.Raw) -> str | None:
    """The last word of the frame; connection ids in it are larger than any integer of ours."""
    told = decoded(_systems, bytes(data))
    return told[-1].system if told else None
