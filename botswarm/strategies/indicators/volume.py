"""Prices weighed by what was traded at them."""

from __future__ import annotations

import math

import numpy

from botswarm.strategies.indicators.series import (
    NAN,
    Floats,
    Integers,
    Window,
    unknown,
    windows,
)

SESSION_MS = 86_400_000
"""A session is a day of UTC: these markets never close."""


def vwap(high: Floats, low: Floats, close: Floats, volume: Floats, length: int) -> Floats:
    """Average typical price of ``length`` candles by volume; the plain one where there is none."""
    averages = unknown(len(close))
    if len(close) >= length:
        typical = (high + low + close) / 3.0
        traded = windows(volume, length).sum(axis=1)
        paid = windows(typical * volume, length).sum(axis=1)
        nothing = traded == 0.0
        averages[length - 1 :] = numpy.where(
            nothing,
            windows(typical, length).mean(axis=1),
            paid / numpy.where(nothing, 1.0, traded),
        )
    return averages


def session_vwap(
    open_ms: Integers, high: Floats, low: Floats, close: Floats, volume: Floats
) -> Floats:
    """The same since the first candle of the day, by UTC, that is known."""
    running = SessionVwap()
    columns = (open_ms.tolist(), *(each.tolist() for each in (high, low, close, volume)))
    return numpy.array([running.update(*row) for row in zip(*columns, strict=True)])


def obv(close: Floats, volume: Floats) -> Floats:
    """On-balance volume: added where the close rose, taken off where it fell."""
    if len(close) == 0:
        return unknown(0)
    moved = numpy.sign(numpy.diff(close)) * volume[1:]
    return numpy.concatenate([volume[:1], volume[0] + numpy.cumsum(moved)])


# --- one candle after the other -------------------------------------------------------------------


class Vwap:
    def __init__(self, length: int) -> None:
        self._typical, self._volume = Window(length), Window(length)

    def update(self, high: float, low: float, close: float, volume: float) -> float:
        self._typical.add((high + low + close) / 3.0)
        if not self._volume.add(volume):
            return NAN
        traded = math.fsum(self._volume.values)
        if traded == 0.0:
            return self._typical.mean
        pairs = zip(self._typical.values, self._volume.values, strict=True)
        return math.fsum(price * quantity for price, quantity in pairs) / traded


class SessionVwap:
    def __init__(self) -> None:
        self._session = -1
        self._paid = self._traded = self._prices = 0.0
        self._count = 0

    def update(self, open_ms: int, high: float, low: float, close: float, volume: float) -> float:
        if open_ms // SESSION_MS != self._session:
            self._session = open_ms // SESSION_MS
            self._paid = self._traded = self._prices = 0.0
            self._count = 0
        typical = (high + low + close) / 3.0
        self._paid += typical * volume
        self._traded += volume
        self._prices += typical
        self._count += 1
        return self._paid / self._traded if self._traded else self._prices / self._count


class Obv:
    def __init__(self) -> None:
        self._total = 0.0
        self._before = NAN

    def update(self, close: float, volume: float) -> float:
        before, self._before = self._before, close
        if before != before or close > before:
            self._total += volume
        elif close < before:
            self._total -= volume
        return self._total
