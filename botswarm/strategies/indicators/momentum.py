"""How fast prices move, and how much of a move is left: RSI, MACD, stochastic and the like."""

from __future__ import annotations

from typing import NamedTuple

import numpy

from botswarm.strategies.indicators.averages import Ema, Sma, ema, sma
from botswarm.strategies.indicators.series import (
    NAN,
    Extreme,
    Floats,
    Smoothing,
    Window,
    highest,
    lowest,
    ratio,
    smoothed,
    unknown,
    windows,
)

MIDDLE = 50.0
"""Of what goes from 0 to 100, where nothing moved at all."""


def rsi(values: Floats, length: int) -> Floats:
    """Wilder's relative strength index, 0 to 100; 50 where nothing moved at all."""
    strengths = unknown(len(values))
    if len(values) <= length:
        return strengths
    steps = numpy.diff(values)
    up = smoothed(numpy.maximum(steps, 0.0), length, 1.0 / length)
    down = smoothed(numpy.maximum(-steps, 0.0), length, 1.0 / length)
    strengths[length:] = ratio(100.0 * up, up + down, MIDDLE)
    return strengths


def roc(values: Floats, length: int) -> Floats:
    """Rate of change: percent over the value ``length`` candles before; 0 where that was 0."""
    changes = unknown(len(values))
    if len(values) > length:
        before = values[:-length]
        changes[length:] = ratio(100.0 * (values[length:] - before), before, 0.0)
    return changes


class MacdLines(NamedTuple):
    line: Floats
    """The fast average less the slow one."""
    signal: Floats
    histogram: Floats
    """The line less its signal."""


def macd(values: Floats, fast: int, slow: int, signal: int) -> MacdLines:
    """Both averages begin at the same place, as most charts have it; ``fast`` is under ``slow``."""
    line, average = unknown(len(values)), unknown(len(values))
    if len(values) >= slow:
        quick = ema(values[slow - fast :], fast)[fast - 1 :]
        line[slow - 1 :] = quick - ema(values, slow)[slow - 1 :]
        average[slow - 1 :] = ema(line[slow - 1 :], signal)
    return MacdLines(line, average, line - average)


class StochasticLines(NamedTuple):
    k: Floats
    d: Floats


def stochastic(
    high: Floats, low: Floats, close: Floats, length: int, smooth: int, signal: int
) -> StochasticLines:
    """Where in the range of ``length`` candles the close lies, 0 to 100; 50 where it has none.

    %K is an average over ``smooth`` of them, %D one over ``signal`` of %K.
    """
    k, d = unknown(len(close)), unknown(len(close))
    first = length - 1
    if len(close) >= length:
        bottom, top = lowest(low, length)[first:], highest(high, length)[first:]
        k[first:] = sma(ratio(100.0 * (close[first:] - bottom), top - bottom, MIDDLE), smooth)
    if len(close) >= first + smooth:
        d[first + smooth - 1 :] = sma(k[first + smooth - 1 :], signal)
    return StochasticLines(k, d)


def williams_r(high: Floats, low: Floats, close: Floats, length: int) -> Floats:
    """Where the close lies under the highest of ``length`` candles, -100 to 0; -50 if nowhere."""
    top, bottom = highest(high, length), lowest(low, length)
    return ratio(-100.0 * (top - close), top - bottom, -MIDDLE)


def cci(high: Floats, low: Floats, close: Floats, length: int) -> Floats:
    """Commodity channel index: the typical price's distance from its average, in deviations."""
    channel = unknown(len(close))
    if len(close) >= length:
        typical = (high + low + close) / 3.0
        rows = windows(typical, length)
        mean = rows.mean(axis=1)
        deviation = numpy.abs(rows - mean[:, None]).mean(axis=1)
        channel[length - 1 :] = _channel(typical[length - 1 :], mean, deviation)
    return channel


def _channel(typical: Floats, mean: Floats, deviation: Floats) -> Floats:
    # What is flat has a deviation of rounding errors, and no place in a channel.
    flat = deviation <= 1e-12 * numpy.abs(mean)
    return numpy.where(flat, 0.0, (typical - mean) / (0.015 * numpy.where(flat, 1.0, deviation)))


def mfi(high: Floats, low: Floats, close: Floats, volume: Floats, length: int) -> Floats:
    """Money flow index: an RSI of turnover, 0 to 100; 50 where nothing moved."""
    flows = unknown(len(close))
    if len(close) > length:
        typical = (high + low + close) / 3.0
        moved, turnover = numpy.diff(typical), typical[1:] * volume[1:]
        gains = windows(numpy.where(moved > 0, turnover, 0.0), length).sum(axis=1)
        losses = windows(numpy.where(moved < 0, turnover, 0.0), length).sum(axis=1)
        flows[length:] = ratio(100.0 * gains, gains + losses, MIDDLE)
    return flows


# --- one candle after the other -------------------------------------------------------------------


def _share(part: float, whole: float, otherwise: float) -> float:
    return otherwise if whole == 0.0 else part / whole


class Rsi:
    def __init__(self, length: int) -> None:
        self._up, self._down = Smoothing(length, 1.0 / length), Smoothing(length, 1.0 / length)
        self._before = NAN

    def update(self, value: float) -> float:
        step, is_first = value - self._before, self._before != self._before
        self._before = value
        if is_first:
            return NAN
        up, down = self._up.update(max(step, 0.0)), self._down.update(max(-step, 0.0))
        return _share(100.0 * up, up + down, MIDDLE)


class Roc:
    def __init__(self, length: int) -> None:
        self._window = Window(length + 1)

    def update(self, value: float) -> float:
        if not self._window.add(value):
            return NAN
        before = self._window.values[0]
        return _share(100.0 * (value - before), before, 0.0)


class Macd:
    def __init__(self, fast: int, slow: int, signal: int) -> None:
        self._fast, self._slow, self._signal = Ema(fast), Ema(slow), Ema(signal)
        self._skip = slow - fast

    def update(self, value: float) -> tuple[float, float, float]:
        """Line, signal and histogram."""
        slow, fast = self._slow.update(value), NAN
        if self._skip > 0:
            self._skip -= 1
        else:
            fast = self._fast.update(value)
        line = fast - slow
        signal = NAN if line != line else self._signal.update(line)
        return line, signal, line - signal


class Stochastic:
    def __init__(self, length: int, smooth: int, signal: int) -> None:
        self._top, self._bottom = Extreme(length, 1), Extreme(length, -1)
        self._k, self._d = Sma(smooth), Sma(signal)

    def update(self, high: float, low: float, close: float) -> tuple[float, float]:
        """%K and %D."""
        top, bottom = self._top.update(high), self._bottom.update(low)
        if top != top:
            return NAN, NAN
        k = self._k.update(_share(100.0 * (close - bottom), top - bottom, MIDDLE))
        return k, NAN if k != k else self._d.update(k)


class WilliamsR:
    def __init__(self, length: int) -> None:
        self._top, self._bottom = Extreme(length, 1), Extreme(length, -1)

    def update(self, high: float, low: float, close: float) -> float:
        top, bottom = self._top.update(high), self._bottom.update(low)
        return _share(-100.0 * (top - close), top - bottom, -MIDDLE)


class Cci:
    def __init__(self, length: int) -> None:
        self._window = Window(length)

    def update(self, high: float, low: float, close: float) -> float:
        typical = (high + low + close) / 3.0
        if not self._window.add(typical):
            return NAN
        values = self._window.array
        mean = values.mean()
        deviation = numpy.abs(values - mean).mean()
        return float(_channel(values[-1:], mean, deviation)[0])


class Mfi:
    def __init__(self, length: int) -> None:
        self._gains, self._losses = Window(length), Window(length)
        self._before = NAN

    def update(self, high: float, low: float, close: float, volume: float) -> float:
        typical = (high + low + close) / 3.0
        before, self._before = self._before, typical
        if before != before:
            return NAN
        turnover = typical * volume
        self._gains.add(turnover if typical > before else 0.0)
        if not self._losses.add(turnover if typical < before else 0.0):
            return NAN
        gains, losses = float(self._gains.array.sum()), float(self._losses.array.sum())
        return _share(100.0 * gains, gains + losses, MIDDLE)
