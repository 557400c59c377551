"""Indicators over closing prices: arrays in, arrays of the same length out, NaN until known."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]


def sma(values: Floats, length: int) -> Floats:
    """Simple moving average of the last ``length`` values."""
    averages = numpy.full(len(values), numpy.nan)
    if len(values) >= length:
        # Windows summed one by one: a running sum would carry its rounding errors along.
        windows = numpy.lib.stride_tricks.sliding_window_view(values, length)
        averages[length - 1 :] = windows.mean(axis=1)
    return averages


def ema(values: Floats, length: int) -> Floats:
    """Exponential moving average, weight 2 / (length + 1), begun with the first simple one."""
    averages = numpy.full(len(values), numpy.nan)
    if len(values) >= length:
        averages[length - 1 :] = _smoothed(values, length, 2.0 / (length + 1))
    return averages


def rsi(values: Floats, length: int) -> Floats:
    """Wilder's relative strength index, 0 to 100; 50 where nothing moved at all."""
    strengths = numpy.full(len(values), numpy.nan)
    if len(values) <= length:
        return strengths
    steps = numpy.diff(values)
    up = _smoothed(numpy.maximum(steps, 0.0), length, 1.0 / length)
    down = _smoothed(numpy.maximum(-steps, 0.0), length, 1.0 / length)
    moved = up + down
    still = moved == 0.0
    strengths[length:] = numpy.where(still, 50.0, 100.0 * up / numpy.where(still, 1.0, moved))
    return strengths


def _smoothed(values: Floats, length: int, weight: float) -> Floats:
    """From the place where the first average is known; the part before it is left out."""
    averages = numpy.empty(len(values) - length + 1)
    average = averages[0] = float(values[:length].mean())
    for place, value in enumerate(values[length:].tolist(), 1):
        average += weight * (value - average)
        averages[place] = average
    return averages
