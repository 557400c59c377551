"""What a machine has left, and whether its clock can be believed: judged by their numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from botswarm.health import machine
from botswarm.health.machine import STEP_REMEMBERED_S, WallClock
from botswarm.health.table import BY_NAME, LINES
from botswarm.health.usage import Usage


class Clocks:
    """The one that anybody may set, and the one that nobody can."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_000_000.0, 50.0
        self.offsets: dict[str, tuple[float, float]] = {}
        self.look = WallClock(
            lambda: self.offsets, wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s
        )

    def go_on(self, seconds: float, step_s: float = 0.0) -> str:
        self.monotonic_s += seconds
        self.wall_s += seconds + step_s
        status = self.look().status
        assert status is not None
        return status


def test_a_clock_that_is_set_is_seen_and_set_back_is_well_again() -> None:
    clocks = Clocks()
    assert clocks.go_on(3) == "ok"
    assert clocks.go_on(3, step_s=3600) == "fail"
    assert clocks.go_on(3) == "fail"
    assert clocks.go_on(3, step_s=-3600) == "ok"
    assert clocks.go_on(3, step_s=-0.7) == "warn"


def test_a_step_that_a_venue_confirms_is_believed_at_once() -> None:
    clocks = Clocks()
    clocks.go_on(3, step_s=5)
    clocks.offsets = {"binance": (0.01, 2.0)}
    assert clocks.go_on(3) == "ok"


def test_what_a_venue_said_before_the_step_confirms_nothing() -> None:
    clocks = Clocks()
    clocks.offsets = {"binance": (0.01, 2.0)}
    assert clocks.go_on(3) == "ok"
    clocks.offsets = {"binance": (0.01, 5.0)}
    assert clocks.go_on(3, step_s=5) == "fail"


def test_a_step_is_believed_after_a_while_without_a_witness() -> None:
    clocks = Clocks()
    assert clocks.go_on(3, step_s=60) == "fail"
    assert clocks.go_on(STEP_REMEMBERED_S / 2) == "fail"
    assert clocks.go_on(STEP_REMEMBERED_S) == "ok"


@pytest.mark.parametrize(("offset_s", "wanted"), [(0.2, "ok"), (-0.6, "warn"), (1.5, "fail")])
def test_a_venue_s_clock_that_is_far_away_is_said(offset_s: float, wanted: str) -> None:
    clocks = Clocks()
    clocks.offsets = {"kraken": (offset_s, 1.0), "old": (100.0, 5000.0)}
    assert clocks.go_on(3) == wanted


def test_a_folder_that_is_not_there_is_judged_by_where_it_will_be(tmp_path: Path) -> None:
    found = machine.disk(tmp_path / "not" / "yet")
    assert found.value is not None
    assert 0 <= found.value <= 100


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert machine.disk(tmp_path).status == "fail"
    tmp_path.chmod(0o700)


def test_the_processor_is_measured_over_a_while() -> None:
    look = machine.Processor()
    assert look().value is None
    assert machine.disk_percent(80, 20) == 80


FAMILY = """
import os, sys, time
held = bytearray(os.urandom(30_000_000))
def child():
    mine = bytearray(os.urandom(20_000_000))
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
for _ in range(2):
    if not os.fork():
        child()
sys.stdin.read()
"""


def test_forked_children_count_and_what_they_share_counts_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        usage = Usage(parent.pid)
        assert len(usage.children()) == 2
        # 30 MB once and 20 MB twice, over an interpreter.
        assert 70_000_000 < usage.memory_bytes() < 130_000_000
        time.sleep(0)
        for child in usage.children():
            os.kill(child, signal.SIGKILL)
        parent.kill()


def test_every_line_says_what_it_asks_and_what_to_do() -> None:
    assert len(BY_NAME) == len(LINES) + 1
    for line in BY_NAME.values():
        assert "?" in line.asks, line.name
        assert line.cure, line.name
        assert line.limit_s + line.every_s <= 9 or line.every_s >= 5, line.name
