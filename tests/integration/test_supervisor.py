"""The supervisor on small programs of the test's own: what it starts, starts again and stops."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from botswarm.supervisor.plan import Line
from botswarm.supervisor.process import Process
from tests.e2e.swarm import Shell, Swarm, names, until

# Says its process id, and when it is asked to end, works on for some seconds and says goodbye.
PART = """
import os, signal, sys, time
role, seconds = sys.argv[1], float(sys.argv[2])
def end(*_):
    time.sleep(seconds)
    print("bye", role, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid(), flush=True)
while True:
    time.sleep(0.05)
"""

# A parent with a child in the same group, which needs some seconds for what it is at and then ends.
PARENT = """
import os, sys, time
if os.fork() == 0:
    time.sleep(5)
    open("finished", "w").close()
    os._exit(0)
print("pid", os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    found = Swarm(tmp_path, {"BOTSWARM_ENV": "development"})
    (tmp_path / "part.py").write_text(PART)
    (tmp_path / "parent.py").write_text(PARENT)
    yield found
    found.end()


def up(swarm: Swarm, *lines: str) -> Shell:
    (swarm.folder / "Procfile").write_text("".join(f"{line}\n" for line in lines))
    return swarm.open("botswarm", "up", "--no-demo", name="up")


def part(role: str, seconds: float = 0) -> str:
    return f"{sys.executable} part.py {role} {seconds}"


def pid_of(shell: Shell, name: str, nth: int = 1) -> int:
    """The process id that the nth start of a line has said."""

    def said() -> list[str]:
        return [text for text in shell.messages(name) if text.startswith("pid ")]

    until(lambda: len(said()) >= nth, f"start {nth} of {name}: {shell.text}")
    return int(said()[nth - 1].split()[1])


def test_what_ends_is_started_again_and_that_is_said(swarm: Swarm) -> None:
    shell = up(swarm, f"feed: {part('feed')}")
    os.kill(pid_of(shell, "feed"), signal.SIGKILL)
    second = pid_of(shell, "feed", 2)
    assert psutil.pid_exists(second)
    assert any(
        "feed was ended by SIGKILL; starting it again in 0.5 s" in text
        for text in shell.messages("up")
    )

    def noted() -> tuple[str, int, int]:
        [note] = swarm.ask("ps")["processes"]
        return note["name"], note["restarts"], note["pid"]

    until(lambda: noted() == ("feed", 1, second), "the notes to know of it")


def test_what_ends_again_and_again_is_started_ever_later(swarm: Swarm) -> None:
    shell = up(swarm, f"feed: {sys.executable} -c 'raise SystemExit(3)'")
    pauses = [f"feed ended with exit code 3; starting it again in {s} s" for s in ("0.5", "1", "2")]
    until(lambda: set(pauses) <= set(shell.messages("up")), "three pauses")


def test_workers_stop_after_feed_and_beat_and_the_broker_last(swarm: Swarm) -> None:
    shell = up(
        swarm,
        "broker: botswarm broker run",
        f"orders: {part('worker', 0.5)}",
        f"feed: {part('feed', 0.5)}",
        f"beat: {part('beat', 0.2)}",
    )
    for name in ("orders", "feed", "beat"):
        pid_of(shell, name)
    shell.popen.send_signal(signal.SIGINT)
    assert shell.ends_within(20) == 0
    said = [str(record["message"]) for record in shell.records]
    order = [said.index(text) for text in ("bye feed", "bye worker", "broker stopping")]
    assert order == sorted(order)
    assert said.index("bye beat") < said.index("bye worker")
    assert names(swarm.processes()) == []


def test_a_worker_that_needs_long_to_finish_is_waited_for(swarm: Swarm) -> None:
    shell = up(swarm, f"orders: {part('worker', 3)}")
    pid_of(shell, "orders")
    shell.popen.send_signal(signal.SIGTERM)
    assert shell.ends_within(40) == 0
    assert "bye worker" in shell.messages("orders")
    assert "killing" not in shell.text


class Impatient(Line):
    """One that is given half a second to end."""

    @property
    def grace_s(self) -> float:
        return 0.5


def test_what_does_not_end_at_all_is_killed_after_its_time(swarm: Swarm) -> None:
    said: list[str] = []

    async def stopped_while_it_runs() -> None:
        line = Impatient("feed", f"{sys.executable} {swarm.folder / 'part.py'} feed 600")
        process = Process(line, os.environ, lambda _, text: said.append(text))
        keeping = asyncio.create_task(process.keep())
        while not any(text.startswith("pid ") for text in said):
            await asyncio.sleep(0.01)
        await process.stop()
        await keeping
        assert process.pid is None

    asyncio.run(asyncio.wait_for(stopped_while_it_runs(), 20))
    assert said[1:] == ["feed did not end within 0.5 s: killing it"]


def test_the_children_of_a_killed_worker_may_finish(swarm: Swarm) -> None:
    shell = up(swarm, f"orders: {sys.executable} parent.py worker")
    os.kill(pid_of(shell, "orders"), signal.SIGKILL)
    pid_of(shell, "orders", 2)
    assert not (swarm.folder / "finished").exists()  # its successor did not wait for it
    until((swarm.folder / "finished").exists, "the child to finish what it was at")


def test_all_are_asked_to_end_when_the_supervisor_is_killed(swarm: Swarm) -> None:
    shell = up(swarm, f"orders: {part('worker')}", f"feed: {part('feed')}")
    pids = [pid_of(shell, "orders"), pid_of(shell, "feed")]
    shell.popen.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "both to end")
    assert swarm.run("botswarm", "ps").returncode == 4


def test_nothing_is_started_again_when_all_are_told_to_end_at_once(swarm: Swarm) -> None:
    """As platforms do: the supervisor and what it started get the signal in the same moment."""
    shell = up(swarm, f"feed: {part('feed', 2)}", f"orders: {part('worker')}")
    everybody = [shell.popen.pid, pid_of(shell, "feed"), pid_of(shell, "orders")]
    for pid in everybody:
        os.kill(pid, signal.SIGTERM)
    assert shell.ends_within(20) == 0
    assert "starting it again" not in shell.text
    assert (shell.messages("feed")[-1], shell.messages("orders")[-1]) == ("bye feed", "bye worker")


def test_a_stop_in_the_middle_of_the_start_leaves_nothing_behind(swarm: Swarm) -> None:
    slow = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(600)'"
    shell = up(swarm, f"release: {slow}", f"feed: {part('feed')}")
    until(lambda: shell.messages("release"), "the release step to run")
    shell.popen.send_signal(signal.SIGTERM)
    assert shell.ends_within(20) == 0
    assert shell.messages("feed") == []
    assert names(swarm.processes()) == []


def test_a_release_step_that_fails_ends_the_start_with_its_name(swarm: Swarm) -> None:
    shell = up(swarm, f"release: {sys.executable} -c 'raise SystemExit(9)'", f"feed: {part('x')}")
    assert shell.ends_within(20) == 5
    assert "ended with exit code 9" in shell.text
    assert shell.messages("feed") == []


def test_a_foundation_that_cannot_start_ends_the_start_with_its_name(swarm: Swarm) -> None:
    shell = up(swarm, "broker: no-such-program", f"feed: {part('feed')}")
    assert shell.ends_within(30) == 5
    assert "broker cannot be started: no-such-program: No such file or directory" in shell.text
    assert "broker ended 4 times before it was ready" in shell.text
    assert shell.messages("feed") == []


def test_down_stops_the_swarm_and_waits_for_it(swarm: Swarm) -> None:
    shell = up(swarm, f"orders: {part('worker', 1)}")
    pid_of(shell, "orders")
    assert swarm.ask("down") == {"stopped": True, "pid": shell.popen.pid}
    assert shell.ends_within(1) == 0
    assert swarm.ask("down") == {"stopped": False}


def test_what_was_said_up_to_the_end_outlives_the_machine(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    settings = {"BOTSWARM_ENV": "development", "BOTSWARM_LOG_ARCHIVE": str(place)}
    (tmp_path / "part.py").write_text(PART)
    swarm = Swarm(tmp_path, {**settings, "BOTSWARM_INSTANCE_ID": "alpha"})
    try:
        shell = up(swarm, f"feed: {part('feed')}")
        pid_of(shell, "feed")
        asked = [each for each in swarm.ask("health")["processes"] if each["name"] == "up"]
        shell.popen.send_signal(signal.SIGTERM)
        assert shell.ends_within(20) == 0
    finally:
        swarm.end()
    assert len(asked) == 1
    said = {
        name: b"".join(
            gzip.decompress(each.read_bytes()) for each in place.glob(f"alpha/{name}/*/*")
        )
        for name in ("feed", "up")
    }
    assert b'"bye feed"' in said["feed"]
    assert b"stopped" in said["up"]


def test_status_names_what_is_missing_and_still_tells_the_rest(swarm: Swarm) -> None:
    told = swarm.run("botswarm", "status")
    assert told.returncode == 3
    assert "BSW-3003" in told.stderr
    assert "missing: broker, ledger" in told.stderr
    assert "botswarm up" in told.stdout
    assert swarm.run("botswarm", "db", "migrate").returncode == 0
    assert swarm.ask("status")["missing"] == ["broker"]
    broker = swarm.open("botswarm", "broker", "run", name="broker")
    until(lambda: "broker ready" in broker.text, "the broker")
    missing = swarm.ask("status")["missing"]
    assert missing == ["queues", "feed", "beat"]


def test_status_says_that_trading_is_halted_and_why(swarm: Swarm) -> None:
    assert swarm.run("botswarm", "db", "migrate").returncode == 0
    halted = swarm.run("botswarm", "trading", "halt", "--reason", "a drill")
    assert halted.returncode == 0, halted.stderr
    trading = swarm.ask("status")["parts"]["trading"]
    assert trading["state"] == "warn"
    assert trading["swarm"] == "halted"
    assert "a drill" in trading["words"]
