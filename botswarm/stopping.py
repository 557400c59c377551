"""That this process is to end: which signals ask it to, and how its children hear of it."""

from __future__ import annotations

import mmap
import signal
import time

from botswarm.errors import Unreachable

LOOK_EVERY_S = 0.2

# One page that children share with the process that forked them.
_told = mmap.mmap(-1, 1)


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, and SIGTERM where whoever started it has not had that ignored.

    The supervisor does so for what others stand on: a platform that tells every process at once to
    end must not take the broker from workers that finish what they are at. That SIGINT is ignored
    says nothing: a shell does so for everything it starts in the background.
    """
    is_kept = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    return (signal.SIGINT,) if is_kept else (signal.SIGINT, signal.SIGTERM)


def tell() -> None:
    """Say it to this process and all its children: they finish what they are at, and begin nothing
    that takes long.
    """
    _told[0] = 1


def is_told() -> bool:
    return _told[0] == 1


def pause(seconds: float) -> None:
    """Sleep; raises Unreachable as soon as this process or its parent is told to stop."""
    until = time.monotonic() + seconds
    while not is_told():
        if (left := until - time.monotonic()) <= 0:
            return
        time.sleep(min(left, LOOK_EVERY_S))
    raise Unreachable(
        "this worker was told to stop, and waits for nothing any more",
        cure="the next worker does it again from the beginning",
    )
