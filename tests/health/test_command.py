"""`botswarm health` and the container's own check say the same, with the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from botswarm.health.pages import Pages
from botswarm.health.seat import Seat
from botswarm.health.server import Answer, Server, listen
from botswarm.testing.servers import free_port
from tests.health.test_answers import Process, a_card, a_check

PROGRAM = Path(sys.executable).with_name("botswarm")


class Running:
    """A process that answers, with the state folder it is found by."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, Process()
        pages = Pages(self.process, lambda accept: Answer(200, b""), list)
        self._server = Server(listen("127.0.0.1", [free_port()]), pages)
        self._server.start()
        self._seat = Seat(folder, "orders")
        self.process.card = a_card("orders", self._server.port)
        self._seat.write(self.process.card)

    def die(self) -> None:
        """Its card stays, as after a kill."""
        self._server.close()
        self._seat.leave_to_parent()

    def close(self) -> None:
        self.die()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "state")
    yield made
    made.close()


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
    return subprocess.run(
        words,
        env={**environment, "BOTSWARM_STATE_DIR": str(folder)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def health(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(folder, PROGRAM, "health", *words)


def probe(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, "-m", "botswarm.health", *words)


def test_all_is_well(running: Running) -> None:
    done = health(running.folder, "--json")
    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["status"]) == (0, "healthy")
    assert [(each["name"], each["code"]) for each in data["processes"]] == [("orders", 200)]
    assert probe(running.folder).returncode == 0


def test_what_fails_is_said_with_its_cure(running: Running) -> None:
    running.process.found = [a_check("ledger", "fail", is_needed=True), a_check("cpu", "warn")]
    done = health(running.folder)
    assert done.returncode == 3
    assert "ledger is fail" in done.stdout
    assert "unhealthy: orders" in done.stderr
    detailed = health(running.folder, "--detailed")
    assert detailed.returncode == 3
    assert "mend it" in detailed.stdout
    assert probe(running.folder).returncode == 3
    assert probe(running.folder, "/livez").returncode == 0


def test_uptime_and_network_are_shown_with_what_they_are_held_to(running: Running) -> None:
    up = {"known_since": "2026-03-01T00:00:00+00:00", "promised_percent": 99.9}
    facts = {
        "swarm_uptime": {**up, "percent": {"1d": 99.95, "30d": 98.0}, "down_s": {"1d": 43}},
        "network": {"limit_ms": 100.0, "round_trip_ms": {"broker": 0.4}},
    }
    running.process.facts = lambda: facts  # type: ignore[method-assign]
    said = health(running.folder, "--detailed").stdout
    assert "99.95 % of 1d, 98 % of 30d; 99.9 % is promised" in said
    assert "broker 0.4 ms away; 100 ms at most is usual" in said
    [told] = json.loads(health(running.folder, "--detailed", "--json").stdout)["data"]["processes"]
    assert told["swarm_uptime"] == facts["swarm_uptime"]


def test_a_warning_is_no_failure(running: Running) -> None:
    running.process.found = [a_check("disk", "warn")]
    done = health(running.folder, "--json")
    assert (done.returncode, json.loads(done.stdout)["data"]["status"]) == (0, "degraded")


def test_a_process_that_died_is_missed_until_it_is_forgotten(running: Running) -> None:
    refused = health(running.folder, "--forget", "orders")
    assert refused.returncode == 4
    running.die()
    done = health(running.folder)
    assert done.returncode == 3
    assert f"nobody ended it (pid {os.getpid()})" in done.stdout
    assert probe(running.folder).returncode == 3
    assert health(running.folder, "--forget", "orders").returncode == 0
    assert health(running.folder).returncode == 4


def test_nobody_runs(tmp_path: Path) -> None:
    assert health(tmp_path / "state").returncode == 4
    assert probe(tmp_path / "state").returncode == 4
    assert health(tmp_path / "state", "--wait", "ready", "--timeout", "0.1").returncode == 7
    assert health(tmp_path / "state", "--wait", "ready", "--timeout", "nan").returncode == 2


def test_waiting_ends_when_all_are_ready(running: Running) -> None:
    running.process.found = [a_check("ledger", "fail", is_needed=True)]
    waited = health(running.folder, "--wait", "ready", "--timeout", "0.6")
    assert waited.returncode == 7
    assert "not ready after 0.6 s: orders" in waited.stderr
    running.process.found = [a_check("redis", "fail")]
    assert health(running.folder, "--wait", "ready").returncode == 0
    assert health(running.folder, "--wait", "healthy", "--timeout", "0.1").returncode == 7


def test_a_name_that_is_not_there_is_answered_with_those_that_are(running: Running) -> None:
    done = health(running.folder, "--process", "feed")
    assert (done.returncode, "those are: orders" in done.stderr) == (4, True)
