"""The feed of Coinbase Advanced Trade: one channel a message, one count over all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from botswarm.domain.amount import plain
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.candles import Kline
from botswarm.exchanges.simulated.coinbase_rest import Rest, candle_row
from botswarm.exchanges.simulated.feeds import (
    SUBSCRIBE_WITHIN_S,
    Feed,
    FeedLine,
    Key,
    Stage,
    by_name,
    moment,
)
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.orders import ZERO
from botswarm.exchanges.simulated.publisher import Board, Change
from botswarm.exchanges.simulated.stream_faults import Shown
from botswarm.exchanges.simulated.tape import PublicTrade
from botswarm.exchanges.simulated.websocket import WebSocket

CHANNELS: Final = ("market_trades", "ticker", "candles", "level2", "heartbeats", "status")
SPOKEN_AS: Final = {"level2": "l2_data"}
WITHOUT_PRODUCTS: Final = ("heartbeats", "status")
EVERYTHING: Final = ""
FIRST_TRADES: Final = 50
"""With which a subscription to trades begins, newest first."""
FIRST_CANDLES: Final = 100
CANDLES_OF: Final = "5m"


class AdvancedLine(FeedLine):
    def __init__(self, feed: Feed, socket: WebSocket, now_s: float) -> None:
        super().__init__(feed, socket, now_s)
        self.sequence = -1
        self.beats = 0


class CoinbaseFeed(Feed):
    name = "coinbase"
    subscribe_within_s = SUBSCRIBE_WITHIN_S
    messages_per_s = 8

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.products = by_name(stage.boards.values(), "-")
        self._names = {board.market.rules.symbol: name for name, board in self.products.items()}
        self._rest = Rest(stage, self.products)

    def rest(self, request: Request) -> Response | None:
        return self._rest.answer(request)

    def open(self, socket: WebSocket, now_s: float) -> FeedLine:
        line = AdvancedLine(self, socket, now_s)
        self.lines.add(line)
        return line

    def farewell(self, line: FeedLine) -> None:
        """Coinbase hangs up without a word."""

    def show(self, line: FeedLine, key: Key, shown: Shown) -> None:
        """Frames are numbered by connection, those that get lost too."""
        assert isinstance(line, AdvancedLine)
        line.sequence += 1
        channel = SPOKEN_AS.get(key[0], key[0])
        # Documents differ on whether this field is there; so do our connections.
        client = '"client_id":"",' if line.number % 2 else ""
        text = (
            f'{{"channel":"{channel}",{client}"timestamp":"{moment(self.stage.now_ms(), 9)}",'
            f'"sequence_num":{line.sequence},"events":[{shown.text}]}}'
        )
        super().show(line, key, shown._replace(text=text))

    # --- what clients say -----------------------------------------------------------------

    def on_message(self, line: FeedLine, message: dict[str, Any] | None) -> None:
        if message is None or message.get("type") not in ("subscribe", "unsubscribe"):
            self._complain(line, "failure to parse the message")
            return
        channel, ids = message.get("channel"), message.get("product_ids") or []
        if channel not in CHANNELS:
            self._complain(line, f"channel {channel} is not known")
            return
        if channel in WITHOUT_PRODUCTS:
            symbols = [EVERYTHING]
        else:
            unknown = [each for each in ids if each not in self.products]
            if unknown or not isinstance(ids, list) or not ids:
                self._complain(line, f"invalid product_ids {unknown}")
                return
            symbols = [self.products[each].market.rules.symbol for each in ids]
        new = []
        for symbol in symbols:
            if message["type"] == "unsubscribe":
                self.forget(line, (channel, symbol))
            elif (channel, symbol) not in line.wanted:
                self.listen(line, (channel, symbol))
                new.append(symbol)
        line.has_asked = line.has_asked or bool(line.wanted)
        if new:
            self._begin(line, channel, new)
        self._tell_subscriptions(line)

    def _complain(self, line: FeedLine, words: str) -> None:
        line.put(_dump({"type": "error", "message": words}))

    def _tell_subscriptions(self, line: FeedLine) -> None:
        found: dict[str, list[str]] = {}
        for channel, symbol in line.wanted:
            name = self._names[symbol] if symbol else channel
            found.setdefault(channel, []).append(name)
        text = _dump({"subscriptions": found})
        self.show(line, ("subscriptions", EVERYTHING), Shown(text))

    def _begin(self, line: FeedLine, channel: str, symbols: Sequence[str]) -> None:
        boards = [self.stage.boards[symbol] for symbol in symbols if symbol]
        if channel == "market_trades":
            for board in boards:
                trades = list(board.tape.trades)[-FIRST_TRADES:]
                self._show_first(line, channel, board, self._trades(board, trades, "snapshot"))
        elif channel == "ticker":
            for board in boards:
                self._show_first(line, channel, board, self._ticker(board, "snapshot"))
        elif channel == "candles":
            for board in boards:
                self._show_first(line, channel, board, self._first_candles(board))
        elif channel == "level2":
            for board in boards:
                self._show_first(line, channel, board, self._snapshot(board))
        elif channel == "status":
            self.show(line, (channel, EVERYTHING), Shown(self._status("snapshot")))

    def _show_first(self, line: FeedLine, channel: str, board: Board, text: str) -> None:
        self.show(line, (channel, board.market.rules.symbol), Shown(text))

    # --- what happens ---------------------------------------------------------------------

    def on_trades(self, board: Board, trades: Sequence[PublicTrade], now_ms: int) -> None:
        symbol = board.market.rules.symbol
        ids = tuple(trade.id for trade in trades)
        if self.listeners(("market_trades", symbol)):
            text = self._trades(board, trades, "update")
            self.say(("market_trades", symbol), "trade", text, ids)
        if self.listeners(("ticker", symbol)):
            self.say(("ticker", symbol), "quote", self._ticker(board, "update"))

    def on_quote(self, board: Board, now_ms: int) -> None:
        """The ticker speaks with each match only."""

    def on_candle(self, board: Board, interval: str, candle: Kline, now_ms: int) -> None:
        key = "candles", board.market.rules.symbol
        if interval == CANDLES_OF and self.listeners(key):
            row = {**candle_row(candle), "product_id": self._names[key[1]]}
            self.say(key, "candle", _dump({"type": "update", "candles": [row]}))

    def on_depth(self, board: Board, changes: Sequence[Change], now_ms: int) -> None:
        key = "level2", board.market.rules.symbol
        if not self.listeners(key):
            return
        book, at = board.market.book, moment(now_ms)
        updates = [
            _update(side, plain(price), plain(book.side(side).totals.get(price, ZERO)), at)
            for side, price in changes
        ]
        ask = book.asks.best
        if ask is not None and self.strikes("crossed_book", board):
            price = plain(ask + board.market.rules.tick_size)
            updates.append(_update(Side.BUY, price, "1", at))
        self.say(key, "book", self._level2(board, "update", updates))

    def on_second(self, now_ms: int) -> None:
        at = datetime.fromtimestamp(now_ms // 1000, UTC)
        words = f"{at:%Y-%m-%d %H:%M:%S}.{now_ms % 1000:03d}000000+00:00"
        for line in self.listeners(("heartbeats", EVERYTHING)):
            if line.sends_pings and isinstance(line, AdvancedLine):
                line.beats += 1
                # A whole number by one document, text by another.
                count: object = line.beats if line.number % 2 else str(line.beats)
                text = _dump({"current_time": words, "heartbeat_counter": count})
                self.show(line, ("heartbeats", EVERYTHING), Shown(text))

    # --- words ----------------------------------------------------------------------------

    def _trades(self, board: Board, trades: Sequence[PublicTrade], kind: str) -> str:
        rows = [
            {
                "trade_id": str(trade.id),
                "product_id": self._names[board.market.rules.symbol],
                "price": plain(trade.price),
                "size": f"{trade.quantity:.8f}",
                "time": moment(trade.at_ms),
                "side": "BUY" if trade.buyer_is_maker else "SELL",
            }
            for trade in reversed(trades)
        ]
        return _dump({"type": kind, "trades": rows})

    def _ticker(self, board: Board, kind: str) -> str:
        bid, bid_quantity, ask, ask_quantity = self.best(board)
        day = board.candles.current["1d"]
        row = {
            "type": "ticker",
            "product_id": self._names[board.market.rules.symbol],
            "price": plain(board.market.last_price),
            "volume_24_h": plain(day.volume),
            "low_24_h": plain(day.low),
            "high_24_h": plain(day.high),
            "low_52_w": plain(day.low),
            "high_52_w": plain(day.high),
            "price_percent_chg_24_h": f"{(day.close / day.open - 1) * 100:.8f}",
            "best_bid": plain(bid),
            "best_bid_quantity": f"{bid_quantity:.8f}",
            "best_ask": plain(ask),
            "best_ask_quantity": f"{ask_quantity:.8f}",
        }
        return _dump({"type": kind, "tickers": [row]})

    def _first_candles(self, board: Board) -> str:
        now_ms = self.stage.now_ms()
        found = board.candles.between(CANDLES_OF, now_ms, limit=FIRST_CANDLES)
        name = self._names[board.market.rules.symbol]
        rows = [{**candle_row(each), "product_id": name} for each in reversed(found)]
        return _dump({"type": "snapshot", "candles": rows})

    def _snapshot(self, board: Board) -> str:
        book, at = board.market.book, "1970-01-01T00:00:00Z"
        bids, asks = book.bids.depth(10_000), book.asks.depth(10_000)
        if board.past and self.strikes("stale_snapshot", board):
            _, bids, asks = board.past[0]
        updates = [_update(Side.BUY, plain(p), plain(q), at) for p, q in bids]
        updates += [_update(Side.SELL, plain(p), plain(q), at) for p, q in asks]
        return self._level2(board, "snapshot", updates)

    def _level2(self, board: Board, kind: str, updates: Sequence[dict[str, str]]) -> str:
        name = self._names[board.market.rules.symbol]
        return _dump({"type": kind, "product_id": name, "updates": updates})

    def _status(self, kind: str) -> str:
        products = [
            {
                "product_type": "SPOT",
                "id": name,
                "base_currency": board.market.rules.base,
                "quote_currency": board.market.rules.quote,
                "base_increment": plain(board.market.rules.lot_size),
                "quote_increment": plain(board.market.rules.tick_size),
                "display_name": name.replace("-", "/"),
                "status": "online",
                "status_message": "",
                "min_market_funds": plain(board.market.rules.notional_min),
            }
            for name, board in self.products.items()
        ]
        return _dump({"type": kind, "products": products})


def _update(side: Side, price: str, quantity: str, at: str) -> dict[str, str]:
    return {
        "side": "bid" if side is Side.BUY else "offer",
        "event_time": at,
        "price_level": price,
        "new_quantity": quantity,
    }


def _dump(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))
