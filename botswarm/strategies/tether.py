"""Ties a stranger's process to ours: it ends with us, and with it all that it has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
"""A pool of threads for mathematics would reserve more memory than a strategy may take."""
PR_SET_PDEATHSIG = 1

_leashes: dict[int, tuple[int, int]] = {}
"""By our own process: a pipe whose end we hold until we die; nothing is ever written to it."""


def start(
    module: str,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """A process of ours that will run a stranger's code; its entrance calls ``tie`` first."""
    us = os.getpid()
    if us not in _leashes:
        _leashes[us] = os.pipe()
    leash, _ = _leashes[us]
    return subprocess.Popen(
        [sys.executable, "-m", module, str(leash), *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd="/",
        # Nothing of ours: neither keys nor addresses.
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **QUIET},
        start_new_session=True,
        pass_fds=(leash,),
    )


def end(child: subprocess.Popen[bytes]) -> None:
    """With all that it has started itself: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def tie(arguments: Sequence[str]) -> Sequence[str]:
    """In the child, before any stranger's code; gives back the arguments that are not ours.

    Whom a person starts by hand is tied to nobody.
    """
    if not arguments[0].isdecimal():
        return arguments
    leash = int(arguments[0])
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.fork() == 0:
        _guard(leash)
    os.close(leash)
    return arguments[1:]


def _guard(leash: int) -> None:
    """Beside the strategy: what it has started must not outlive us either."""
    try:
        os.closerange(0, leash)
        os.closerange(leash + 1, os.sysconf("SC_OPEN_MAX"))
        os.read(leash, 1)
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)
