"""Whether what is archived reaches the second place, and for how long it has not."""

from __future__ import annotations

from botswarm.clock import Clock


class Reach:
    """Told by whoever carries, read by whoever watches him."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing: tuple[float, str] | None = None
        """Since when, and why now; one value, for threads that read it meanwhile."""

    def reached(self) -> None:
        self._failing = None

    def failed(self, why: str) -> None:
        since = self._clock.monotonic() if self._failing is None else self._failing[0]
        self._failing = since, why

    def failing(self) -> tuple[float, str] | None:
        """For how many seconds, and why; None where the last round arrived."""
        found = self._failing
        return None if found is None else (self._clock.monotonic() - found[0], found[1])
