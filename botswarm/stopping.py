"""Which signals ask this process to end."""

from __future__ import annotations

import signal

_ASKING = (signal.SIGTERM, signal.SIGINT)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Those that whoever started it has not had ignored, as nohup does with its own.

    The supervisor does so for what others stand on: a platform that tells every process at once to
    end must not take the broker from workers that finish what they are at.
    """
    return tuple(each for each in _ASKING if signal.getsignal(each) is not signal.SIG_IGN)
