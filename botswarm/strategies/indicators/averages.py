"""Moving averages, and how far values lie around them."""

from __future__ import annotations

import math

import numpy

from botswarm.strategies.indicators.series import (
    NAN,
    Floats,
    Smoothing,
    Window,
    smoothed,
    unknown,
    windows,
)


def sma(values: Floats, length: int) -> Floats:
    """Simple moving average of the last ``length`` values."""
    averages = unknown(len(values))
    if len(values) >= length:
        # Windows summed one by one: a running sum would carry its rounding errors along.
        parts = windows(values, length)
        # Where nothing moves all averages are the price itself, however a sum of it is rounded:
        # of two that differ in the last digit one would be over the other.
        is_flat = (parts == parts[:, :1]).all(axis=1)
        averages[length - 1 :] = numpy.where(is_flat, parts[:, 0], parts.mean(axis=1))
    return averages


def ema(values: Floats, length: int) -> Floats:
    """Exponential moving average, weight 2 / (length + 1), begun with the first simple one."""
    averages = unknown(len(values))
    if len(values) >= length:
        averages[length - 1 :] = smoothed(values, length, 2.0 / (length + 1))
    return averages


def wma(values: Floats, length: int) -> Floats:
    """Weighted moving average: the newest counts ``length`` times, the oldest once."""
    averages = unknown(len(values))
    if len(values) >= length:
        weights = numpy.arange(1.0, length + 1)
        averages[length - 1 :] = (windows(values, length) * weights).sum(axis=1) / weights.sum()
    return averages


def stddev(values: Floats, length: int) -> Floats:
    """Standard deviation of the last ``length`` values, as of all there are (divided by n)."""
    deviations = unknown(len(values))
    if len(values) >= length:
        deviations[length - 1 :] = windows(values, length).std(axis=1)
    return deviations


class Sma:
    def __init__(self, length: int) -> None:
        self._window = Window(length)

    def update(self, value: float) -> float:
        return self._window.mean if self._window.add(value) else NAN


class Ema:
    def __init__(self, length: int) -> None:
        self._smoothing = Smoothing(length, 2.0 / (length + 1))

    def update(self, value: float) -> float:
        return self._smoothing.update(value)


class Wma:
    def __init__(self, length: int) -> None:
        self._window = Window(length)
        self._weights = range(1, length + 1)

    def update(self, value: float) -> float:
        if not self._window.add(value):
            return NAN
        pairs = zip(self._weights, self._window.values, strict=True)
        return math.fsum(weight * each for weight, each in pairs) / sum(self._weights)


class Stddev:
    def __init__(self, length: int) -> None:
        self._window = Window(length)

    def update(self, value: float) -> float:
        # From the window, not from running sums of squares: those cancel each other to nothing
        # where the values are large and their differences small, as prices are.
        return float(self._window.array.std()) if self._window.add(value) else NAN
