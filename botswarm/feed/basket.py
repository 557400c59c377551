"""Gathers what all connections of a venue bring in one round: who takes it is woken once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from botswarm.domain.market import Tick

Put = Callable[[Sequence[Tick], float], None]


class Basket:
    """Ticks are put in as they come, and passed on together before anything else is said."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._ticks: list[Tick] = []
        self._came = 0.0

    def put(self, ticks: Sequence[Tick], came: float) -> None:
        """``came``, by the monotonic clock, is when the first of them came from the socket."""
        with self._lock:
            if not self._ticks:
                self._came = came
            self._ticks += ticks

    def empty(self) -> None:
        with self._lock:
            ticks, self._ticks = self._ticks, []
            if ticks:
                # Under the lock: what is put in meanwhile comes after these.
                self._put(ticks, self._came)
