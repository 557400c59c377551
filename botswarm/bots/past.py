"""The ledger's candles as strategies see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from botswarm.domain.market import Candle
from botswarm.ledger.store import Ledger
from botswarm.strategies.api import Candles


class Past:
    """Looks candles up, and remembers the last ones: bots of a market look at the same."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, str, str, int, int], Candles] = {}

    def load(
        self, venue: str, symbol: str, timeframe: str, last_open_ms: int, count: int
    ) -> Candles:
        """At most so many up to that one; fewer where the ledger has no more."""
        key = (venue, symbol, timeframe, last_open_ms, count)
        if key not in self._known:
            found = self._ledger.candles.until(venue, symbol, timeframe, last_open_ms, limit=count)
            self._known = {key: arrays(found)}
        return self._known[key]


def arrays(candles: Sequence[Candle]) -> Candles:
    """As floats, which is how indicators see them, live and here."""

    def column(name: str) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]:
        return numpy.array([float(getattr(each, name)) for each in candles], numpy.float64)

    return Candles(
        open_ms=numpy.array([each.open_ms for each in candles], numpy.int64),
        open=column("open"),
        high=column("high"),
        low=column("low"),
        close=column("close"),
        volume=column("volume"),
    )
