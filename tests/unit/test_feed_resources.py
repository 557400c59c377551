"""The feed says when it takes more than it should, once, and when nothing explains its sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from botswarm.feed.resources import LEAKS_BEFORE_SAID, WHOLE_PROCESS, Watch
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SecurityLog
from botswarm.feed.state import Taken

FINE = Taken(
    memory_mb=60.0,
    cpu_percent=5.0,
    sockets=10,
    sockets_expected_max=20,
    threads=12,
    stream_threads=3,
    stream_threads_expected=3,
)


@pytest.fixture
def security() -> SecurityLog:
    return SecurityLog()


@pytest.fixture
def watch(security: SecurityLog) -> Watch:
    return Watch(PoolRules(), security, list)


@pytest.mark.parametrize(
    ("taken", "kind"),
    [
        (replace(FINE, memory_mb=101.0), "memory_limit_exceeded"),
        (replace(FINE, cpu_percent=51.0), "cpu_usage_exceeded"),
    ],
)
def test_what_is_too_much_is_said_when_it_begins_and_not_while_it_lasts(
    taken: Taken, kind: str, watch: Watch, security: SecurityLog
) -> None:
    for _ in range(5):
        watch.look(taken)
    assert security.of(WHOLE_PROCESS) == {kind: 1}
    watch.look(FINE)
    watch.look(taken)
    assert security.of(WHOLE_PROCESS) == {kind: 2}


def test_memory_is_warned_of_at_four_fifths(
    watch: Watch, security: SecurityLog, caplog: pytest.LogCaptureFixture
) -> None:
    watch.look(replace(FINE, memory_mb=81.0))
    assert "the feed takes 81 of 100 MB" in caplog.text
    assert security.of(WHOLE_PROCESS) == {}


@pytest.mark.parametrize(
    "leaking",
    [replace(FINE, sockets=21), replace(FINE, stream_threads=4)],
    ids=["socket", "thread"],
)
def test_a_leak_is_one_that_stays(leaking: Taken, watch: Watch, security: SecurityLog) -> None:
    for _ in range(LEAKS_BEFORE_SAID - 1):
        watch.look(leaking)
    watch.look(FINE)
    for _ in range(LEAKS_BEFORE_SAID - 1):
        watch.look(leaking)
    assert security.of(WHOLE_PROCESS) == {}
    watch.look(leaking)
    assert security.of(WHOLE_PROCESS) == {"connection_leak_detected": 1}


def test_sockets_and_threads_of_this_very_process_are_counted(watch: Watch) -> None:
    before = watch.taken()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="stream left behind", daemon=True)
    thread.start()
    one, other = socket.socketpair()
    after = watch.taken()
    stop.set()
    one.close()
    other.close()
    assert after.sockets - before.sockets == 2
    assert after.stream_threads - before.stream_threads == 1
    assert after.stream_threads_expected == 0
    assert after.memory_mb > 10


AFTER_LARGE_FRAMES = """
import struct
import threading
from pathlib import Path
from botswarm.feed.frames import FrameReader
from botswarm.feed.resources import give_back_large_blocks

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

def listen():
    readers = FrameReader(8 << 20), FrameReader(8 << 20)
    for at in range(0, len(frame), 65536):
        for reader in readers:
            reader.feed(frame[at : at + 65536])
        kept.append(bytearray(3000))

give_back_large_blocks()
frame = b"\\x81\\x7f" + struct.pack("!Q", 4 << 20) + bytes(4 << 20)
kept, before = [], pages()
for _ in range(3):
    listening = threading.Thread(target=listen)
    listening.start()
    listening.join()
print(pages() - before)
"""
"""Something small that is kept lies behind each piece, as it does in a feed."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel does not tell")
def test_a_feed_is_not_larger_for_good_after_frames_of_megabytes() -> None:
    told = subprocess.run(
        [sys.executable, "-c", AFTER_LARGE_FRAMES], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) * os.sysconf("SC_PAGE_SIZE") < 3 << 20
