"""The feed of Coinbase Exchange: matches, ticker, level2_batch, heartbeat and status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from botswarm.domain.amount import plain
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.candles import Kline
from botswarm.exchanges.simulated.coinbase_exchange_rest import Rest, product, side_of_maker
from botswarm.exchanges.simulated.feeds import (
    SUBSCRIBE_WITHIN_S,
    Feed,
    FeedLine,
    Stage,
    by_name,
    made_up_id,
    moment,
)
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.matching import Level
from botswarm.exchanges.simulated.orders import ZERO
from botswarm.exchanges.simulated.publisher import Board, Change
from botswarm.exchanges.simulated.tape import PublicTrade
from botswarm.exchanges.simulated.websocket import POLICY_VIOLATION

CHANNELS: Final = ("matches", "ticker", "ticker_batch", "heartbeat", "level2_batch", "status")
SIGNED: Final = ("level2", "level3", "full", "user")
STATUS_EVERY_S: Final = 5
SEQUENCE_STEP: Final = 3
EVERYTHING: Final = ""
"""In the place of a product: the status channel is about all of them."""


class CoinbaseExchangeFeed(Feed):
    name = "coinbase-exchange"
    subscribe_within_s = SUBSCRIBE_WITHIN_S

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.products = by_name(stage.boards.values(), "-")
        self._names = {board.market.rules.symbol: name for name, board in self.products.items()}
        self._rest = Rest(stage, self.products)
        # Rises with all that happens to a product, most of which these channels do not tell.
        self._sequences = {
            symbol: board.update_id * SEQUENCE_STEP for symbol, board in stage.boards.items()
        }

    def rest(self, request: Request) -> Response | None:
        return self._rest.answer(request)

    def too_fast(self, line: FeedLine) -> None:
        line.socket.send_text(_dump({"type": "error", "message": "ErrSlowRead"}))
        line.socket.close(POLICY_VIOLATION, "ErrSlowRead")

    def farewell(self, line: FeedLine) -> None:
        """Coinbase hangs up without a word."""

    # --- what clients say -----------------------------------------------------------------

    def on_message(self, line: FeedLine, message: dict[str, Any] | None) -> None:
        if message is None:
            self._complain(line, "Malformed JSON")
            return
        kind = message.get("type")
        if kind not in ("subscribe", "unsubscribe"):
            self._complain(line, "Type has to be either subscribe or unsubscribe")
            return
        wishes = self._wishes(line, message, is_leaving=kind == "unsubscribe")
        if wishes is None:
            return
        new = []
        for key in wishes:
            if kind == "unsubscribe":
                self.forget(line, key)
            elif key not in line.wanted:
                self.listen(line, key)
                new.append(key)
        line.has_asked = line.has_asked or bool(line.wanted)
        line.put(_dump({"type": "subscriptions", "channels": self._subscriptions(line)}))
        for key in new:
            self._begin(line, key)

    def _wishes(
        self, line: FeedLine, message: dict[str, Any], *, is_leaving: bool
    ) -> list[tuple[str, str]] | None:
        """None where they cannot be granted; the client has been told."""
        shared = message.get("product_ids") or []
        channels = message.get("channels")
        if not isinstance(channels, list) or not channels:
            self._complain(line, "Failed to subscribe", "channels are required")
            return None
        wishes: list[tuple[str, str]] = []
        for each in channels:
            name = each.get("name") if isinstance(each, dict) else each
            own = each.get("product_ids", []) if isinstance(each, dict) else []
            if name in SIGNED:
                reason = "level2, level3, and full channels now require authentication."
                self._complain(line, "Failed to subscribe", reason)
                return None
            if name not in CHANNELS:
                self._complain(line, "Failed to subscribe", f"{name} is not a valid channel")
                return None
            ids = [EVERYTHING] if name == "status" else [*shared, *own]
            for product_id in ids:
                if product_id not in self.products and product_id != EVERYTHING:
                    reason = f"{product_id} is not a valid product"
                    self._complain(line, "Failed to subscribe", reason)
                    return None
            if not ids and is_leaving:
                wishes += [key for key in line.wanted if key[0] == name]
            elif not ids:
                self._complain(line, "Failed to subscribe", "product_ids are required")
                return None
            wishes += [(name, self._symbol(product_id)) for product_id in ids]
        return wishes

    def _symbol(self, product_id: str) -> str:
        return self.products[product_id].market.rules.symbol if product_id else EVERYTHING

    def _complain(self, line: FeedLine, words: str, reason: str = "") -> None:
        error = {"type": "error", "message": words}
        line.put(_dump({**error, "reason": reason} if reason else error))

    def _subscriptions(self, line: FeedLine) -> list[dict[str, object]]:
        found: dict[str, list[str]] = {}
        for name, symbol in line.wanted:
            ids = found.setdefault(name, [])
            if symbol != EVERYTHING:
                ids.append(self._names[symbol])
        return [{"name": name, "product_ids": ids} for name, ids in found.items()]

    def _begin(self, line: FeedLine, key: tuple[str, str]) -> None:
        """What a channel says first."""
        name, symbol = key
        if name == "status":
            line.put(self._status())
            return
        board = self.stage.boards[symbol]
        if name == "level2_batch":
            line.put(self._snapshot(board))
        elif board.tape.trades and name == "matches":
            line.put(self._match(board, board.tape.trades[-1], "last_match"))
        elif board.tape.trades and name == "ticker":
            line.put(self._ticker(board, board.tape.trades[-1]))

    # --- what happens ---------------------------------------------------------------------

    def on_trades(self, board: Board, trades: Sequence[PublicTrade], now_ms: int) -> None:
        symbol = board.market.rules.symbol
        for trade in trades:
            self._sequences[symbol] += SEQUENCE_STEP
            self.say(("matches", symbol), "trade", self._match(board, trade, "match"), (trade.id,))
            if self.listeners(("ticker", symbol)):
                self.say(("ticker", symbol), "quote", self._ticker(board, trade))

    def on_quote(self, board: Board, now_ms: int) -> None:
        """The ticker speaks with each match only."""

    def on_candle(self, board: Board, interval: str, candle: Kline, now_ms: int) -> None:
        """There is no such channel."""

    def on_depth(self, board: Board, changes: Sequence[Change], now_ms: int) -> None:
        key = "level2_batch", board.market.rules.symbol
        if not self.listeners(key):
            return
        book = board.market.book
        told = [
            [side.value, self._price(board, price), plain(book.side(side).totals.get(price, ZERO))]
            for side, price in changes
        ]
        told += self._crossing(board)
        message = {
            "type": "l2update",
            "product_id": self._names[key[1]],
            "changes": told,
            "time": moment(now_ms),
        }
        self.say(key, "book", _dump(message))

    def _crossing(self, board: Board) -> list[list[str]]:
        ask = board.market.book.asks.best
        if ask is None or not self.strikes("crossed_book", board):
            return []
        return [[Side.BUY.value, self._price(board, ask + board.market.rules.tick_size), "1"]]

    def on_second(self, now_ms: int) -> None:
        for symbol, board in self.stage.boards.items():
            trades = board.tape.trades
            message = {
                "type": "heartbeat",
                "sequence": self._sequences[symbol] + 1,
                "last_trade_id": trades[-1].id if trades else 0,
                "product_id": self._names[symbol],
                "time": moment(now_ms),
            }
            for line in self.listeners(("heartbeat", symbol)):
                if line.sends_pings:
                    line.put(_dump(message))
        if now_ms // 1000 % STATUS_EVERY_S == 0:
            for line in self.listeners(("status", EVERYTHING)):
                line.put(self._status())

    # --- words ----------------------------------------------------------------------------

    def _price(self, board: Board, price: Decimal) -> str:
        return plain(price)

    def _match(self, board: Board, trade: PublicTrade, kind: str) -> str:
        return _dump(
            {
                "type": kind,
                "trade_id": trade.id,
                "maker_order_id": made_up_id("maker", board.stem, trade.id),
                "taker_order_id": made_up_id("taker", board.stem, trade.id),
                "side": side_of_maker(trade),
                "size": plain(trade.quantity),
                "price": self._price(board, trade.price),
                "product_id": self._names[board.market.rules.symbol],
                "sequence": self._sequences[board.market.rules.symbol],
                "time": moment(trade.at_ms),
            }
        )

    def _ticker(self, board: Board, trade: PublicTrade) -> str:
        bid, bid_quantity, ask, ask_quantity = self.best(board)
        day = board.candles.current["1d"]
        return _dump(
            {
                "type": "ticker",
                "sequence": self._sequences[board.market.rules.symbol],
                "product_id": self._names[board.market.rules.symbol],
                "price": self._price(board, trade.price),
                "open_24h": plain(day.open),
                "volume_24h": plain(day.volume),
                "low_24h": plain(day.low),
                "high_24h": plain(day.high),
                "volume_30d": plain(day.volume * 30),
                "best_bid": plain(bid),
                "best_bid_size": plain(bid_quantity),
                "best_ask": plain(ask),
                "best_ask_size": plain(ask_quantity),
                "side": "sell" if trade.buyer_is_maker else "buy",
                "time": moment(trade.at_ms),
                "trade_id": trade.id,
                "last_size": plain(trade.quantity),
            }
        )

    def _snapshot(self, board: Board) -> str:
        book = board.market.book
        bids, asks = book.bids.depth(10_000), book.asks.depth(10_000)
        if board.past and self.strikes("stale_snapshot", board):
            _, bids, asks = board.past[0]
        return _dump(
            {
                "type": "snapshot",
                "product_id": self._names[board.market.rules.symbol],
                "bids": _levels(bids),
                "asks": _levels(asks),
                "time": moment(self.stage.now_ms()),
            }
        )

    def _status(self) -> str:
        assets = {
            asset
            for board in self.products.values()
            for asset in (board.market.rules.base, board.market.rules.quote)
        }
        return _dump(
            {
                "type": "status",
                "products": [product(name, board) for name, board in self.products.items()],
                "currencies": [
                    {"id": asset, "name": asset, "status": "online"} for asset in sorted(assets)
                ],
            }
        )


def _levels(levels: Sequence[Level]) -> list[list[str]]:
    return [[plain(price), plain(quantity)] for price, quantity in levels]


def _dump(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))
