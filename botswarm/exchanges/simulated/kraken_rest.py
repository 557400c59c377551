"""What Kraken answers to public questions: pairs, candles, trades, book, time and its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from botswarm.exchanges.simulated.feeds import Stage, bucket, moment, places
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.publisher import Board

ROOT: Final = "/0/public/"
MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}
CANDLES_MAX: Final = 720
TRADES_MAX: Final = 1000
PER_SECOND: Final = 1
BURST: Final = 15
QUANTITY_DIGITS: Final = 8
OWN_NAMES: Final = {"BTC": "XBT"}
"""What REST calls differently from the WebSocket."""
LEGACY: Final = {"BTC": "XXBT", "ETH": "XETH"}
"""Assets that REST's balances still call by the names of 2013."""


class Wrong(Exception):
    """The question cannot be answered."""


class Rest:
    def __init__(self, stage: Stage, pairs: Mapping[str, Board]) -> None:
        self.stage = stage
        self.pairs = {altname(board): board for board in pairs.values()}
        self._spent: dict[str, tuple[float, float]] = {}

    def answer(self, request: Request) -> Response | None:
        questions: dict[str, Callable[[Mapping[str, str]], object]] = {
            "Time": self._time,
            "SystemStatus": self._system,
            "Assets": self._assets,
            "AssetPairs": self._asset_pairs,
            "OHLC": self._candles,
            "Trades": self._trades,
            "Depth": self._depth,
        }
        name = request.path.removeprefix(ROOT)
        if not request.path.startswith(ROOT) or name not in questions:
            return None
        now_s = self.stage.now_ms() / 1000
        if not bucket(self._spent, request.peer, now_s, rate=PER_SECOND, burst=BURST):
            return envelope([], "EAPI:Rate limit exceeded")
        try:
            return envelope(questions[name](dict(split_parameters(request.query))))
        except Wrong as why:
            return envelope([], str(why))

    def _time(self, values: Mapping[str, str]) -> object:
        at = datetime.fromtimestamp(self.stage.now_ms() // 1000, UTC)
        return {
            "unixtime": int(at.timestamp()),
            "rfc1123": f"{at:%a, %d %b %y %H:%M:%S} +0000",
        }

    def _system(self, values: Mapping[str, str]) -> object:
        return {"status": "online", "timestamp": f"{moment(self.stage.now_ms())[:19]}Z"}

    def _assets(self, values: Mapping[str, str]) -> object:
        rules = [board.market.rules for board in self.pairs.values()]
        assets = sorted({asset for each in rules for asset in (each.base, each.quote)})
        return {
            LEGACY.get(asset, asset): {
                "aclass": "currency",
                "altname": OWN_NAMES.get(asset, asset),
                "decimals": 10,
                "display_decimals": 5,
                "status": "enabled",
            }
            for asset in assets
        }

    def _asset_pairs(self, values: Mapping[str, str]) -> object:
        wanted = [name for name in values.get("pair", "").split(",") if name]
        boards = [self._board(name) for name in wanted] or list(self.pairs.values())
        return {altname(board): _pair(board) for board in boards}

    def _board(self, name: str) -> Board:
        board = self.pairs.get(name)
        if board is not None:
            return board
        for each in self.pairs.values():
            rules = each.market.rules
            if name in (f"{rules.base}{rules.quote}", f"{rules.base}/{rules.quote}", _wsname(each)):
                return each
        raise Wrong("EQuery:Unknown asset pair")

    def _candles(self, values: Mapping[str, str]) -> object:
        """The last one is not over yet."""
        board, minutes = self._board(values.get("pair", "")), _whole(values, "interval", 1)
        interval = next((name for name, each in MINUTES.items() if each == minutes), None)
        if interval is None:
            raise Wrong("EGeneral:Invalid arguments")
        since = _whole(values, "since", 0)
        digits = places(board.market.rules.tick_size)
        found = board.candles.between(interval, self.stage.now_ms(), limit=CANDLES_MAX)
        rows = [
            [
                each.open_ms // 1000,
                *(f"{price:.{digits}f}" for price in (each.open, each.high, each.low, each.close)),
                f"{(each.quote_volume / each.volume if each.volume else each.close):.{digits}f}",
                f"{each.volume:.{QUANTITY_DIGITS}f}",
                each.trades,
            ]
            for each in found
            if each.open_ms // 1000 > since
        ]
        last = found[-2].open_ms // 1000 if len(found) > 1 else since
        return {altname(board): rows, "last": last}

    def _trades(self, values: Mapping[str, str]) -> object:
        """Oldest first, those after ``since`` (nanoseconds), or the newest where it is not said."""
        board = self._board(values.get("pair", ""))
        since, count = _whole(values, "since", -1), _whole(values, "count", TRADES_MAX)
        count = max(1, min(count, TRADES_MAX))
        trades = list(board.tape.trades)
        if since >= 0:
            # Short numbers are seconds.
            after = since if since > 10**14 else since * 10**9
            found = [trade for trade in trades if _nanoseconds(trade.id, trade.at_ms) > after]
            found = found[:count]
        else:
            found = trades[-count:]
        digits = places(board.market.rules.tick_size)
        rows = [
            [
                f"{trade.price:.{digits}f}",
                f"{trade.quantity:.{QUANTITY_DIGITS}f}",
                msgspec.Raw(_seconds(trade.id, trade.at_ms).encode()),
                "s" if trade.buyer_is_maker else "b",
                "m",
                "",
                trade.id,
            ]
            for trade in found
        ]
        last = _nanoseconds(found[-1].id, found[-1].at_ms) if found else max(since, 0)
        return {altname(board): rows, "last": str(last)}

    def _depth(self, values: Mapping[str, str]) -> object:
        board = self._board(values.get("pair", ""))
        count, at = _whole(values, "count", 100), self.stage.now_ms() // 1000
        digits, book = places(board.market.rules.tick_size), board.market.book

        def rows(levels: list[tuple[object, object]]) -> list[list[object]]:
            return [[f"{p:.{digits}f}", f"{q:.{QUANTITY_DIGITS}f}", at] for p, q in levels]

        return {
            altname(board): {
                "asks": rows(list(book.asks.depth(count))),
                "bids": rows(list(book.bids.depth(count))),
            }
        }


def altname(board: Board) -> str:
    return _wsname(board).replace("/", "")


def _wsname(board: Board) -> str:
    rules = board.market.rules
    return f"{OWN_NAMES.get(rules.base, rules.base)}/{OWN_NAMES.get(rules.quote, rules.quote)}"


def _pair(board: Board) -> dict[str, object]:
    rules = board.market.rules
    return {
        "altname": altname(board),
        "wsname": _wsname(board),
        "aclass_base": "currency",
        "base": LEGACY.get(rules.base, rules.base),
        "aclass_quote": "currency",
        "quote": LEGACY.get(rules.quote, rules.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": places(rules.tick_size),
        "lot_decimals": places(rules.lot_size),
        "lot_multiplier": 1,
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "ordermin": f"{rules.quantity_min:f}",
        "costmin": f"{rules.notional_min:f}",
        "tick_size": f"{rules.tick_size:f}",
        "status": "online",
    }


def _nanoseconds(trade_id: int, at_ms: int) -> int:
    """Trades of one millisecond are told apart, as Kraken does: by a digit below."""
    return at_ms * 10**6 + trade_id % 100_000 * 10


def _seconds(trade_id: int, at_ms: int) -> str:
    whole, rest = divmod(_nanoseconds(trade_id, at_ms), 10**9)
    return f"{whole}.{rest:09d}"


def _whole(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise Wrong(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def envelope(result: object = None, error: str = "") -> Response:
    """Kraken answers 200, also where it refuses."""
    body = {"error": [error]} if error else {"error": [], "result": result}
    return Response(200, msgspec.json.encode(body))
