"""All that a decision was made on, in plain values: enough to make it again, to the last bit."""

from __future__ import annotations

import functools
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zlib import compress, crc32, decompress

import numpy

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Quote, Trade
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.strategies.api import Candles, Strategy, wanted_history
from botswarm.strategies.candles import NONE
from botswarm.strategies.evaluate import Holding, Market, Neighbour, Subject

KEPT_FROM_S = 60
"""The feed writes candles of this length and longer to the ledger; shorter ones are carried."""
CARRIED_MAX = 1000
"""Of more short candles only the sum is kept: such a decision cannot be made again."""
ARRAYS = ("open_ms", "open", "high", "low", "close", "volume")

LoadCandles = Callable[[str, str, str, int, int], Candles]
"""(venue, symbol, timeframe, opening time of the last, how many) → those that are kept."""


class Lost(Exception):
    """What was decided on is no longer there as it was; the words say what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What ``evaluate`` takes besides the moment."""

    subject: Subject
    market: Market
    candles: Candles | None
    series: Mapping[str, Candles]
    others: Mapping[str, Neighbour]
    book: Book | None


# --- to plain values ------------------------------------------------------------------------------


def packed(
    subject: Subject,
    market: Mapping[str, Any],
    series: Mapping[str, Candles],
    others: Mapping[str, Neighbour],
    book: Book | None,
) -> dict[str, Any]:
    """Candles are said by their place, their number and a sum over them: the ledger has them.

    ``market`` is what ``market_said`` makes of it, once for all its bots.
    """
    strategy = subject.strategy
    needs = strategy.needs()
    symbols = [symbol for symbol in needs.others if symbol in others]
    kept: dict[str, Any] = {
        "market": market,
        "candles": _windows(series, wanted_history(strategy, subject.timeframe)),
        "bot": {
            "position": str(subject.position),
            "average_price": _text(subject.average_price),
            "memory": dict(subject.memory),
            "orders": [_order(order) for order in subject.orders],
        },
    }
    if symbols:
        kept["others"] = {
            symbol: {
                "market": market_said(others[symbol].market),
                "candles": _window(others[symbol].candles, subject.timeframe, strategy.history),
            }
            for symbol in symbols
        }
        kept["bot"]["others"] = {
            symbol: [str(held.position), _text(held.average_price)]
            for symbol in symbols
            if (held := subject.others.get(symbol)) is not None
        }
    if book is not None and "book" in needs.channels:
        kept["book"] = _book(book)
    return kept


def market_said(market: Market) -> dict[str, Any]:
    trade, quote, instrument = market.trade, market.quote, market.instrument
    return {
        "sequence": market.sequence,
        "wanted": market.wanted_sequence,
        "exchange_ms": market.exchange_ms,
        "data_age_max_s": market.data_age_max_s,
        "trade": trade and _plain(trade),
        "quote": quote and _plain(quote),
        "instrument": _plain(instrument),
    }


def _plain(value: Trade | Quote | Instrument) -> dict[str, Any]:
    named = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return {
        name: str(each) if isinstance(each, Decimal | Side) else each
        for name, each in named.items()
        if name not in ("venue", "symbol") or isinstance(value, Instrument)
    }


def _windows(series: Mapping[str, Candles], wanted: Mapping[str, int]) -> dict[str, Any]:
    return {name: _window(series.get(name), name, count) for name, count in wanted.items()}


def _window(candles: Candles | None, timeframe: str, count: int) -> list[Any] | None:
    """Opening time of the last, how many, and a sum that no other candles have.

    Of those that the ledger does not keep also their values.
    """
    if candles is None:
        return None
    if count == 0 or len(candles) == 0:
        return [0, 0, 0]
    cut = candles.latest(count)
    window: list[Any] = [int(cut.open_ms[-1]), len(cut), checksum(cut)]
    if TIMEFRAMES_S[timeframe] < KEPT_FROM_S and len(cut) <= CARRIED_MAX:
        window.append(_carried(cut))
    return window


@functools.lru_cache(maxsize=64)
def checksum(candles: Candles) -> int:
    """Computed once for all bots that look at the same ones."""
    total = 0
    for name in ARRAYS:
        total = crc32(getattr(candles, name).tobytes(), total)
    return total


@functools.lru_cache(maxsize=64)
def _carried(candles: Candles) -> str:
    raw = b"".join(getattr(candles, name).tobytes() for name in ARRAYS)
    return b64encode(compress(raw)).decode()


def _uncarried(text: str, count: int) -> Candles:
    raw = decompress(b64decode(text))
    columns: dict[str, Any] = {}
    for place, name in enumerate(ARRAYS):
        kind = numpy.int64 if name == "open_ms" else numpy.float64
        columns[name] = numpy.frombuffer(raw, kind, count, place * count * 8)
    return Candles(**columns)


def _order(order: Order) -> dict[str, Any]:
    named = {name: getattr(order, name) for name in Order.__dataclass_fields__ if name != "bot"}
    return {
        name: each.isoformat()
        if isinstance(each, datetime)
        else str(each)
        if isinstance(each, Decimal)
        else each
        for name, each in named.items()
        if each is not None
    }


def _book(book: Book) -> dict[str, Any]:
    return {
        "sequence": book.sequence,
        "bids": [[str(price), str(quantity)] for price, quantity in book.bids],
        "asks": [[str(price), str(quantity)] for price, quantity in book.asks],
        "exchange_ms": book.exchange_ms,
        "received_ms": book.received_ms,
        "checksum": book.checksum,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


# --- and back -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The bot as the version that decided had it."""

    bot: str
    account: str
    strategy: Strategy
    timeframe: str
    budget: Decimal


def unpacked(kept: Mapping[str, Any], told: Told, load: LoadCandles) -> Situation:
    """Raises Lost where candles are gone, or are not those that were seen."""
    market = _market_of(kept["market"])
    venue, symbol = market.instrument.venue, market.instrument.symbol
    series = {
        name: _candles(venue, symbol, name, window, load)
        for name, window in kept["candles"].items()
        if window is not None
    }
    others = {}
    for name, other in kept.get("others", {}).items():
        candles = None
        if other["candles"] is not None:
            candles = _candles(venue, name, told.timeframe, other["candles"], load)
        others[name] = Neighbour(market=_market_of(other["market"]), candles=candles)
    book = kept.get("book")
    return Situation(
        subject=_subject(kept["bot"], told, venue),
        market=market,
        candles=series.get(told.timeframe),
        series=series,
        others=others,
        book=None if book is None else _book_of(book, venue, symbol),
    )


def _candles(
    venue: str, symbol: str, timeframe: str, window: list[Any], load: LoadCandles
) -> Candles:
    last_ms, count, total, *carried = window
    if count == 0:
        return NONE
    if carried:
        return _uncarried(carried[0], count)
    found = load(venue, symbol, timeframe, last_ms, count)
    if len(found) < count or int(found.open_ms[-1]) != last_ms:
        raise Lost(f"{len(found)} of the {count} {timeframe} candles of {symbol} are still kept")
    if checksum(found) != total:
        raise Lost(f"the {timeframe} candles of {symbol} that are kept are not those it saw")
    return found


def _market_of(kept: Mapping[str, Any]) -> Market:
    said = kept["instrument"]
    amounts: dict[str, Any] = {
        name: Decimal(value) if name in _AMOUNTS else value for name, value in said.items()
    }
    instrument = Instrument(**amounts)
    trade, quote = kept["trade"], kept["quote"]
    return Market(
        instrument=instrument,
        sequence=kept["sequence"],
        wanted_sequence=kept["wanted"],
        exchange_ms=kept["exchange_ms"],
        data_age_max_s=kept["data_age_max_s"],
        trade=None if trade is None else _trade_of(trade, instrument),
        quote=None if quote is None else _quote_of(quote, instrument),
    )


_AMOUNTS = ("tick_size", "lot_size", "quantity_min", "quantity_max", "notional_min")
_PRICES = ("bid", "bid_quantity", "ask", "ask_quantity")


def _trade_of(kept: Mapping[str, Any], instrument: Instrument) -> Trade:
    said = {**kept, "price": Decimal(kept["price"]), "quantity": Decimal(kept["quantity"])}
    said["taker_side"] = Side(kept["taker_side"])
    return Trade(venue=instrument.venue, symbol=instrument.symbol, **said)


def _quote_of(kept: Mapping[str, Any], instrument: Instrument) -> Quote:
    said = {**kept, **{name: Decimal(kept[name]) for name in _PRICES}}
    return Quote(venue=instrument.venue, symbol=instrument.symbol, **said)


def _subject(kept: Mapping[str, Any], told: Told, venue: str) -> Subject:
    return Subject(
        bot=told.bot,
        account=told.account,
        strategy=told.strategy,
        timeframe=told.timeframe,
        budget=told.budget,
        position=Decimal(kept["position"]),
        average_price=_decimal(kept["average_price"]),
        memory=kept["memory"],
        orders=[_order_of(order, told.bot) for order in kept["orders"]],
        others={
            symbol: Holding(position=Decimal(position), average_price=_decimal(average))
            for symbol, (position, average) in kept.get("others", {}).items()
        },
    )


def _order_of(kept: Mapping[str, Any], bot: str) -> Order:
    said = dict(kept)
    for name in ("quantity", "reference_price", "filled_quantity", "limit_price", "stop_price"):
        said[name] = _decimal(said.get(name))
    for name in ("created_at", "signal_expires_at"):
        said[name] = datetime.fromisoformat(said[name])
    said |= {
        "side": Side(said["side"]),
        "kind": OrderKind(said["kind"]),
        "time_in_force": TimeInForce(said["time_in_force"]),
        "state": OrderState(said["state"]),
    }
    return Order(bot=bot, **said)


def _book_of(kept: Mapping[str, Any], venue: str, symbol: str) -> Book:
    def levels(said: Any) -> tuple[tuple[Decimal, Decimal], ...]:
        return tuple((Decimal(price), Decimal(quantity)) for price, quantity in said)

    return Book(
        venue=venue,
        symbol=symbol,
        sequence=kept["sequence"],
        bids=levels(kept["bids"]),
        asks=levels(kept["asks"]),
        exchange_ms=kept["exchange_ms"],
        received_ms=kept["received_ms"],
        checksum=kept["checksum"],
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
