"""Trades into candles: pure, each candle closed once, and honest about those it cannot know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade

GRACE_MS = 500
"""How long after its end a candle waits for its last trades when no later trade closes it."""
FLAT_MAX = 600
"""Longer silence is not believed: the venue is asked."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Candles whose trades were not all seen: ``first_ms`` to ``last_ms`` are opening times."""

    first_ms: int
    last_ms: int


class _Frame:
    """The open candle of one timeframe, and the holes behind it."""

    __slots__ = ("_build", "_close", "_high", "_low", "_open", "_trades", "_volume", "complete",
                 "end_ms", "holes", "length_ms", "name", "open_ms")  # fmt: skip

    def __init__(self, name: str, build: _Build) -> None:
        self.name = name
        self.length_ms = TIMEFRAMES_S[name] * 1000
        self._build = build
        self.open_ms = self.end_ms = -1
        self.complete = False
        self.holes: list[Hole] = []
        self._open = self._high = self._low = self._volume = Decimal(0)
        self._close: Decimal | None = None
        self._trades = 0

    def add(
        self, at_ms: int, price: Decimal, quantity: Decimal, *, after_gap: bool, is_newest: bool
    ) -> list[Candle]:
        closed = []
        if after_gap:
            self.complete = False
        if at_ms >= self.end_ms:
            closed = self.close_until(at_ms, known=not after_gap)
        elif at_ms < self.open_ms:
            # Its candle is closed and was wrong, and so are silent ones that went on from there:
            # the venue's own word replaces them.
            self.doubt(at_ms)
            if self._trades == 0 and is_newest:
                self._close = price
            return closed
        self.take(price, quantity)
        return closed

    def take(self, price: Decimal, quantity: Decimal) -> None:
        """A trade of the candle that is open."""
        if self._trades == 0:
            self._open = self._high = self._low = price
        elif price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        self._close = price
        self._volume += quantity
        self._trades += 1

    def doubt(self, since_ms: int) -> None:
        """A trade of that moment or after it was missed: what was closed since may be wrong."""
        first_ms = since_ms - since_ms % self.length_ms
        if self.open_ms > first_ms:
            self._mark_hole(first_ms, self.open_ms - self.length_ms)

    def close_until(self, at_ms: int, *, known: bool) -> list[Candle]:
        """Close what ends before ``at_ms``; ``known`` says that no trade in between was missed."""
        opens = at_ms - at_ms % self.length_ms
        closed = []
        if self.open_ms >= 0:
            closed = self._close_open()
            silent = range(self.end_ms, opens, self.length_ms)
            if known and self._close is not None and len(silent) <= FLAT_MAX:
                closed += [self._flat(ms) for ms in silent]
            elif silent:
                self._mark_hole(silent[0], silent[-1])
            self.complete = known
        self.open_ms, self.end_ms = opens, opens + self.length_ms
        self._reset()
        return closed

    def _close_open(self) -> list[Candle]:
        if not self.complete or self._close is None:
            self._mark_hole(self.open_ms)
            return []
        if self._trades == 0:
            return [self._flat(self.open_ms)]
        return [
            self._build.candle(
                self.name,
                self.open_ms,
                (self._open, self._high, self._low, self._close),
                self._volume,
                self._trades,
            )
        ]

    def _flat(self, open_ms: int) -> Candle:
        assert self._close is not None
        return self._build.candle(self.name, open_ms, (self._close,) * 4, Decimal(0), 0)

    def _mark_hole(self, first_ms: int, last_ms: int | None = None) -> None:
        hole = Hole(first_ms, first_ms if last_ms is None else last_ms)
        if self.holes and self.holes[-1].last_ms + self.length_ms == hole.first_ms:
            hole = Hole(self.holes.pop().first_ms, hole.last_ms)
        if hole not in self.holes:
            self.holes.append(hole)

    def _reset(self) -> None:
        self._open = self._high = self._low = self._volume = Decimal(0)
        self._trades = 0


@dataclass(frozen=True, slots=True)
class _Build:
    venue: str
    symbol: str

    def candle(
        self,
        timeframe: str,
        open_ms: int,
        prices: tuple[Decimal, ...],
        volume: Decimal,
        trades: int,
    ) -> Candle:
        first, high, low, last = prices
        return Candle(
            venue=self.venue,
            symbol=self.symbol,
            timeframe=timeframe,
            open_ms=open_ms,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=volume,
            trades=trades,
            is_closed=True,
        )


class CandleBuilder:
    """The candles of one market in several timeframes.

    A candle is given out only when every trade of it was seen. All others, the one that was
    half over at the start for example, are holes: whoever can asks the venue and fills them.
    """

    def __init__(
        self, venue: str, symbol: str, timeframes: Iterable[str] = tuple(TIMEFRAMES_S)
    ) -> None:
        build = _Build(venue, symbol)
        self._frames = {name: _Frame(name, build) for name in timeframes}
        self._shortest = min(self._frames.values(), key=lambda frame: frame.length_ms)
        self._last_ms: int | None = None
        """The newest trade's time."""
        self.late = 0
        """Trades whose candle, in the shortest timeframe, had been closed before they came."""

    def add(self, trade: Trade, *, after_gap: bool = False) -> list[Candle]:
        """Candles this trade closes. ``after_gap``: trades right before it were missed."""
        closed: list[Candle] = []
        at_ms, price, quantity = trade.exchange_ms, trade.price, trade.quantity
        is_late = False
        if after_gap and self._last_ms is not None:
            for frame in self._frames.values():
                frame.doubt(self._last_ms)
        is_newest = self._last_ms is None or at_ms >= self._last_ms
        self._last_ms = at_ms if is_newest else self._last_ms
        for frame in self._frames.values():
            if not after_gap and frame.open_ms <= at_ms < frame.end_ms:
                frame.take(price, quantity)  # most trades are: all else costs as much again
                continue
            is_late = is_late or at_ms < frame.open_ms
            closed += frame.add(at_ms, price, quantity, after_gap=after_gap, is_newest=is_newest)
        self.late += is_late
        return closed

    def advance(self, venue_now_ms: int) -> list[Candle]:
        """Close by the clock what no trade closes; call it only while nothing can be missed."""
        until_ms = venue_now_ms - GRACE_MS
        if until_ms < self._shortest.end_ms:
            return []  # nor has a longer one ended then
        closed: list[Candle] = []
        for frame in self._frames.values():
            if frame.open_ms >= 0 and until_ms >= frame.end_ms:
                closed += frame.close_until(until_ms, known=True)
        return closed

    @property
    def holes(self) -> Mapping[str, Sequence[Hole]]:
        """Closed candles that are missing, by timeframe, the oldest first."""
        if not self.is_gapped:
            return {}
        return {
            name: tuple(sorted(frame.holes, key=lambda hole: hole.first_ms))
            for name, frame in self._frames.items()
            if frame.holes
        }

    def oldest_holes(self) -> list[tuple[str, int]]:
        """Of each timeframe in which closed candles are missing: when the first of them opened."""
        return [
            (name, min(hole.first_ms for hole in frame.holes))
            for name, frame in self._frames.items()
            if frame.holes
        ]

    @property
    def is_gapped(self) -> bool:
        for frame in self._frames.values():  # noqa: SIM110 - any() takes three times as long
            if frame.holes:
                return True
        return False

    def fill_one(self, candle: Candle) -> list[Candle]:
        """One of the venue's own that came by itself: it says nothing of those beside it."""
        frame = self._frames[candle.timeframe]
        for place, hole in enumerate(frame.holes):
            if candle.open_ms in range(hole.first_ms, hole.last_ms + 1, frame.length_ms):
                before = Hole(hole.first_ms, candle.open_ms - frame.length_ms)
                after = Hole(candle.open_ms + frame.length_ms, hole.last_ms)
                frame.holes[place : place + 1] = [
                    each for each in (before, after) if each.first_ms <= each.last_ms
                ]
                return [candle]
        return []

    def fill(self, timeframe: str, candles: Sequence[Candle]) -> list[Candle]:
        """The venue's own candles that belong into holes; the holes they reach back to are closed.

        ``candles`` are the venue's latest, oldest first: what lies before them it does not have,
        and a hole whose end they do not reach yet stays.
        """
        if not candles:
            return []
        frame = self._frames[timeframe]
        reached = candles[-1].open_ms
        filled = [hole for hole in frame.holes if hole.last_ms <= reached]
        frame.holes = [hole for hole in frame.holes if hole.last_ms > reached]
        return [
            candle
            for candle in candles
            if any(hole.first_ms <= candle.open_ms <= hole.last_ms for hole in filled)
        ]
