"""Bands around the price: Bollinger, Donchian, Keltner."""

from __future__ import annotations

from typing import NamedTuple

from botswarm.strategies.indicators.averages import Ema, Sma, Stddev, ema, sma, stddev
from botswarm.strategies.indicators.moves import Atr, atr
from botswarm.strategies.indicators.series import Extreme, Floats, highest, lowest


class Bands(NamedTuple):
    lower: Floats
    middle: Floats
    upper: Floats


def bollinger(values: Floats, length: int, width: float) -> Bands:
    """The average, and ``width`` standard deviations around it."""
    return around(sma(values, length), stddev(values, length), width)


def around(middle: Floats, deviation: Floats, width: float) -> Bands:
    away = width * deviation
    return Bands(middle - away, middle, middle + away)


def donchian(high: Floats, low: Floats, length: int) -> Bands:
    """The lowest and the highest of the last ``length`` candles, the newest among them."""
    bottom, top = lowest(low, length), highest(high, length)
    return Bands(bottom, (bottom + top) / 2.0, top)


def keltner(high: Floats, low: Floats, close: Floats, length: int, width: float) -> Bands:
    """The exponential average, and ``width`` average true ranges around it."""
    return around(ema(close, length), atr(high, low, close, length), width)


class Bollinger:
    def __init__(self, length: int, width: float) -> None:
        self._middle, self._deviation, self._width = Sma(length), Stddev(length), width

    def update(self, value: float) -> tuple[float, float, float]:
        """Lower, middle, upper."""
        middle, away = self._middle.update(value), self._width * self._deviation.update(value)
        return middle - away, middle, middle + away


class Donchian:
    def __init__(self, length: int) -> None:
        self._bottom, self._top = Extreme(length, -1), Extreme(length, 1)

    def update(self, high: float, low: float) -> tuple[float, float, float]:
        """Lower, middle, upper."""
        bottom, top = self._bottom.update(low), self._top.update(high)
        return bottom, (bottom + top) / 2.0, top


class Keltner:
    def __init__(self, length: int, width: float) -> None:
        self._middle, self._range, self._width = Ema(length), Atr(length), width

    def update(self, high: float, low: float, close: float) -> tuple[float, float, float]:
        """Lower, middle, upper."""
        middle, away = (
            self._middle.update(close),
            self._width * self._range.update(high, low, close),
        )
        return middle - away, middle, middle + away
