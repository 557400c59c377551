"""What Coinbase Advanced Trade's frames say, in our own words, exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.coinbase.books import Texts
from botswarm.exchanges.reading import (
    decoded,
    moment,
    moment_of_text,
    number,
    positive,
    shown,
    whole_text,
)
from botswarm.exchanges.streams import StreamedCandle, Unreadable

SIDE_IS_MAKERS = True
"""The venue's documents do not say whose side a trade's is. On the Exchange, whose trades these
are, it is documented as the maker's, and others who compared the two found it so here too."""
TIMEFRAME = "5m"
"""The only one that is streamed."""
FRAME_MAX_BYTES = 33_554_432


class Envelope(msgspec.Struct):
    channel: str | None = None
    type: str | None = None
    timestamp: Any = None
    sequence_num: Any = None
    events: msgspec.Raw = msgspec.Raw(b"[]")
    message: str | None = None
    reason: str | None = None


class ToldTrade(msgspec.Struct):
    product_id: str
    trade_id: Any
    price: Any
    size: Any
    side: Any
    time: Any


class ToldTicker(msgspec.Struct):
    product_id: str
    best_bid: Any
    best_bid_quantity: Any
    best_ask: Any
    best_ask_quantity: Any


class ToldCandle(msgspec.Struct):
    product_id: str
    start: Any
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any


class ToldLevel(msgspec.Struct):
    side: str
    price_level: Any
    new_quantity: Any


class ToldBook(msgspec.Struct):
    type: str
    product_id: str
    updates: list[ToldLevel]


class _Trades(msgspec.Struct):
    trades: list[ToldTrade]
    type: str = "update"


class _Tickers(msgspec.Struct):
    tickers: list[ToldTicker]


class _Candles(msgspec.Struct):
    candles: list[ToldCandle]


class _Statuses(msgspec.Struct):
    products: list[dict[str, Any]]


class _Subscriptions(msgspec.Struct):
    subscriptions: dict[str, list[str]]


envelope = msgspec.json.Decoder(Envelope)
_trades = msgspec.json.Decoder(list[_Trades])
_tickers = msgspec.json.Decoder(list[_Tickers])
_candles = msgspec.json.Decoder(list[_Candles])
_books = msgspec.json.Decoder(list[ToldBook])
_statuses = msgspec.json.Decoder(list[_Statuses])
_subscriptions = msgspec.json.Decoder(list[_Subscriptions])


def trades(frame: bytes) -> list[tuple[ToldTrade, bool]]:
    """By rising id, and whether they are of before; the venue puts the newest first."""
    told = [
        (trade, event.type == "snapshot")
        for event in decoded(_trades, frame)
        for trade in event.trades
    ]
    return sorted(told, key=lambda each: whole_text(each[0].trade_id))


def trade(told: ToldTrade, venue: str, symbol: str, received_ms: int) -> Trade:
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole_text(told.trade_id),
        price=positive(told.price),
        quantity=positive(told.size),
        taker_side=taker(told.side),
        exchange_ms=moment_of_text(told.time, received_ms),
        received_ms=received_ms,
    )


def taker(side: Any) -> Side:
    if side not in ("BUY", "SELL"):
        raise Unreadable("wrong_shape", f"a trade of the side {shown(side)}")
    return Side.BUY if (side == "SELL") is SIDE_IS_MAKERS else Side.SELL


def tickers(frame: bytes) -> Iterator[ToldTicker]:
    return (ticker for event in decoded(_tickers, frame) for ticker in event.tickers)


def quote(
    told: ToldTicker, venue: str, symbol: str, sequence: int, times: tuple[int, int]
) -> Quote:
    return Quote(
        venue=venue,
        symbol=symbol,
        sequence=sequence,
        bid=positive(told.best_bid),
        bid_quantity=number(told.best_bid_quantity),
        ask=positive(told.best_ask),
        ask_quantity=number(told.best_ask_quantity),
        exchange_ms=times[0],
        received_ms=times[1],
    )


def candles(frame: bytes) -> list[ToldCandle]:
    told = [candle for event in decoded(_candles, frame) for candle in event.candles]
    return sorted(told, key=lambda candle: whole_text(candle.start))


def candle(
    told: ToldCandle, venue: str, symbol: str, at_ms: int, received_ms: int
) -> StreamedCandle:
    """Its number of trades is 0, because the venue tells none."""
    return StreamedCandle(
        venue=venue,
        symbol=symbol,
        timeframe=TIMEFRAME,
        open_ms=moment(whole_text(told.start) * 1000, received_ms),
        open=positive(told.open),
        high=positive(told.high),
        low=positive(told.low),
        close=positive(told.close),
        volume=number(told.volume),
        trades=0,
        is_closed=False,
        exchange_ms=at_ms,
        received_ms=received_ms,
    )


def books(frame: bytes) -> list[ToldBook]:
    return decoded(_books, frame)


def levels(updates: Sequence[ToldLevel]) -> tuple[Texts, Texts]:
    """Bids and asks, as they are written."""
    bids: list[tuple[Any, Any]] = []
    asks: list[tuple[Any, Any]] = []
    for update in updates:
        if update.side not in ("bid", "offer", "ask"):
            raise Unreadable("wrong_shape", f"a level of the side {shown(update.side)}")
        side = bids if update.side == "bid" else asks
        side.append((update.price_level, update.new_quantity))
    return bids, asks


def statuses(frame: bytes) -> Iterator[Mapping[str, Any]]:
    found = decoded(_statuses, frame)
    return (product for event in found for product in event.products)


def subscriptions(frame: bytes) -> Iterator[tuple[str, list[str]]]:
    found = decoded(_subscriptions, frame)
    return (pair for event in found for pair in event.subscriptions.items())
