"""A process answers on its port: the right page, the right code, whoever asks and however badly."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import StoppedClock
from botswarm.config import SecretMask, load
from botswarm.errors import Unreachable
from botswarm.health import ask, card, server
from botswarm.health.card import ProcessCard
from botswarm.health.check import Check, Status
from botswarm.health.pages import Pages
from botswarm.health.process import Health
from botswarm.health.seat import Seat
from botswarm.health.watch import Finding, Line, Watch
from botswarm.testing.servers import free_port

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def a_check(name: str, status: Status, *, is_needed: bool = False) -> Check:
    return Check(name=name, status=status, words=f"{name} is {status}", cure="mend it",
                 value=2.5, unit="s", since=NOW, is_needed=is_needed)  # fmt: skip


def a_card(name: str = "orders", port: int = 1, role: str = "worker") -> ProcessCard:
    return ProcessCard(
        name=name, role=role, queues=("orders",), pid=os.getpid(), host="127.0.0.1", port=port,
        machine="here", instance_id="a", version="1", started_at=NOW.isoformat(),
    )  # fmt: skip


class Process:
    """What a process tells, as a test wants it to be."""

    def __init__(self) -> None:
        self.card = a_card()
        self.alive: Status = "ok"
        self.found: list[Check] = []

    def work(self) -> Check:
        return a_check("work", self.alive, is_needed=True)

    def checks(self) -> Sequence[Check]:
        return self.found

    def facts(self) -> Mapping[str, Any]:
        return {"redis": {"connected": True, "latency": 1, "error": None}}

    def uptime_s(self) -> float:
        return 12.5


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def answers(process: Process) -> Iterator[server.Server]:
    def figures(accept: str) -> server.Answer:
        return server.Answer(200, f"botswarm_up 1 {accept}".rstrip().encode() + b"\n")

    pages = Pages(process, figures, lambda: [{"targets": ["127.0.0.1:1"]}])
    made = server.Server(server.listen("127.0.0.1", [free_port()]), pages)
    made.start()
    yield made
    made.close()


def get(port: int, path: str, *headers: str) -> tuple[int, Any]:
    asked = "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(asked.encode())
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith((b"{", b"[")) else body


def codes(port: int) -> tuple[int, int, int, int]:
    live, ready, health, detailed = (
        get(port, path)[0] for path in ("/livez", "/readyz", "/health", "/health/detailed")
    )
    return live, ready, health, detailed


def test_a_process_that_is_well_answers_200_everywhere(
    process: Process, answers: server.Server
) -> None:
    process.found = [a_check("ledger", "ok", is_needed=True)]
    assert codes(answers.port) == (200, 200, 200, 200)
    code, page = get(answers.port, "/health")
    assert page["status"] == "healthy"
    assert page["instance"]["type"] == "worker"
    assert page["redis"] == {"connected": True, "latency": 1, "error": None}
    assert (code, page["uptime"], page["checks"]) == (200, 12.5, {"work": "ok", "ledger": "ok"})


def test_a_server_it_needs_is_away_and_it_is_neither_ready_nor_healthy_but_lives(
    process: Process, answers: server.Server
) -> None:
    process.found = [a_check("ledger", "fail", is_needed=True)]
    assert codes(answers.port) == (200, 503, 503, 503)
    assert get(answers.port, "/readyz")[1]["missing"][0]["name"] == "ledger"
    assert get(answers.port, "/health")[1]["status"] == "unhealthy"


def test_what_it_can_do_without_makes_it_unhealthy_and_leaves_it_ready(
    process: Process, answers: server.Server
) -> None:
    process.found = [a_check("redis", "fail")]
    assert codes(answers.port) == (200, 200, 503, 503)


def test_a_warning_is_degraded_and_no_failure(process: Process, answers: server.Server) -> None:
    process.found = [a_check("disk", "warn")]
    assert codes(answers.port) == (200, 200, 200, 200)
    page = get(answers.port, "/health")[1]
    assert page["status"] == "degraded"
    assert page["trouble"][0]["cure"] == "mend it"


def test_work_that_is_stuck_is_no_life(process: Process, answers: server.Server) -> None:
    process.alive = "fail"
    assert codes(answers.port) == (503, 503, 503, 503)
    assert get(answers.port, "/livez")[1]["status"] == "stuck"


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("/api/health", "/health"),
        ("/api/v1/health", "/health"),
        ("/api/health/detailed", "/health/detailed"),
        ("/health/", "/health"),
        ("/health?verbose=1", "/health"),
    ],
)
def test_pages_have_further_names(answers: server.Server, path: str, same: str) -> None:
    mine, theirs = get(answers.port, path), get(answers.port, same)
    for page in (mine[1], theirs[1]):
        del page["timestamp"]
    assert mine == theirs


def test_metrics_and_targets_are_served(answers: server.Server) -> None:
    assert get(answers.port, "/metrics") == (200, b"botswarm_up 1\n")
    assert get(answers.port, "/targets") == (200, [{"targets": ["127.0.0.1:1"]}])
    assert get(answers.port, "/etc/passwd")[0] == 404


@pytest.mark.parametrize(
    ("header", "heard"),
    [
        ("ACCEPT:  text/plain ", b"botswarm_up 1 text/plain\n"),
        ("Accept: a/b;version=2.\nX: y", b"botswarm_up 1\n"),
    ],
)
def test_the_form_that_is_asked_for_is_heard_and_no_line_of_its_own_is(
    answers: server.Server, header: str, heard: bytes
) -> None:
    assert get(answers.port, "/metrics", header) == (200, heard)


def test_a_hundred_who_say_nothing_keep_nobody_from_an_answer(answers: server.Server) -> None:
    silent = [socket.create_connection(("127.0.0.1", answers.port)) for _ in range(100)]
    try:
        assert get(answers.port, "/livez")[0] == 200
    finally:
        for each in silent:
            each.close()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"POST /health HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01 hello\r\n\r\n", b"400"),
        (b"GET /health\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_question_is_refused(answers: server.Server, said: bytes, code: bytes) -> None:
    with socket.create_connection(("127.0.0.1", answers.port), timeout=10) as connection:
        connection.sendall(said)
        assert connection.recv(100).split()[1] == code
    assert get(answers.port, "/livez")[0] == 200


def test_a_head_without_end_is_hung_up_on(answers: server.Server) -> None:
    with socket.create_connection(("127.0.0.1", answers.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n" + b"x" * 9000)
        # Hung up on with words of ours unread: the end of it, or a reset.
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert get(answers.port, "/livez")[0] == 200


def test_a_page_with_a_defect_says_500_and_the_others_go_on() -> None:
    def answering(path: str, accept: str = "") -> server.Answer | None:
        if path == "/bad":
            raise RuntimeError("a defect")
        return server.Answer(200, b"{}")

    made = server.Server(server.listen("127.0.0.1", [free_port()]), answering)
    made.start()
    try:
        assert get(made.port, "/bad")[0] == 500
        assert get(made.port, "/good")[0] == 200
    finally:
        made.close()


def test_the_next_free_port_is_taken() -> None:
    port = free_port()
    with server.listen("127.0.0.1", [port]), server.listen("127.0.0.1", [port, port + 1]) as second:
        assert second.getsockname()[1] == port + 1
        with pytest.raises(Unreachable, match=f"port {port} to {port}"):
            server.listen("127.0.0.1", [port])


def test_who_cannot_have_a_port_of_metrics_beside_is_asked_on_the_other_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = 32_767  # the search for a free one ends here
    environ = {"BOTSWARM_STATE_DIR": str(tmp_path), "BOTSWARM_METRICS_PORT": str(last)}
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Unreachable):
            stack.enter_context(server.listen("127.0.0.1", [last]))
        made = stack.enter_context(Health(load(environ=environ).settings, "flower"))
        assert made.card.port != last
        assert get(made.card.port, "/livez")[0] == 200
    (error,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert f"port {last} to {last}" in error.getMessage()
    assert "choose others with BOTSWARM_METRICS_PORT" in error.getMessage()


# --- cards ----------------------------------------------------------------------------------------


def test_two_processes_of_one_kind_have_two_names_and_the_first_is_free_again(
    tmp_path: Path,
) -> None:
    first, second = Seat(tmp_path, "orders"), Seat(tmp_path, "orders")
    assert (first.name, second.name) == ("orders", "orders-2")
    first.write(a_card("orders"))
    second.write(a_card("orders-2"))
    assert [(each.card.name, each.is_alive) for each in card.found(tmp_path)] == [
        ("orders", True), ("orders-2", True),
    ]  # fmt: skip
    first.leave()
    assert [each.card.name for each in card.found(tmp_path)] == ["orders-2"]
    again = Seat(tmp_path, "orders")
    assert again.name == "orders"
    again.leave()
    second.leave()


KILLED = """
import os, sys
from pathlib import Path
from botswarm.health.card import ProcessCard
from botswarm.health.seat import Seat
seat = Seat(Path(sys.argv[1]), "feed")
seat.write(ProcessCard(name=seat.name, role="feed", pid=os.getpid(), host="127.0.0.1", port=1,
                       machine="here", instance_id="a", version="1", started_at="now"))
if not os.fork():
    # By now it has left to its parent what is the parent's.
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


def test_a_process_that_was_killed_is_missed_though_its_children_live_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        assert [each.is_alive for each in card.found(tmp_path)] == [True]
        victim.kill()
        victim.wait()
        assert [each.is_alive for each in card.found(tmp_path)] == [False]
        (said,) = ask.processes(tmp_path, "/health")
        assert (said.code, said.status) == (0, "fail")
        successor = Seat(tmp_path, "feed")
        assert successor.last is not None
        assert successor.last.port == 1
        successor.leave()


def test_everybody_is_asked_at_once_and_who_is_silent_is_said(
    tmp_path: Path, answers: server.Server
) -> None:
    well, silent = Seat(tmp_path, "feed"), Seat(tmp_path, "mute")
    with server.listen("127.0.0.1", [free_port()]) as nobody:
        well.write(a_card("feed", answers.port))
        silent.write(a_card("mute", nobody.getsockname()[1]))
        said = {each.process.card.name: each for each in ask.processes(tmp_path, "/health", 0.5)}
    assert (said["feed"].code, said["feed"].status) == (200, "ok")
    assert (said["mute"].code, said["mute"].trouble) == (0, "no answer within 0.5 s")
    well.leave()
    silent.leave()


def test_checks_come_back_as_they_were_told(
    tmp_path: Path, process: Process, answers: server.Server
) -> None:
    seat = Seat(tmp_path, "orders")
    seat.write(a_card("orders", answers.port))
    process.found = [a_check("ledger", "fail", is_needed=True)]
    (said,) = ask.processes(tmp_path, "/health/detailed")
    assert said.checks == (process.work(), *process.found)
    seat.leave()


# --- asking again and again -----------------------------------------------------------------------

LINE = Line(name="ledger", asks="?", unit="ms", warn_above=10, fail_above=100, every_s=0.01,
            limit_s=0.2, cure="look")  # fmt: skip


def eventually(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


class Asked:
    """A look whose answer a test changes."""

    def __init__(self) -> None:
        self.answer: Finding | Exception = Finding(words="fine", value=1)
        self.is_held = threading.Event()
        self.is_held.set()

    def __call__(self) -> Finding:
        assert self.is_held.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def watch(asked: Asked) -> Iterator[Watch]:
    from botswarm.clock import SystemClock

    made = Watch(SystemClock(), SecretMask([]))
    made.add(LINE, asked, is_needed=True)
    made.start()
    yield made
    asked.is_held.set()
    made.stop()


def status(watch: Watch) -> str:
    return watch.checks()[0].status


@pytest.mark.parametrize(("value", "wanted"), [(10, "ok"), (11, "warn"), (101, "fail")])
def test_a_value_is_judged_by_its_line(
    watch: Watch, asked: Asked, value: float, wanted: str
) -> None:
    asked.answer = Finding(words="took a while", value=value)
    eventually(lambda: watch.checks()[0].value == value, "the value to be told")
    assert status(watch) == wanted


def test_what_goes_wrong_is_a_failure_with_its_cure_and_clears_by_itself(
    watch: Watch, asked: Asked
) -> None:
    asked.answer = Unreachable("nobody listens", cure="start it")
    eventually(lambda: status(watch) == "fail", "a failure")
    found = watch.checks()[0]
    assert (found.words, found.cure, found.is_needed) == ("nobody listens", "start it", True)
    asked.answer = Finding(words="fine", value=1)
    eventually(lambda: status(watch) == "ok", "to be well again")
    assert watch.checks()[0].cure == ""


def test_a_defect_in_a_check_is_a_failure_that_says_so(watch: Watch, asked: Asked) -> None:
    asked.answer = ZeroDivisionError("by zero")
    eventually(lambda: status(watch) == "fail", "a failure")
    assert "ZeroDivisionError" in watch.checks()[0].words


def test_a_look_that_hangs_is_a_failure_while_it_hangs(watch: Watch, asked: Asked) -> None:
    eventually(lambda: status(watch) == "ok", "the first look")
    asked.is_held.clear()
    eventually(lambda: status(watch) == "fail", "the silence to be noticed")
    assert watch.checks()[0].words == "no answer within 0.2 s"
    asked.is_held.set()
    eventually(lambda: status(watch) == "ok", "the answer")


def test_what_was_not_looked_at_is_not_called_well() -> None:
    made = Watch(StoppedClock(NOW), SecretMask([]))
    made.add(LINE, lambda: Finding(words="fine"), is_needed=True)
    made.add(LINE, lambda: Finding(words="fine"))
    assert [each.status for each in made.checks()] == ["fail", "warn"]


def test_since_is_when_it_became_so(watch: Watch, asked: Asked) -> None:
    eventually(lambda: watch.checks()[0].status == "ok", "the first look")
    before = watch.checks()[0].since
    asked.answer = Finding(words="slow", value=50)
    eventually(lambda: status(watch) == "warn", "a warning")
    since = watch.checks()[0].since
    assert since > before
    asked.answer = Finding(words="slower", value=60)
    eventually(lambda: watch.checks()[0].value == 60, "the next value")
    assert watch.checks()[0].since == since
