"""The feed says when it takes more than it should, once, and when nothing explains its sockets."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

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
