"""How far the venue's clock and ours are apart, and how long the way between takes at least."""

from __future__ import annotations

from botswarm.domain.market import Trade

LAG_PERIOD_MS = 30_000


class Lag:
    """The least time from the venue's stamp to our receiving it: clocks that differ, and the way.

    Of the last minute only: either clock may be set.
    """

    def __init__(self) -> None:
        self._now: int | None = None
        self._before: int | None = None
        self._since_ms = 0
        self.least_ms: int | None = None

    def note(self, trade: Trade) -> None:
        lag_ms = trade.received_ms - trade.exchange_ms
        if self._now is None or abs(trade.received_ms - self._since_ms) > LAG_PERIOD_MS:
            self._before, self._now = self._now, lag_ms
            self._since_ms = trade.received_ms
        elif lag_ms < self._now:
            self._now = lag_ms
        else:
            return
        self.least_ms = self._now if self._before is None else min(self._now, self._before)
