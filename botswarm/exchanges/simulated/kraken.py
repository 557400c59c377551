"""The feed of Kraken's WebSocket v2: numbers as JSON numbers, books with a checksum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from botswarm.exchanges.simulated.candles import INTERVALS_MS, Kline
from botswarm.exchanges.simulated.feeds import Feed, FeedLine, Key, Stage, by_name, moment, places
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.kraken_book import (
    CHECKED,
    QUANTITY_DIGITS,
    Shelf,
    checksum,
    difference,
    number,
)
from botswarm.exchanges.simulated.kraken_rest import MINUTES, Rest
from botswarm.exchanges.simulated.matching import Level
from botswarm.exchanges.simulated.publisher import Board, Change
from botswarm.exchanges.simulated.tape import PublicTrade

CHANNELS: Final = ("ticker", "trade", "book", "ohlc", "instrument")
DEPTHS: Final = (10, 25, 100, 500, 1000)
EVERYTHING: Final = ""
FIRST_TRADES: Final = 50
FIRST_CANDLES: Final = 5
CONNECTION_ID_FIRST: Final = 12_393_906_104_898_154_338

Params = dict[str, Any]


class KrakenFeed(Feed):
    name = "kraken"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pairs = by_name(stage.boards.values(), "/")
        self._names = {board.market.rules.symbol: name for name, board in self.pairs.items()}
        self._rest = Rest(stage, self.pairs)

    def rest(self, request: Request) -> Response | None:
        return self._rest.answer(request)

    def greet(self, line: FeedLine) -> None:
        self._tell_system(line, "online")
        self.flush()

    def _tell_system(self, line: FeedLine, system: str) -> None:
        data = {
            "version": "2.0.4",
            "system": system,
            "api_version": "v2",
            "connection_id": CONNECTION_ID_FIRST + line.number,
        }
        line.put(_dump({"channel": "status", "type": "update", "data": [data]}))

    def too_fast(self, line: FeedLine) -> None:
        line.put(_dump({"Error": "Exceeded msg rate"}))
        self.flush()

    def farewell(self, line: FeedLine) -> None:
        self._tell_system(line, "maintenance")
        self.flush()

    # --- what clients say -----------------------------------------------------------------

    def on_message(self, line: FeedLine, message: dict[str, Any] | None) -> None:
        if message is None:
            line.put(_dump({"error": "Malformed request", "success": False}))
            return
        method = message.get("method")
        if method == "ping":
            if line.socket.answers_pings:
                line.put(_dump({"method": "pong", **self._frame_of(message)}))
            return
        params = message.get("params")
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            self._refuse(line, message, "Unsupported event")
            return
        channel = params.get("channel")
        if channel not in CHANNELS:
            self._refuse(line, message, "Unsupported channel")
            return
        line.has_asked = True
        if channel == "instrument":
            self._one(line, message, params, channel, EVERYTHING)
            return
        names = params.get("symbol")
        if not isinstance(names, list) or not names:
            self._refuse(line, message, "Symbol(s) not found")
            return
        for name in names:
            if name in self.pairs:
                symbol = self.pairs[name].market.rules.symbol
                self._one(line, message, params, channel, symbol)
            else:
                self._refuse(line, message, f"Currency pair not supported {name}", str(name))

    def _one(
        self, line: FeedLine, message: Params, params: Params, channel: str, symbol: str
    ) -> None:
        """One market of a request; each has an answer of its own."""
        try:
            options = _options(params, channel)
        except ValueError as error:
            self._refuse(line, message, str(error), self._names.get(symbol, ""))
            return
        key = _key(channel, options, symbol)
        result: Params = {"channel": channel}
        if symbol:
            result["symbol"] = self._names[symbol]
        result |= {name: value for name, value in options.items() if name != "event_trigger"}
        if message["method"] == "unsubscribe":
            result.pop("snapshot", None)
            if not self.forget(line, key):
                self._refuse(line, message, "Subscription not found", self._names.get(symbol, ""))
                return
        elif key in line.wanted:
            self._refuse(line, message, "Already subscribed", self._names.get(symbol, ""))
            return
        else:
            self.listen(line, key, Shelf(options["depth"]) if channel == "book" else options)
        answer = {"method": message["method"], "result": result, "success": True}
        line.put(_dump({**answer, **self._frame_of(message)}))
        if message["method"] == "subscribe" and options.get("snapshot"):
            self._begin(line, key)

    def _refuse(self, line: FeedLine, message: Params, words: str, name: str = "") -> None:
        answer: Params = {"error": words, "method": message.get("method"), "success": False}
        if name:
            answer["symbol"] = name
        line.put(_dump({**answer, **self._frame_of(message)}))

    def _frame_of(self, message: Params) -> Params:
        at = moment(self.stage.now_ms())
        number = {"req_id": message["req_id"]} if "req_id" in message else {}
        return {"time_in": at, "time_out": at, **number}

    def _begin(self, line: FeedLine, key: Key) -> None:
        channel, symbol = key
        if channel == "instrument":
            line.put(self._instruments())
            return
        board = self.stage.boards[symbol]
        if channel == "trade":
            trades = list(board.tape.trades)[-FIRST_TRADES:]
            line.put(self._trades(board, trades, "snapshot"))
        elif channel in ("ticker", "ticker-bbo"):
            line.put(self._ticker(board, "snapshot"))
        elif channel.startswith("ohlc"):
            interval = channel.removeprefix("ohlc-")
            found = board.candles.between(interval, self.stage.now_ms(), limit=FIRST_CANDLES)
            line.put(self._candles(board, interval, found, "snapshot"))
        else:
            line.put(self._first_book(board, line.wanted[key]))

    # --- what happens ---------------------------------------------------------------------

    def on_trades(self, board: Board, trades: Sequence[PublicTrade], now_ms: int) -> None:
        symbol = board.market.rules.symbol
        ids = tuple(trade.id for trade in trades)
        if self.listeners(("trade", symbol)):
            self.say(("trade", symbol), "trade", self._trades(board, trades, "update"), ids)
        if self.listeners(("ticker", symbol)):
            self.say(("ticker", symbol), "quote", self._ticker(board, "update"))

    def on_quote(self, board: Board, now_ms: int) -> None:
        key = "ticker-bbo", board.market.rules.symbol
        if self.listeners(key):
            self.say(key, "quote", self._ticker(board, "update"))

    def on_candle(self, board: Board, interval: str, candle: Kline, now_ms: int) -> None:
        key = f"ohlc-{interval}", board.market.rules.symbol
        # An interval without a trade has no candle here.
        if candle.trades and self.listeners(key):
            self.say(key, "candle", self._candles(board, interval, [candle], "update"))

    def on_depth(self, board: Board, changes: Sequence[Change], now_ms: int) -> None:
        symbol = board.market.rules.symbol
        for depth in DEPTHS:
            key = f"book-{depth}", symbol
            for line in self.listeners(key):
                text = self._change(board, line.wanted[key], now_ms)
                if text:
                    self.tell(line, key, "book", text)

    def on_second(self, now_ms: int) -> None:
        beat = _dump({"channel": "heartbeat"})
        for line in self.lines:
            if line.wanted and line.sends_pings:
                line.put(beat)

    # --- the book -------------------------------------------------------------------------

    def _first_book(self, board: Board, shelf: Shelf) -> str:
        book = board.market.book
        shelf.bids = dict(book.bids.depth(shelf.depth))
        shelf.asks = dict(book.asks.depth(shelf.depth))
        told = shelf
        if board.past and self.strikes("stale_snapshot", board):
            # The changes that follow are those of the book as it is now.
            _, bids, asks = board.past[0]
            told = Shelf(shelf.depth, dict(bids[: shelf.depth]), dict(asks[: shelf.depth]))
        data = self._book(board, told.bids.items(), told.asks.items(), told)
        return _dump({"channel": "book", "type": "snapshot", "data": [data]})

    def _change(self, board: Board, shelf: Shelf, now_ms: int) -> str:
        """What brings the connection's book to where ours is; empty where it is there."""
        book = board.market.book
        bids, asks = dict(book.bids.depth(shelf.depth)), dict(book.asks.depth(shelf.depth))
        ask = book.asks.best
        if ask is not None and self.strikes("crossed_book", board):
            bids = {ask + board.market.rules.tick_size: Decimal(1), **bids}
            bids = dict(list(bids.items())[: shelf.depth])
        told_bids = difference(shelf.bids, bids, book.bids.totals)
        told_asks = difference(shelf.asks, asks, book.asks.totals)
        if not told_bids and not told_asks:
            return ""
        shelf.bids, shelf.asks = bids, asks
        data = self._book(board, told_bids, told_asks, shelf)
        if self.strikes("bad_checksum", board):
            data["checksum"] ^= 1
        data["timestamp"] = moment(now_ms)
        return _dump({"channel": "book", "type": "update", "data": [data]})

    def _book(
        self, board: Board, bids: Iterable[Level], asks: Iterable[Level], shelf: Shelf
    ) -> Params:
        digits = places(board.market.rules.tick_size)

        def rows(levels: Iterable[Level]) -> list[Params]:
            return [
                {"price": number(price, digits), "qty": number(quantity, QUANTITY_DIGITS)}
                for price, quantity in levels
            ]

        return {
            "symbol": self._names[board.market.rules.symbol],
            "bids": rows(bids),
            "asks": rows(asks),
            "checksum": checksum(shelf.bids, shelf.asks, digits),
        }

    # --- words ----------------------------------------------------------------------------

    def _trades(self, board: Board, trades: Sequence[PublicTrade], kind: str) -> str:
        digits = places(board.market.rules.tick_size)
        rows = [
            {
                "symbol": self._names[board.market.rules.symbol],
                "side": "sell" if trade.buyer_is_maker else "buy",
                "price": number(trade.price, digits),
                "qty": number(trade.quantity, QUANTITY_DIGITS),
                "ord_type": "market",
                "trade_id": trade.id,
                "timestamp": moment(trade.at_ms),
            }
            for trade in trades
        ]
        return _dump({"channel": "trade", "type": kind, "data": rows})

    def _ticker(self, board: Board, kind: str) -> str:
        bid, bid_quantity, ask, ask_quantity = self.best(board)
        digits = places(board.market.rules.tick_size)
        day, last = board.candles.current["1d"], board.market.last_price
        change = last - day.open
        row = {
            "symbol": self._names[board.market.rules.symbol],
            "bid": number(bid, digits),
            "bid_qty": number(bid_quantity, QUANTITY_DIGITS),
            "ask": number(ask, digits),
            "ask_qty": number(ask_quantity, QUANTITY_DIGITS),
            "last": number(last, digits),
            "volume": number(day.volume, QUANTITY_DIGITS),
            "vwap": number(_average(day), digits),
            "low": number(day.low, digits),
            "high": number(day.high, digits),
            "change": number(change, digits),
            "change_pct": number(change / day.open * 100, 2),
            "timestamp": moment(self.stage.now_ms()),
        }
        return _dump({"channel": "ticker", "type": kind, "data": [row]})

    def _candles(self, board: Board, interval: str, found: Iterable[Kline], kind: str) -> str:
        digits = places(board.market.rules.tick_size)
        length = INTERVALS_MS[interval]
        rows = [
            {
                "symbol": self._names[board.market.rules.symbol],
                "open": number(each.open, digits),
                "high": number(each.high, digits),
                "low": number(each.low, digits),
                "close": number(each.close, digits),
                "trades": each.trades,
                "volume": number(each.volume, QUANTITY_DIGITS),
                "vwap": number(_average(each), digits),
                "interval_begin": moment(each.open_ms, 9),
                "interval": MINUTES[interval],
                "timestamp": moment(each.open_ms + length),
            }
            for each in found
        ]
        at = moment(self.stage.now_ms(), 9)
        return _dump({"channel": "ohlc", "type": kind, "timestamp": at, "data": rows})

    def _instruments(self) -> str:
        rules = [board.market.rules for board in self.pairs.values()]
        assets = sorted({asset for each in rules for asset in (each.base, each.quote)})
        pairs = [
            {
                "symbol": f"{each.base}/{each.quote}",
                "base": each.base,
                "quote": each.quote,
                "status": "online",
                "qty_precision": QUANTITY_DIGITS,
                "qty_increment": number(each.lot_size, QUANTITY_DIGITS),
                "price_precision": places(each.tick_size),
                "cost_precision": 5,
                "marginable": False,
                "has_index": True,
                "cost_min": number(each.notional_min, 2),
                "tick_size": number(each.tick_size, places(each.tick_size)),
                "price_increment": number(each.tick_size, places(each.tick_size)),
                "qty_min": number(each.quantity_min, QUANTITY_DIGITS),
            }
            for each in rules
        ]
        told = [
            {"id": asset, "status": "enabled", "precision": 10, "precision_display": 5}
            for asset in assets
        ]
        data = {"assets": told, "pairs": pairs}
        return _dump({"channel": "instrument", "type": "snapshot", "data": data})


def _average(candle: Kline) -> Decimal:
    return candle.quote_volume / candle.volume if candle.volume else candle.close


def _key(channel: str, options: Params, symbol: str) -> Key:
    """Subscriptions of different depth or interval are different ones."""
    if channel == "book":
        return f"book-{options['depth']}", symbol
    if channel == "ohlc":
        interval = next(name for name, minutes in MINUTES.items() if minutes == options["interval"])
        return f"ohlc-{interval}", symbol
    if channel == "ticker" and options.get("event_trigger") == "bbo":
        return "ticker-bbo", symbol
    return channel, symbol


def _options(params: Params, channel: str) -> Params:
    """As understood; raises ValueError in Kraken's words."""
    options: Params = {"snapshot": params.get("snapshot", channel != "trade")}
    if not isinstance(options["snapshot"], bool):
        raise ValueError("Snapshot field must be a boolean")
    if channel == "book":
        options["depth"] = params.get("depth", CHECKED)
        if options["depth"] not in DEPTHS:
            raise ValueError("Book depth not supported")
    if channel == "ohlc":
        options["interval"] = params.get("interval", 1)
        if options["interval"] not in MINUTES.values():
            raise ValueError("Ohlc interval not supported")
    if channel == "ticker":
        options["event_trigger"] = params.get("event_trigger", "trades")
        if options["event_trigger"] not in ("trades", "bbo"):
            raise ValueError("Event trigger not supported")
    return options


def _dump(message: object) -> str:
    return msgspec.json.encode(message).decode()
