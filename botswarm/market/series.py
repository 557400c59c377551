"""Closed candles of one timeframe as arrays, in order, with what is missing between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from botswarm.domain.market import Candle

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]

ROOM = 256
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Closed candles, oldest first. Read-only arrays, floats for indicators."""

    open_ms: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.open_ms)


class Line:
    """Takes candles as they close; a Series it gave away never changes.

    Appending writes behind what any Series can see; everything else makes new arrays.
    """

    __slots__ = ("_cached", "_end", "_open_ms", "_start", "_values", "kept", "length_ms")

    def __init__(self, length_ms: int, kept: int) -> None:
        self.length_ms = length_ms
        self.kept = kept
        self._open_ms: Integers = numpy.empty(0, numpy.int64)
        self._values: Floats = numpy.empty((5, 0))
        self._start = self._end = 0
        self._cached: dict[int, tuple[Series, bool]] = {}

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def last_open_ms(self) -> int | None:
        return int(self._open_ms[self._end - 1]) if len(self) else None

    def add(self, candles: Iterable[Candle]) -> None:
        late = []
        last = self.last_open_ms
        for candle in candles:
            if last is None or candle.open_ms > last:
                self._append(candle)
                last = candle.open_ms
            else:
                late.append(candle)
        if late:
            self._merge(late)
        self._cached.clear()

    def latest(self, history: int) -> tuple[Series, bool]:
        """The last ``history`` candles, and whether candles are missing between them.

        The very same Series until another candle comes.
        """
        known = self._cached.get(history)
        if known is None:
            start = max(self._start, self._end - history)
            series = self._series(start, self._end)
            steps = numpy.diff(series.open_ms)
            known = self._cached[history] = series, bool((steps != self.length_ms).any())
        return known

    def _append(self, candle: Candle) -> None:
        if self._end == len(self._open_ms):
            self._move(
                self._open_ms[self._start : self._end], self._values[:, self._start : self._end]
            )
        self._open_ms[self._end] = candle.open_ms
        self._values[:, self._end] = _numbers(candle)
        self._end += 1
        self._start = max(self._start, self._end - self.kept)

    def _merge(self, late: Iterable[Candle]) -> None:
        """Candles that fill a hole, or say again what is known: the later word is the better."""
        rows = {
            int(self._open_ms[place]): self._values[:, place]
            for place in range(self._start, self._end)
        }
        for candle in late:
            rows[candle.open_ms] = numpy.array(_numbers(candle))
        moments = sorted(rows)[-self.kept :]
        self._move(
            numpy.array(moments, numpy.int64), numpy.stack([rows[ms] for ms in moments], axis=1)
        )

    def _move(self, open_ms: Integers, values: Floats) -> None:
        count = len(open_ms)
        self._open_ms = numpy.empty(count + max(ROOM, count), numpy.int64)
        self._values = numpy.empty((5, len(self._open_ms)))
        self._open_ms[:count], self._values[:, :count] = open_ms, values
        self._start, self._end = 0, count

    def _series(self, start: int, end: int) -> Series:
        open_ms = self._open_ms[start:end]
        values = self._values[:, start:end]
        open_ms.flags.writeable = values.flags.writeable = False
        return Series(
            open_ms=open_ms,
            open=values[OPEN],
            high=values[HIGH],
            low=values[LOW],
            close=values[CLOSE],
            volume=values[VOLUME],
        )


def _numbers(candle: Candle) -> tuple[float, ...]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (*map(float, prices), float(candle.volume))
