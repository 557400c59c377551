"""What Coinbase Advanced answers to questions: products, candles, trades, book and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from botswarm.domain.amount import plain
from botswarm.exchanges.simulated.candles import Kline
from botswarm.exchanges.simulated.feeds import Stage, Wrong, bucket, moment
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.publisher import Board, best

ROOT: Final = "/api/v3/brokerage"
GRANULARITIES: Final = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "THIRTY_MINUTE": "30m",
    "ONE_HOUR": "1h",
    "TWO_HOUR": "2h",
    "FOUR_HOUR": "4h",
    "SIX_HOUR": "6h",
    "ONE_DAY": "1d",
}
CANDLES_MAX: Final = 350
TRADES_MAX: Final = 1000
PER_SECOND: Final = 10


class Rest:
    def __init__(self, stage: Stage, products: Mapping[str, Board]) -> None:
        self.stage = stage
        self.products = products
        self._spent: dict[str, tuple[float, float]] = {}

    def answer(self, request: Request) -> Response | None:
        now_s = self.stage.now_ms() / 1000
        if not bucket(self._spent, request.peer, now_s, rate=PER_SECOND, burst=PER_SECOND):
            return _error("rate_limit_exceeded", "too many requests", 429)
        try:
            return self._answer(
                request.path.removeprefix(ROOT), dict(split_parameters(request.query))
            )
        except Wrong as why:
            kind = "NOT_FOUND" if why.status == 404 else "INVALID_ARGUMENT"
            return _error(kind, why.words, why.status)

    def _answer(self, path: str, values: Mapping[str, str]) -> Response | None:
        words = path.strip("/").split("/")
        if words == ["time"]:
            now_ms = self.stage.now_ms()
            return Response.json(
                {
                    "iso": moment(now_ms, 3),
                    "epochSeconds": str(now_ms // 1000),
                    "epochMillis": str(now_ms),
                }
            )
        if words == ["market", "products"]:
            found = [_product(name, board) for name, board in self.products.items()]
            return Response.json({"products": found, "num_products": len(found)})
        if words == ["market", "product_book"]:
            return self._book(values)
        if words[:2] != ["market", "products"] or len(words) not in (3, 4):
            return None
        board = self.products.get(words[2])
        if board is None:
            raise Wrong("valid product_id is required", 404)
        if len(words) == 3:
            return Response.json(_product(words[2], board))
        questions: dict[str, Callable[[str, Board, Mapping[str, str]], Response]] = {
            "candles": self._candles,
            "ticker": self._ticker,
        }
        if words[3] not in questions:
            return None
        return questions[words[3]](words[2], board, values)

    def _candles(self, name: str, board: Board, values: Mapping[str, str]) -> Response:
        interval = GRANULARITIES.get(values.get("granularity", ""))
        if interval is None:
            raise Wrong("granularity argument is invalid")
        start, end = _seconds(values, "start"), _seconds(values, "end")
        if start is None or end is None:
            raise Wrong("start and end are required")
        limit = min(_seconds(values, "limit") or CANDLES_MAX, CANDLES_MAX)
        found = board.candles.between(
            interval,
            self.stage.now_ms(),
            start_ms=start * 1000,
            end_ms=end * 1000,
            limit=CANDLES_MAX + 1,
        )
        if len(found) > CANDLES_MAX:
            raise Wrong(f"number of candles requested should be less than {CANDLES_MAX}")
        return Response.json({"candles": [candle_row(each) for each in reversed(found[-limit:])]})

    def _ticker(self, name: str, board: Board, values: Mapping[str, str]) -> Response:
        """The latest trades, newest first."""
        limit = min(_seconds(values, "limit") or 100, TRADES_MAX)
        start, end = _seconds(values, "start"), _seconds(values, "end")
        found = [
            trade
            for trade in board.tape.trades
            if (start is None or trade.at_ms >= start * 1000)
            and (end is None or trade.at_ms < (end + 1) * 1000)
        ][-limit:]
        bid, _, ask, _ = best(board)
        rows = [
            {
                "trade_id": str(trade.id),
                "product_id": name,
                "price": plain(trade.price),
                "size": plain(trade.quantity),
                "time": moment(trade.at_ms),
                "side": "BUY" if trade.buyer_is_maker else "SELL",
                "bid": "",
                "ask": "",
                "exchange": "coinbase",
            }
            for trade in reversed(found)
        ]
        return Response.json({"trades": rows, "best_bid": plain(bid), "best_ask": plain(ask)})

    def _book(self, values: Mapping[str, str]) -> Response:
        name = values.get("product_id", "")
        board = self.products.get(name)
        if board is None:
            raise Wrong("valid product_id is required", 404)
        limit = _seconds(values, "limit") or 10_000
        book = board.market.book
        return Response.json(
            {
                "pricebook": {
                    "product_id": name,
                    "bids": [
                        {"price": plain(p), "size": plain(q)} for p, q in book.bids.depth(limit)
                    ],
                    "asks": [
                        {"price": plain(p), "size": plain(q)} for p, q in book.asks.depth(limit)
                    ],
                    "time": moment(self.stage.now_ms()),
                }
            }
        )


def candle_row(candle: Kline) -> dict[str, str]:
    return {
        "start": str(candle.open_ms // 1000),
        "high": plain(candle.high),
        "low": plain(candle.low),
        "open": plain(candle.open),
        "close": plain(candle.close),
        "volume": plain(candle.volume),
    }


def _product(name: str, board: Board) -> dict[str, object]:
    rules = board.market.rules
    return {
        "product_id": name,
        "price": plain(board.market.last_price),
        "base_increment": plain(rules.lot_size),
        "quote_increment": plain(rules.tick_size),
        "price_increment": plain(rules.tick_size),
        "quote_min_size": plain(rules.notional_min),
        "quote_max_size": plain(rules.notional_max),
        "base_min_size": plain(rules.lot_size),
        "base_max_size": plain(rules.quantity_max),
        "base_name": rules.base,
        "quote_name": rules.quote,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "is_disabled": False,
        "view_only": False,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": rules.quote,
        "base_currency_id": rules.base,
        "base_display_symbol": rules.base,
        "quote_display_symbol": rules.quote,
        "alias": "",
        "alias_to": [],
    }


def _seconds(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise Wrong(f"{name} argument is invalid")
    return int(text)


def _error(kind: str, words: str, status: int) -> Response:
    return Response.json({"error": kind, "message": words, "error_details": words}, status=status)
