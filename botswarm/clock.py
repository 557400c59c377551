"""The only place that asks the time; tests pass a stopped clock instead."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, aware and in UTC; it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an unsaid moment; never jumps, so durations are taken from it."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class StoppedClock:
    """Stands still until it is told to advance; both of its times move together."""

    def __init__(self, now: datetime, monotonic: float = 0.0) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock needs an aware datetime")
        self._now = now.astimezone(UTC)
        self._monotonic = monotonic

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


# --- the machine's own clock ----------------------------------------------------------------------


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Of this process alone: what others wrote is then held against the wall clock.
        return str(uuid.uuid4())


BOOT = _boot()
"""Which start of the machine this is."""


def since_boot_s() -> float:
    """All processes of the machine read the same, and nobody sets it; its sleep is included where
    the system counts it.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
