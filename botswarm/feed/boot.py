"""The time since the machine was started: all its processes read the same, and nobody sets it."""

from __future__ import annotations

import time
import uuid
from pathlib import Path


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Of this process alone: what others wrote is then held against the wall clock.
        return str(uuid.uuid4())


BOOT = _boot()
"""Which start of the machine this is."""


def since_boot_s() -> float:
    """Sleep of the machine included, where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
