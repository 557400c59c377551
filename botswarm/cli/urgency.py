"""A command that goes before everybody else, and knows when it was typed."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from pathlib import Path

SESSION = Path("/proc/self/autogroup")
URGENT = -10
"""Nobody else on this machine is in more of a hurry."""


def hurry() -> None:
    """Where the system lets us; it may weigh whole sessions against each other first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)
    with contextlib.suppress(OSError, ValueError, IndexError):
        before = int(SESSION.read_text().split()[2])
        SESSION.write_text(str(URGENT))
        atexit.register(_leave_session_as_it_was, before)


def _leave_session_as_it_was(before: int) -> None:
    """The shell that this was typed in goes on."""
    with contextlib.suppress(OSError):
        SESSION.write_text(str(before))


def started_at() -> float:
    """When this process was started, by the monotonic clock: the interpreter has to start, too."""
    try:
        after_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return time.monotonic()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, age_s)
