"""How far prices move and whether they go anywhere: true range, ATR, ADX, Supertrend."""

from __future__ import annotations

from typing import NamedTuple

import numpy

from botswarm.strategies.indicators.series import NAN, Floats, Smoothing, smoothed, unknown


def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """Of a candle and the gap to the close before it; unknown for the first."""
    ranges = unknown(len(close))
    before = close[:-1]
    ranges[1:] = numpy.maximum(high[1:], before) - numpy.minimum(low[1:], before)
    return ranges


def atr(high: Floats, low: Floats, close: Floats, length: int) -> Floats:
    """Wilder's average true range."""
    averages = unknown(len(close))
    if len(close) > length:
        averages[length:] = smoothed(true_range(high, low, close)[1:], length, 1.0 / length)
    return averages


class AdxLines(NamedTuple):
    adx: Floats
    """How strong the trend is, 0 to 100, whichever way it goes."""
    plus: Floats
    """+DI: the share of the range that went up."""
    minus: Floats
    """-DI: the share that went down."""


def adx(high: Floats, low: Floats, close: Floats, length: int) -> AdxLines:
    """Wilder's average directional index; ``length`` is 2 or more."""
    running = Adx(length)
    lines = [running.update(*candle) for candle in _rows(high, low, close)]
    columns = numpy.array(lines).reshape(-1, 3).T
    return AdxLines(columns[0], columns[1], columns[2])


class SupertrendLines(NamedTuple):
    line: Floats
    """Under the price while that rises, over it while it falls."""
    direction: Floats
    """1 while the price rises, -1 while it falls."""


def supertrend(
    high: Floats, low: Floats, close: Floats, length: int, width: float
) -> SupertrendLines:
    """A stop that follows the price ``width`` average true ranges away and turns when hit."""
    line, direction = unknown(len(close)), unknown(len(close))
    if len(close) <= length:
        return SupertrendLines(line, direction)
    away, middle = width * atr(high, low, close, length)[length:], (high + low)[length:] / 2.0
    lower, upper = (middle - away).tolist(), (middle + away).tolist()
    stops, ways, way = [], [], 1.0
    floor, ceiling, before = lower[0], upper[0], float(close[length - 1])
    for bottom, top, price in zip(lower, upper, close[length:].tolist(), strict=True):
        # A stop is only ever tightened, until the price has gone through it.
        floor = bottom if bottom > floor or before < floor else floor
        ceiling = top if top < ceiling or before > ceiling else ceiling
        if way > 0:
            way = -1.0 if price < floor else 1.0
        elif price > ceiling:
            way = 1.0
        stops.append(floor if way > 0 else ceiling)
        ways.append(way)
        before = price
    line[length:], direction[length:] = stops, ways
    return SupertrendLines(line, direction)


def _rows(high: Floats, low: Floats, close: Floats) -> list[tuple[float, float, float]]:
    return list(zip(high.tolist(), low.tolist(), close.tolist(), strict=True))


# --- one candle after the other -------------------------------------------------------------------


class Atr:
    def __init__(self, length: int) -> None:
        self._smoothing = Smoothing(length, 1.0 / length)
        self._before = NAN

    def update(self, high: float, low: float, close: float) -> float:
        before, self._before = self._before, close
        if before != before:
            return NAN
        return self._smoothing.update(max(high, before) - min(low, before))


class Adx:
    """Both forms are this one: each value needs the one before it, whatever way it is written."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._count = 0
        self._before = (NAN, NAN, NAN)
        self._up = self._down = self._range = 0.0
        self._sum = 0.0
        self._adx = NAN

    def update(self, high: float, low: float, close: float) -> tuple[float, float, float]:
        """ADX, +DI and -DI."""
        before, self._before = self._before, (high, low, close)
        self._count += 1
        if self._count == 1:
            return NAN, NAN, NAN
        up, down = high - before[0], before[1] - low
        moved_up = up if up > 0 and up > down else 0.0
        moved_down = down if down > 0 and down > up else 0.0
        self._take(moved_up, moved_down, max(high, before[2]) - min(low, before[2]))
        if self._count <= self._length:
            return NAN, NAN, NAN
        return self._strength()

    def _take(self, up: float, down: float, true_range: float) -> None:
        if self._count > self._length:
            self._up -= self._up / self._length
            self._down -= self._down / self._length
            self._range -= self._range / self._length
        self._up += up
        self._down += down
        self._range += true_range

    def _strength(self) -> tuple[float, float, float]:
        plus = minus = 0.0
        if self._range > 0:
            plus, minus = 100 * self._up / self._range, 100 * self._down / self._range
        moved = plus + minus
        seen = self._count - self._length
        if seen < self._length or self._adx != self._adx:
            self._sum += 100 * abs(plus - minus) / moved if moved else 0.0
            if seen == self._length:
                self._adx = self._sum / self._length
        elif moved:
            index = 100 * abs(plus - minus) / moved
            self._adx = (self._adx * (self._length - 1) + index) / self._length
        return self._adx, plus, minus


class Supertrend:
    def __init__(self, length: int, width: float) -> None:
        self._atr, self._width = Atr(length), width
        self._lower = self._upper = self._close = NAN
        self._direction = 1.0

    def update(self, high: float, low: float, close: float) -> tuple[float, float]:
        """The line, and 1 or -1 for the way it goes."""
        away = self._width * self._atr.update(high, low, close)
        before, self._close = self._close, close
        if away != away:
            return NAN, NAN
        middle = (high + low) / 2.0
        lower, upper = middle - away, middle + away
        # Comparisons with what is not known yet are false.
        if self._lower > lower and before >= self._lower:
            lower = self._lower
        if self._upper < upper and before <= self._upper:
            upper = self._upper
        if self._direction > 0 and close < lower:
            self._direction = -1.0
        elif self._direction < 0 and close > upper:
            self._direction = 1.0
        self._lower, self._upper = lower, upper
        return (lower if self._direction > 0 else upper), self._direction
