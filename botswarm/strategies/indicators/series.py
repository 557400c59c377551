"""What all indicators are made of: windows, Wilder's smoothing, and series that begin late."""

from __future__ import annotations

import math
from collections import deque

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]
NAN = math.nan


def windows(values: Floats, length: int) -> Floats:
    """One row per place at which ``length`` values are known; there must be one."""
    if not values.flags.c_contiguous:
        return numpy.lib.stride_tricks.sliding_window_view(values, length)
    # The same, ten times faster: for the lengths that are common here it is half of the work.
    shape, (step,) = (len(values) - length + 1, length), values.strides
    return numpy.ndarray(shape, values.dtype, values, 0, (step, step))


def unknown(count: int) -> Floats:
    return numpy.full(count, NAN)


def highest(values: Floats, length: int) -> Floats:
    return _over_windows(values, length, "max")


def lowest(values: Floats, length: int) -> Floats:
    return _over_windows(values, length, "min")


def _over_windows(values: Floats, length: int, name: str) -> Floats:
    found = unknown(len(values))
    if len(values) >= length:
        found[length - 1 :] = getattr(windows(values, length), name)(axis=1)
    return found


def smoothed(values: Floats, length: int, weight: float) -> Floats:
    """From the place where the first average is known; the part before it is left out."""
    averages = numpy.empty(len(values) - length + 1)
    average = averages[0] = float(values[:length].mean())
    for place, value in enumerate(values[length:].tolist(), 1):
        average += weight * (value - average)
        averages[place] = average
    return averages


def ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    """Element by element, and ``otherwise`` where there is nothing to divide by."""
    nothing = whole == 0.0
    return numpy.where(nothing, otherwise, part / numpy.where(nothing, 1.0, whole))


class Window:
    """The last ``length`` values; its sum is taken anew, so no rounding error grows."""

    __slots__ = ("length", "values")

    def __init__(self, length: int) -> None:
        self.length = length
        self.values: deque[float] = deque(maxlen=length)

    def add(self, value: float) -> bool:
        """Whether there are enough of them now."""
        self.values.append(value)
        return len(self.values) == self.length

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.length

    @property
    def array(self) -> Floats:
        return numpy.array(self.values)


class Extreme:
    """The highest of the last ``length`` values, or with ``sign`` -1 the lowest."""

    __slots__ = ("_count", "_length", "_sign", "_waiting")

    def __init__(self, length: int, sign: int) -> None:
        self._length, self._sign, self._count = length, sign, 0
        self._waiting: deque[tuple[int, float]] = deque()

    def update(self, value: float) -> float:
        """NaN until there are enough."""
        value *= self._sign
        # What is behind a higher one will never be the highest again.
        while self._waiting and self._waiting[-1][1] <= value:
            self._waiting.pop()
        self._waiting.append((self._count, value))
        if self._waiting[0][0] <= self._count - self._length:
            self._waiting.popleft()
        self._count += 1
        return self._sign * self._waiting[0][1] if self._count >= self._length else NAN


class Smoothing:
    """Begun with a simple average, then ``weight`` of the way to each new value."""

    __slots__ = ("_first", "_value", "_weight")

    def __init__(self, length: int, weight: float) -> None:
        self._first = Window(length)
        self._weight = weight
        self._value = NAN

    def update(self, value: float) -> float:
        """NaN until there are enough."""
        if not math.isnan(self._value):
            self._value += self._weight * (value - self._value)
        elif self._first.add(value):
            self._value = self._first.mean
        return self._value
