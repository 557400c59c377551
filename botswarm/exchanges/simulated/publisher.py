"""Turns what happened in the engine into public messages: trades, quotes, depth and candles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from botswarm.domain.order import Side
from botswarm.exchanges.simulated import wire
from botswarm.exchanges.simulated.candles import INTERVALS_MS, Candles, Kline
from botswarm.exchanges.simulated.exchange import Exchange, Fact, Market, Traded
from botswarm.exchanges.simulated.matching import Level
from botswarm.exchanges.simulated.orders import ZERO
from botswarm.exchanges.simulated.streams import VENUE, StreamHub
from botswarm.exchanges.simulated.tape import PublicTrade, Tape

DEPTHS = (5, 10, 20)
FAST_MS = 100
SLOW_MS = 1_000

OTHERS = 0
"""Marks the changes of depth that wait for the other venues' feeds."""
STALE_S = 3
"""How old a snapshot of the book is that is ordered to be stale."""

Change = tuple[Side, Decimal]
Best = tuple[Decimal, Decimal, Decimal, Decimal]
"""Bid and its quantity, ask and its quantity."""


@dataclass(slots=True)
class DepthChanges:
    """Levels that changed since a depth stream last spoke."""

    spoken_id: int
    changed: set[Change] = field(default_factory=set)


@dataclass(slots=True)
class Board:
    """All that is public about one market."""

    market: Market
    candles: Candles
    update_id: int
    tape: Tape = field(default_factory=Tape)
    best: tuple[object, ...] = ()
    depth: dict[int, DepthChanges] = field(default_factory=dict)
    crossed: Decimal | None = None
    """The price of a bid above the asks that was shown by order, until it is taken back."""
    past: deque[tuple[int, list[Level], list[Level]]] = field(
        default_factory=lambda: deque(maxlen=STALE_S + 1)
    )
    """The book as it was in each of the last seconds: update id, bids, asks."""

    @property
    def stem(self) -> str:
        return self.market.rules.symbol.lower()


class Listener(Protocol):
    """A feed that says the same in another venue's words."""

    def on_trades(self, board: Board, trades: Sequence[PublicTrade], now_ms: int) -> None: ...

    def on_quote(self, board: Board, now_ms: int) -> None: ...

    def on_candle(self, board: Board, interval: str, candle: Kline, now_ms: int) -> None: ...

    def on_depth(self, board: Board, changes: Sequence[Change], now_ms: int) -> None: ...


class Publisher:
    def __init__(
        self, exchange: Exchange, candles: dict[str, Candles], hub: StreamHub, now_ms: int
    ) -> None:
        self.hub = hub
        self.others: list[Listener] = []
        # Update numbers start at the time, so that they never fall, not even over a restart.
        self.boards = {
            symbol: Board(exchange.markets[symbol], each, now_ms)
            for symbol, each in candles.items()
        }
        for board in self.boards.values():
            board.depth = {speed: DepthChanges(now_ms) for speed in (OTHERS, FAST_MS, SLOW_MS)}

    def publish(self, facts: Iterable[Fact], now_ms: int) -> None:
        """Everything that is to be said at once of what happened at ``now_ms``."""
        # First what is over: a trade belongs to the candle of its own time.
        self.roll_candles(now_ms)
        parts: list[PublicTrade] = []
        by_market: dict[str, list[PublicTrade]] = {}
        previous: Traded | None = None
        for fact in facts:
            if not isinstance(fact, Traded) or fact.symbol not in self.boards:
                continue
            if previous is not None and not _belongs(previous, fact):
                self._aggregate(previous.symbol, parts, now_ms)
                parts = []
            parts.append(self._trade(fact, now_ms))
            by_market.setdefault(fact.symbol, []).append(parts[-1])
            previous = fact
        if previous is not None:
            self._aggregate(previous.symbol, parts, now_ms)
        for board in self.boards.values():
            self._note_depth(board, now_ms)
        for symbol, trades in by_market.items():
            for other in self.others:
                other.on_trades(self.boards[symbol], trades, now_ms)

    def _trade(self, fact: Traded, now_ms: int) -> PublicTrade:
        board = self.boards[fact.symbol]
        trade = board.tape.add(fact)
        board.candles.add(now_ms, trade.price, trade.quantity, trade.id, not trade.buyer_is_maker)
        self.hub.journal.happened(fact.symbol, trade)
        name = f"{board.stem}@trade"
        if self.hub.has(name):
            self.hub.publish(name, wire.trade_event(fact.symbol, trade, now_ms), (trade.id,))
        return trade

    def _aggregate(self, symbol: str, parts: list[PublicTrade], now_ms: int) -> None:
        board = self.boards[symbol]
        aggregate = board.tape.aggregate(parts)
        name = f"{board.stem}@aggTrade"
        if self.hub.has(name):
            self.hub.publish(name, wire.aggregate_event(symbol, aggregate, now_ms))

    def _note_depth(self, board: Board, now_ms: int) -> None:
        book = board.market.book
        changed = [(half.side, price) for half in (book.bids, book.asks) for price in half.changed]
        if not changed:
            return
        book.bids.changed.clear()
        book.asks.changed.clear()
        board.update_id += len(changed)
        for waiting in board.depth.values():
            waiting.changed.update(changed)
        self._quote(board, now_ms)

    def _quote(self, board: Board, now_ms: int) -> None:
        bids, asks = board.market.book.bids.depth(1), board.market.book.asks.depth(1)
        best = (*bids, *asks)
        if not bids or not asks or best == board.best:
            return
        board.best = best
        name = f"{board.stem}@bookTicker"
        if self.hub.has(name):
            shown = quote(board)
            if self._strikes("crossed_quote", board, "quote"):
                shown["b"], shown["a"] = shown["a"], shown["b"]
            self.hub.publish(name, {"u": board.update_id, **shown})
        for other in self.others:
            other.on_quote(board, now_ms)

    def _strikes(self, kind: str, board: Board, channel: str) -> bool:
        faults = self.hub.spoiler.faults
        symbol = board.market.rules.symbol
        return bool(faults.armed) and (
            faults.take_frame(VENUE, symbol, channel, (kind,)) is not None
        )

    # --- at intervals ---------------------------------------------------------------------

    def roll_candles(self, now_ms: int) -> None:
        """Closed ones first; then, a second apart, those that are still going on."""
        for board in self.boards.values():
            for interval, candle in board.candles.roll(now_ms):
                self._kline(board, interval, candle, now_ms, is_closed=True)

    def show_candles(self, now_ms: int) -> None:
        for board in self.boards.values():
            for interval in INTERVALS_MS:
                candle = board.candles.current[interval]
                if candle.touched:
                    candle.touched = False
                    self._kline(board, interval, candle, now_ms, is_closed=False)

    def _kline(
        self, board: Board, interval: str, candle: Kline, now_ms: int, *, is_closed: bool
    ) -> None:
        name = f"{board.stem}@kline_{interval}"
        if self.hub.has(name):
            symbol = board.market.rules.symbol
            message = wire.kline_event(symbol, interval, candle, now_ms, is_closed=is_closed)
            self.hub.publish(name, message)
        for other in self.others:
            other.on_candle(board, interval, candle, now_ms)

    def show_depth(self, speed_ms: int, now_ms: int) -> None:
        for board in self.boards.values():
            waiting = board.depth[speed_ms]
            if waiting.changed:
                self._depth_change(board, waiting, speed_ms, now_ms)
                waiting.spoken_id = board.update_id
                waiting.changed.clear()
            for levels in DEPTHS:
                for name in _names(f"{board.stem}@depth{levels}", speed_ms):
                    if self.hub.has(name):
                        self.hub.publish(name, snapshot(board, levels))

    def _depth_change(
        self, board: Board, waiting: DepthChanges, speed_ms: int, now_ms: int
    ) -> None:
        names = [n for n in _names(f"{board.stem}@depth", speed_ms) if self.hub.has(n)]
        if not names:
            return
        message = {
            "e": "depthUpdate",
            "E": now_ms,
            "s": board.market.rules.symbol,
            "U": waiting.spoken_id + 1,
            "u": board.update_id,
            "b": _changed_levels(board, waiting, Side.BUY) + self._crossing(board),
            "a": _changed_levels(board, waiting, Side.SELL),
        }
        for name in names:
            self.hub.publish(name, message)

    def _crossing(self, board: Board) -> list[list[str]]:
        """A bid above the asks where one was ordered; the change after that takes it away."""
        levels = []
        if board.crossed is not None:
            levels = wire.levels([(board.crossed, ZERO)])
            board.crossed = None
        elif self._strikes("crossed_book", board, "book") and board.market.book.asks.best:
            board.crossed = board.market.book.asks.best + board.market.rules.tick_size
            levels = wire.levels([(board.crossed, Decimal(1))])
        return levels

    def show_others(self, now_ms: int) -> None:
        """To the other venues' feeds: what of the books has changed since the last time."""
        for board in self.boards.values():
            waiting = board.depth[OTHERS]
            if waiting.changed:
                changes = sorted(waiting.changed)
                waiting.changed.clear()
                for other in self.others:
                    other.on_depth(board, changes, now_ms)

    def is_to_be_stale(self, board: Board) -> bool:
        return self._strikes("stale_snapshot", board, "book")

    def remember_books(self) -> None:
        """Once a second: for snapshots that are ordered to be stale."""
        for board in self.boards.values():
            book = board.market.book
            board.past.append((board.update_id, book.bids.depth(1000), book.asks.depth(1000)))

    def show_tickers(self, now_ms: int) -> None:
        for board in self.boards.values():
            full, mini = f"{board.stem}@ticker", f"{board.stem}@miniTicker"
            if self.hub.has(full) or self.hub.has(mini):
                shown = day(board, now_ms)
                self.hub.publish(full, wire.ticker_event(shown, now_ms))
                self.hub.publish(mini, wire.mini_ticker_event(shown, now_ms))


def _belongs(previous: Traded, fact: Traded) -> bool:
    """To the same aggregate: one taker, one price."""
    return previous.taker.order is fact.taker.order and previous.price == fact.price


def _names(stem: str, speed_ms: int) -> Sequence[str]:
    return (f"{stem}@100ms",) if speed_ms == FAST_MS else (stem, f"{stem}@1000ms")


def _changed_levels(board: Board, waiting: DepthChanges, side: Side) -> list[list[str]]:
    half = board.market.book.side(side)
    prices = sorted((p for s, p in waiting.changed if s is side), reverse=side is Side.BUY)
    return wire.levels((price, half.totals.get(price, ZERO)) for price in prices)


def snapshot(board: Board, limit: int, *, is_stale: bool = False) -> dict[str, object]:
    book = board.market.book
    now = board.update_id, book.bids.depth(limit), book.asks.depth(limit)
    number, bids, asks = board.past[0] if is_stale and board.past else now
    return {
        "lastUpdateId": number,
        "bids": wire.levels(bids[:limit]),
        "asks": wire.levels(asks[:limit]),
    }


def best(board: Board) -> Best:
    book = board.market.book
    # Whoever takes a whole side leaves it empty until the market's next step.
    (bid, bid_quantity), *_ = book.bids.depth(1) or [(ZERO, ZERO)]
    (ask, ask_quantity), *_ = book.asks.depth(1) or [(ZERO, ZERO)]
    return bid, bid_quantity, ask, ask_quantity


def quote(board: Board) -> dict[str, object]:
    bid, bid_quantity, ask, ask_quantity = best(board)
    return {
        "s": board.market.rules.symbol,
        "b": wire.amount(bid),
        "B": wire.amount(bid_quantity),
        "a": wire.amount(ask),
        "A": wire.amount(ask_quantity),
    }


def day(board: Board, now_ms: int) -> dict[str, object]:
    hours = board.candles.between("1h", now_ms, limit=24)
    return wire.day(board.market, hours, now_ms)
