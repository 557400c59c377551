"""What Coinbase Exchange answers to questions: products, candles, trades, book and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from botswarm.domain.amount import plain
from botswarm.exchanges.simulated.feeds import Stage, Wrong, bucket, moment
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.publisher import Board
from botswarm.exchanges.simulated.tape import PublicTrade

GRANULARITIES: Final = {60: "1m", 300: "5m", 900: "15m", 3600: "1h", 21_600: "6h", 86_400: "1d"}
CANDLES_MAX: Final = 300
TRADES_MAX: Final = 1000
PER_SECOND: Final = 10
BURST: Final = 15


class Rest:
    def __init__(self, stage: Stage, products: Mapping[str, Board]) -> None:
        self.stage = stage
        self.products = products
        self._spent: dict[str, tuple[float, float]] = {}

    def answer(self, request: Request) -> Response | None:
        now_s = self.stage.now_ms() / 1000
        if not bucket(self._spent, request.peer, now_s, rate=PER_SECOND, burst=BURST):
            return Response.json({"message": "Public rate limit exceeded"}, status=429)
        try:
            return self._answer(request.path, dict(split_parameters(request.query)))
        except Wrong as why:
            return Response.json({"message": why.words}, status=why.status)

    def _answer(self, path: str, values: Mapping[str, str]) -> Response | None:
        words = path.strip("/").split("/")
        if words == ["time"]:
            now_ms = self.stage.now_ms()
            return Response.json({"iso": moment(now_ms, 3), "epoch": now_ms / 1000})
        if words == ["products"]:
            return Response.json([product(name, board) for name, board in self.products.items()])
        if words[0] != "products" or len(words) not in (2, 3):
            return None
        board = self.products.get(words[1])
        if board is None:
            raise Wrong("NotFound", 404)
        if len(words) == 2:
            return Response.json(product(words[1], board))
        questions: dict[str, Callable[[Board, Mapping[str, str]], Response]] = {
            "candles": self._candles,
            "trades": self._trades,
            "book": self._book,
        }
        return questions[words[2]](board, values) if words[2] in questions else None

    def _candles(self, board: Board, values: Mapping[str, str]) -> Response:
        granularity = _whole(values, "granularity") or 60
        if granularity not in GRANULARITIES:
            raise Wrong("Unsupported granularity")
        now_ms = self.stage.now_ms()
        end_ms = _moment(values.get("end")) or now_ms
        start_ms = _moment(values.get("start")) or end_ms - CANDLES_MAX * granularity * 1000
        if (end_ms - start_ms) // (granularity * 1000) > CANDLES_MAX:
            raise Wrong("granularity too small for the requested time range. Count of aggregations "
                        f"requested exceeds {CANDLES_MAX}")  # fmt: skip
        found = board.candles.between(
            GRANULARITIES[granularity],
            now_ms,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=CANDLES_MAX + 1,
        )
        rows = [
            [each.open_ms // 1000, *map(float, (each.low, each.high, each.open, each.close)),
             float(each.volume)]
            for each in reversed(found[-CANDLES_MAX:])
        ]  # fmt: skip
        return Response.json(rows)

    def _trades(self, board: Board, values: Mapping[str, str]) -> Response:
        """Newest first; ``after`` asks for older ones than that id, ``before`` for newer."""
        limit = min(_whole(values, "limit") or TRADES_MAX, TRADES_MAX)
        after, before = _whole(values, "after"), _whole(values, "before")
        found = [
            trade
            for trade in board.tape.trades
            if (after is None or trade.id < after) and (before is None or trade.id > before)
        ][-limit:]
        rows = [
            {
                "time": moment(trade.at_ms),
                "trade_id": trade.id,
                "price": plain(trade.price),
                "size": plain(trade.quantity),
                "side": side_of_maker(trade),
            }
            for trade in reversed(found)
        ]
        headers = {"cb-before": str(found[-1].id), "cb-after": str(found[0].id)} if found else {}
        return Response.json(rows, headers=headers)

    def _book(self, board: Board, values: Mapping[str, str]) -> Response:
        limit = {"1": 1, "2": 10_000}.get(values.get("level", "1"))
        if limit is None:
            raise Wrong("Invalid level")
        book = board.market.book
        return Response.json(
            {
                "bids": [[plain(price), plain(size), 1] for price, size in book.bids.depth(limit)],
                "asks": [[plain(price), plain(size), 1] for price, size in book.asks.depth(limit)],
                "sequence": board.update_id,
                "auction_mode": False,
                "auction": None,
                "time": moment(self.stage.now_ms()),
            }
        )


def side_of_maker(trade: PublicTrade) -> str:
    return "buy" if trade.buyer_is_maker else "sell"


def product(name: str, board: Board) -> dict[str, object]:
    rules = board.market.rules
    return {
        "id": name,
        "base_currency": rules.base,
        "quote_currency": rules.quote,
        "quote_increment": plain(rules.tick_size),
        "base_increment": plain(rules.lot_size),
        "display_name": f"{rules.base}-{rules.quote}",
        "min_market_funds": plain(rules.notional_min),
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "trading_disabled": False,
        "status": "online",
        "status_message": "",
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def _whole(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise Wrong(f"Invalid {name}")
    return int(text)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isdecimal():
        return int(text) * 1000
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong("Invalid time") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)
