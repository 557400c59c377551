"""A process that is told to end says so to its children, and they wait for nothing any more."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from botswarm import stopping
from botswarm.errors import Unreachable

FORKED = """
import os, time
from botswarm import stopping
from botswarm.errors import Unreachable
child = os.fork()
if child == 0:
    try:
        stopping.pause(60)
    except Unreachable:
        os._exit(7)
    os._exit(1)
time.sleep(0.3)
stopping.tell()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
IGNORING = "from botswarm import stopping; print(*(each.name for each in stopping.stop_signals()))"


def test_a_pause_lasts_as_long_as_it_should_while_nobody_is_told() -> None:
    began = time.monotonic()
    stopping.pause(0.3)
    assert time.monotonic() - began >= 0.3
    assert not stopping.is_told()


def test_a_child_that_waits_hears_that_its_parent_is_told_to_end() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\n"
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ((), "SIGINT SIGTERM\n"),
        ((signal.SIGTERM,), "SIGINT\n"),
        ((signal.SIGINT,), "SIGINT SIGTERM\n"),
    ],
)
def test_only_who_had_sigterm_ignored_is_not_ended_by_it(
    ignored: tuple[signal.Signals, ...], left: str
) -> None:
    def prepare() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    done = subprocess.run(
        [sys.executable, "-c", IGNORING],
        capture_output=True,
        text=True,
        preexec_fn=prepare,
        check=True,
    )
    assert done.stdout == left


def test_who_was_told_begins_no_pause() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "_told", bytearray(b"\x01"))
        with pytest.raises(Unreachable, match="told to stop"):
            stopping.pause(60)
