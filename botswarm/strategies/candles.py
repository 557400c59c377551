"""Closed candles as arrays, with indicators that are computed once for all who ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy
from numpy.typing import NDArray

from botswarm.strategies import indicators
from botswarm.strategies.indicators import (
    AdxLines,
    Bands,
    Floats,
    MacdLines,
    StochasticLines,
    SupertrendLines,
)

Found = TypeVar("Found")
HLC = ("high", "low", "close")
HLCV = (*HLC, "volume")
WINDOWED = frozenset(
    {"sma", "wma", "stddev", "vwap", "bollinger", "donchian", "roc", "stochastic", "williams_r"}
    | {"cci", "mfi"}
)
"""Whose newest value is the same, to the last bit, however many candles are before its window."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """Closed candles, oldest first, as read-only arrays; floats are for indicators, not for money.

    Indicators are computed once, however many bots ask for the same ones: they are kept here,
    and so are the cuts of ``latest``.
    """

    open_ms: NDArray[numpy.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    _known: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.close)

    def latest(self, count: int) -> Candles:
        """The last ``count`` of them, or all where there are not so many."""
        if count >= len(self.close):
            return self
        known: Candles | None = self._known.get(("latest", count))
        if known is None:
            names = ("open_ms", "open", "high", "low", "close", "volume")
            start = len(self.close) - count
            known = Candles(**{name: getattr(self, name)[start:] for name in names})
            self._known["latest", count] = known
        return known

    # --- averages ---------------------------------------------------------------------------------

    def sma(self, length: int) -> Floats:
        """Simple moving average of closes."""
        return self._once(indicators.sma, ("close",), length)

    def ema(self, length: int) -> Floats:
        """Exponential moving average of closes."""
        return self._once(indicators.ema, ("close",), length)

    def wma(self, length: int) -> Floats:
        """Weighted moving average of closes."""
        return self._once(indicators.wma, ("close",), length)

    def stddev(self, length: int) -> Floats:
        """Standard deviation of closes."""
        return self._once(indicators.stddev, ("close",), length)

    def vwap(self, length: int) -> Floats:
        """Typical price by volume, over so many candles."""
        return self._once(indicators.vwap, HLCV, length)

    def session_vwap(self) -> Floats:
        """Typical price by volume, since the first known candle of the day (UTC)."""
        return self._once(indicators.session_vwap, ("open_ms", *HLCV))

    # --- bands ------------------------------------------------------------------------------------

    def bollinger(self, length: int, width: float) -> Bands:
        # Bots with other widths share the average and the deviation.
        middle, deviation = self.sma(length), self.stddev(length)
        return self._kept(
            ("bollinger", length, width), lambda: indicators.around(middle, deviation, width)
        )

    def donchian(self, length: int) -> Bands:
        return self._once(indicators.donchian, ("high", "low"), length)

    def keltner(self, length: int, width: float) -> Bands:
        middle, range_ = self.ema(length), self.atr(length)
        return self._kept(
            ("keltner", length, width), lambda: indicators.around(middle, range_, width)
        )

    def supertrend(self, length: int, width: float) -> SupertrendLines:
        return self._once(indicators.supertrend, HLC, length, width)

    # --- strength and movement --------------------------------------------------------------------

    def rsi(self, length: int) -> Floats:
        """Wilder's relative strength index."""
        return self._once(indicators.rsi, ("close",), length)

    def roc(self, length: int) -> Floats:
        """Rate of change in percent."""
        return self._once(indicators.roc, ("close",), length)

    def macd(self, fast: int, slow: int, signal: int) -> MacdLines:
        return self._once(indicators.macd, ("close",), fast, slow, signal)

    def stochastic(self, length: int, smooth: int, signal: int) -> StochasticLines:
        return self._once(indicators.stochastic, HLC, length, smooth, signal)

    def williams_r(self, length: int) -> Floats:
        return self._once(indicators.williams_r, HLC, length)

    def cci(self, length: int) -> Floats:
        """Commodity channel index."""
        return self._once(indicators.cci, HLC, length)

    def mfi(self, length: int) -> Floats:
        """Money flow index."""
        return self._once(indicators.mfi, HLCV, length)

    def obv(self) -> Floats:
        """On-balance volume, from the first candle shown: only its changes mean something."""
        return self._once(indicators.obv, ("close", "volume"))

    def atr(self, length: int) -> Floats:
        """Wilder's average true range."""
        return self._once(indicators.atr, HLC, length)

    def adx(self, length: int) -> AdxLines:
        """Average directional index, with +DI and -DI."""
        return self._once(indicators.adx, HLC, length)

    def _once(self, compute: Callable[..., Found], columns: tuple[str, ...], *given: Any) -> Found:
        known: Found | None = self._known.get((compute, given))
        if known is not None:
            return known
        return self._kept(
            (compute, given), lambda: compute(*(getattr(self, name) for name in columns), *given)
        )

    def _kept(self, key: tuple[Any, ...], compute: Callable[[], Found]) -> Found:
        known: Found | None = self._known.get(key)
        if known is None:
            known = compute()
            lines: Any = known if isinstance(known, tuple) else (known,)
            for line in lines:
                line.flags.writeable = False
            self._known[key] = known
        return known


_NO_NUMBERS = numpy.empty(0)
NONE = Candles(
    open_ms=numpy.empty(0, numpy.int64),
    open=_NO_NUMBERS,
    high=_NO_NUMBERS,
    low=_NO_NUMBERS,
    close=_NO_NUMBERS,
    volume=_NO_NUMBERS,
)
"""For who asks for none."""
