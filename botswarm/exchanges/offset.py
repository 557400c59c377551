"""How far the venue's clock is from ours: what is signed is stamped with the venue's time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.clock import Clock
from botswarm.errors import Refused

SAMPLE_AGE_MAX_S = 60.0
OFFSET_MAX = timedelta(seconds=1)
"""Beyond this one of the two clocks is broken: data cannot be judged fresh, so nothing is sent."""
JUMP_MAX_S = 0.25
ROUND_TRIP_MAX_S = 1.0
"""A sample that took longer says too little; the next one is asked for at once."""


@dataclass(frozen=True, slots=True)
class Sample:
    offset: timedelta
    at: datetime
    monotonic: float
    round_trip_s: float


class OffsetTracker:
    def __init__(
        self,
        clock: Clock,
        ask: Callable[[], datetime],
        note: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """``note`` is told every offset that was measured, in seconds."""
        self._clock = clock
        self._ask = ask
        self._note = note
        self._lock = threading.Lock()
        self._sample: Sample | None = None

    def to_venue(self, now: datetime) -> datetime:
        """``now`` by the venue's clock, however far away that is."""
        return now + self._current().offset

    def check(self) -> None:
        """Raises Refused when the clocks are too far apart for an order; questions may be asked."""
        offset = self._current().offset
        if abs(offset) > OFFSET_MAX:
            raise Refused(
                f"the venue's clock is {offset.total_seconds():+.3f} s away from this machine's",
                cure="set the clock right (for example with chrony or systemd-timesyncd)",
            )

    def known_s(self) -> float | None:
        """As last measured; nobody is asked."""
        sample = self._sample
        return None if sample is None else sample.offset.total_seconds()

    def forget(self) -> None:
        """The venue objected to a timestamp: measure again before the next one."""
        with self._lock:
            self._sample = None

    def _current(self) -> Sample:
        with self._lock:
            if self._sample is None or not self._still_holds(self._sample):
                self._sample = self._measure()
            return self._sample

    def _still_holds(self, sample: Sample) -> bool:
        passed = self._clock.monotonic() - sample.monotonic
        jumped = (self._clock.now() - sample.at).total_seconds() - passed
        return (
            passed < SAMPLE_AGE_MAX_S
            and abs(jumped) < JUMP_MAX_S
            and sample.round_trip_s < ROUND_TRIP_MAX_S
        )

    def _measure(self) -> Sample:
        before, started = self._clock.now(), self._clock.monotonic()
        theirs = self._ask()
        took = self._clock.monotonic() - started
        # Said in the middle of the round trip, as well as anybody can tell.
        offset = theirs - (before + timedelta(seconds=took / 2))
        self._note(offset.total_seconds())
        return Sample(offset, before, started, took)
