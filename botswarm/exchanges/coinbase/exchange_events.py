"""What Coinbase Exchange's messages say, in our own words, exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from botswarm.domain.market import Level, Quote, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.coinbase.books import Side as BookSide
from botswarm.exchanges.coinbase.books import begun
from botswarm.exchanges.reading import (
    decoded,
    moment_of_text,
    number,
    positive,
    shown,
    whole,
)
from botswarm.exchanges.streams import Beat, Unreadable

FRAME_MAX_BYTES = 8_388_608
NOT_TOLD = Decimal(0)


class Message(msgspec.Struct):
    """The fields of the messages we read; which of them must be there, ``type`` decides."""

    type: str
    product_id: Any = None
    sequence: Any = None
    trade_id: Any = None
    side: Any = None
    size: Any = None
    price: Any = None
    time: Any = None
    best_bid: Any = None
    best_bid_size: Any = None
    best_ask: Any = None
    best_ask_size: Any = None
    last_trade_id: Any = None
    changes: list[tuple[str, str, str]] | None = None
    bids: list[tuple[str, str]] | None = None
    asks: list[tuple[str, str]] | None = None
    channels: list[Any] | None = None
    products: list[dict[str, Any]] | None = None
    message: Any = None
    reason: Any = None


_decoder = msgspec.json.Decoder(Message)


def message(frame: str | bytes) -> Message:
    return decoded(_decoder, frame)


def taker(maker: Any) -> Side:
    """Documented, and so measured: a match names the side of the order that was waiting."""
    if maker == "sell":
        return Side.BUY
    if maker == "buy":
        return Side.SELL
    raise Unreadable("wrong_shape", f"a match of the side {shown(maker)}")


def trade(told: Message, venue: str, symbol: str, received_ms: int) -> Trade:
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(told.trade_id),
        price=positive(told.price),
        quantity=positive(told.size),
        taker_side=taker(told.side),
        exchange_ms=moment_of_text(told.time, received_ms),
        received_ms=received_ms,
    )


def quote(told: Message, venue: str, symbol: str, received_ms: int) -> Quote:
    """Older feeds tell no quantities: they are 0 then, which no best price can have in truth."""
    return Quote(
        venue=venue,
        symbol=symbol,
        sequence=whole(told.sequence),
        bid=positive(told.best_bid),
        bid_quantity=NOT_TOLD if told.best_bid_size is None else number(told.best_bid_size),
        ask=positive(told.best_ask),
        ask_quantity=NOT_TOLD if told.best_ask_size is None else number(told.best_ask_size),
        exchange_ms=time_of(told, received_ms),
        received_ms=received_ms,
    )


def time_of(told: Message, received_ms: int) -> int:
    return received_ms if told.time is None else moment_of_text(told.time, received_ms)


def beat(told: Message, symbol: str, received_ms: int) -> Beat:
    # The venue has been seen to say 0 for ever.
    last_trade_id = whole(told.last_trade_id) if told.last_trade_id is not None else 0
    return Beat(
        exchange_ms=time_of(told, received_ms),
        symbol=symbol,
        last_trade_id=last_trade_id or None,
    )


def whole_book(told: Message) -> tuple[BookSide, BookSide]:
    if told.bids is None or told.asks is None:
        raise Unreadable("wrong_shape", "a book without one of its sides")
    return begun(told.bids, told.asks)


def changes(told: Message) -> tuple[list[Level], list[Level]]:
    if told.changes is None:
        raise Unreadable("wrong_shape", "an l2update without changes")
    bids: list[Level] = []
    asks: list[Level] = []
    for side, price, quantity in told.changes:
        if side not in ("buy", "sell"):
            raise Unreadable("wrong_shape", f"a level of the side {shown(side)}")
        (bids if side == "buy" else asks).append((positive(price), number(quantity)))
    return bids, asks


def subscribed(told: Message) -> list[tuple[str, str]]:
    """Channels and products, all that the connection has now."""
    found = []
    for channel in told.channels or []:
        name, listed = (
            (channel.get("name"), channel.get("product_ids") or [])
            if isinstance(channel, dict)
            else (channel, [])
        )
        if type(name) is not str or type(listed) is not list:
            raise Unreadable("wrong_shape", f"a channel {shown(channel)}")
        found += [(name, product) for product in listed or [""]]
    return found
