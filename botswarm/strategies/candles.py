"""Closed candles as arrays, with indicators that are computed once for all who ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy
from numpy.typing import NDArray

from botswarm.strategies import indicators
from botswarm.strategies.indicators import Floats


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
            known = Candles(**{name: getattr(self, name)[-count:] for name in names})
            self._known["latest", count] = known
        return known

    def sma(self, length: int) -> Floats:
        return self._indicator("sma", indicators.sma, length)

    def ema(self, length: int) -> Floats:
        return self._indicator("ema", indicators.ema, length)

    def rsi(self, length: int) -> Floats:
        return self._indicator("rsi", indicators.rsi, length)

    def _indicator(
        self, name: str, compute: Callable[[Floats, int], Floats], length: int
    ) -> Floats:
        known: Floats | None = self._known.get((name, length))
        if known is None:
            known = compute(self.close, length)
            known.flags.writeable = False
            self._known[name, length] = known
        return known
