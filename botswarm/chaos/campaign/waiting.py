"""Wait for what a fault must lead to, and say what did not come."""

from __future__ import annotations

import time
from collections.abc import Callable

from botswarm.errors import TimedOut


def until(condition: Callable[[], object], what: str, timeout_s: float) -> None:
    """Ask a hundred times a second until the answer is yes; raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.01)
