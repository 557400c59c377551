"""A Celery project that knows nothing of botswarm runs with only its broker URL changed."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import celery
import celery.exceptions
import pytest
from celery import _state

from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    free_port,
    wait_until,
)

ELSEWHERE = Path(__file__).parent / "elsewhere"
PATIENCE_S = 30.0


@dataclass(slots=True)
class Shell:
    """One of the stranger's shells: a command in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(slots=True)
class Project:
    """The stranger's project on one broker, with the shells it has open."""

    folder: Path
    broker: AmqpServer
    app: Any = None
    tasks: Any = None
    shells: list[Shell] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CELERY_BROKER_URL": self.broker.url(),
            "CELERY_RESULT_BACKEND": f"db+sqlite:///{self.folder}/results.sqlite",
            "BAKERY_DIARY": str(self.folder / "diary.txt"),
            "BAKERY_BEAT_FILE": str(self.folder / "beat-schedule"),
            "FLOWER_UNAUTHENTICATED_API": "true",
        }

    def open_shell(self, name: str, *arguments: str) -> Shell:
        """Run ``celery -A bakery ...`` as somebody would type it in the project's folder."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "celery", "-A", "bakery", *arguments],
                cwd=ELSEWHERE,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        shell = Shell(process, log)
        self.shells.append(shell)
        return shell

    def open_worker(self, name: str, *arguments: str) -> Shell:
        words = ("worker", "-n", f"{name}@bakery", "-c", "2", "-l", "INFO", *arguments)
        shell = self.open_shell(name, *words)
        wait_until(lambda: self.answers(name), f"worker {name} to answer", PATIENCE_S)
        return shell

    def answers(self, name: str) -> bool:
        return f"{name}@bakery" in self.inspect("ping", [f"{name}@bakery"])

    def inspect(self, question: str, workers: list[str] | None = None) -> dict[str, Any]:
        inspector = self.app.control.inspect(destination=workers, timeout=1.0)
        return getattr(inspector, question)() or {}

    def control(self, command: str, *arguments: Any, workers: list[str], **more: Any) -> list[Any]:
        """Broadcast and wait for the answers of exactly these workers."""
        return list(
            getattr(self.app.control, command)(
                *arguments, destination=workers, reply=True, timeout=3.0, **more
            )
        )

    @property
    def diary(self) -> list[str]:
        path = self.folder / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def queue_names(self) -> set[str]:
        status, queues = self.broker.manage("GET", "queues/%2F")
        assert status == 200
        return {queue["name"] for queue in queues}


@contextlib.contextmanager
def imported(environment: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """The project's own modules, imported afresh: they read the environment once."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    importlib.import_module("celery.app.builtins")  # announced to every app: not ours to take
    finalizers = set(_state._on_app_finalizers)
    sys.path.insert(0, str(ELSEWHERE))
    try:
        app = importlib.import_module("bakery.celery").app
        tasks = importlib.import_module("bakery.tasks")
        yield app, tasks
        app.close()
    finally:
        sys.path.remove(str(ELSEWHERE))
        # Celery announces the tasks of one app to every app that comes after it in the process;
        # in a stranger's shell there is only ever one.
        _state._on_app_finalizers.intersection_update(finalizers)
        for name in [name for name in sys.modules if name.split(".")[0] == "bakery"]:
            del sys.modules[name]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture(scope="module", params=[EmbeddedBrokerServer, RabbitMQServer])
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """Two workers, started in two shells, on the broker the test is run for."""
    with request.param() as broker:
        found = Project(tmp_path_factory.mktemp("bakery"), broker)
        with imported(found.environment) as (found.app, found.tasks):
            try:
                # One after the other: the project's SQLite file is created by the first.
                for name in ("one", "two"):
                    found.open_worker(name)
                yield found
            finally:
                for shell in found.shells:
                    shell.end()


BOTH = ["one@bakery", "two@bakery"]


def soon(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, PATIENCE_S)


def test_workers_of_two_shells_answer_a_ping(project: Project) -> None:
    assert project.inspect("ping") == {name: {"ok": "pong"} for name in BOTH}


def test_workers_of_two_shells_share_the_work(project: Project) -> None:
    slow = [project.tasks.bake.delay(f"shared {number}", 0.3) for number in range(4)]
    results = [project.tasks.who.delay() for _ in range(40)]
    assert {result.get(timeout=PATIENCE_S) for result in results} == set(BOTH)
    assert [result.get(timeout=PATIENCE_S) for result in slow] == [
        f"shared {number}" for number in range(4)
    ]


def test_inspect_shows_the_running_task_the_pool_and_the_queue(project: Project) -> None:
    result = project.tasks.bake.delay("rye", 2)

    def running() -> list[dict[str, Any]]:
        return [task for tasks in project.inspect("active").values() for task in tasks]

    soon(lambda: [task["id"] for task in running()] == [result.id], "the task to be active")
    stats = project.inspect("stats")
    assert sorted(stats) == BOTH
    assert all(worker["pool"]["max-concurrency"] == 2 for worker in stats.values())
    assert stats["one@bakery"]["broker"]["port"] == project.broker.port
    queues = project.inspect("active_queues")
    assert {name: [queue["name"] for queue in found] for name, found in queues.items()} == {
        name: ["bakery"] for name in BOTH
    }
    assert result.get(timeout=PATIENCE_S) == "rye"


def test_a_rate_limit_set_by_remote_control_is_in_force(project: Project) -> None:
    answers = project.control("rate_limit", "bakery.tasks.add", "2/s", workers=BOTH)
    try:
        assert sorted(name for answer in answers for name in answer) == BOTH
        assert all("ok" in said for answer in answers for said in answer.values())
        began = time.monotonic()
        results = [project.tasks.add.delay(1, number) for number in range(12)]
        for result in results:
            result.get(timeout=PATIENCE_S)
        # Two workers at 2/s need 3 s for 12; without the limit it is a fraction of a second.
        assert time.monotonic() - began > 2
    finally:
        project.control("rate_limit", "bakery.tasks.add", "0", workers=BOTH)


def test_a_queue_nobody_consumes_waits_and_goes_on_when_told(project: Project) -> None:
    project.control("cancel_consumer", "bakery", workers=BOTH)
    try:
        # A worker says that it will, and does it a moment later.
        soon(
            lambda: list(project.inspect("active_queues", BOTH).values()) == [[], []],
            "both workers to let go of the queue",
        )
        result = project.tasks.add.delay(2, 3)
        with pytest.raises(celery.exceptions.TimeoutError):
            result.get(timeout=1.5)
    finally:
        project.control("add_consumer", "bakery", workers=BOTH)
    assert result.get(timeout=PATIENCE_S) == 5


def test_a_revoked_task_never_runs(project: Project) -> None:
    busy = [project.tasks.bake.delay(f"busy {number}", 1.0) for number in range(4)]
    unwanted = project.tasks.bake.delay("unwanted", 0)
    project.control("revoke", unwanted.id, workers=BOTH)
    for result in busy:
        result.get(timeout=PATIENCE_S)
    soon(lambda: unwanted.state == "REVOKED", "the task to be revoked")
    assert "baking unwanted" not in project.diary


def test_a_running_task_is_terminated_by_remote_control(project: Project) -> None:
    result = project.tasks.bake.delay("endless", 600)
    soon(lambda: "baking endless" in project.diary, "the task to start")
    project.control("revoke", result.id, workers=BOTH, terminate=True, signal="SIGKILL")
    soon(lambda: result.state == "REVOKED", "the task to be terminated")
    assert "baked endless" not in project.diary


def test_retries_wait_in_the_broker_and_arrive_on_time(project: Project) -> None:
    result = project.tasks.knead.delay("sourdough", 2)
    assert result.get(timeout=PATIENCE_S) == 2
    times = [float(line.split()[-1]) for line in project.diary if "kneading sourdough" in line]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(waits) == 2
    assert all(1.0 <= wait < 3.0 for wait in waits), waits
    assert "celery_delayed_27" in project.queue_names()


def test_a_task_with_a_countdown_runs_no_earlier(project: Project) -> None:
    began = time.monotonic()
    result = project.tasks.add.apply_async((1, 1), countdown=2)
    assert result.get(timeout=PATIENCE_S) == 2
    assert 2.0 <= time.monotonic() - began < 5.0


def test_a_chord_collects_what_its_header_returned(project: Project) -> None:
    header = [project.tasks.add.s(number, number) for number in range(10)]
    assert celery.chord(header)(project.tasks.total.s()).get(timeout=PATIENCE_S) == 90


def test_a_task_of_a_worker_killed_in_the_middle_is_run_by_another(project: Project) -> None:
    victim = project.open_worker("victim")
    project.control("cancel_consumer", "bakery", workers=BOTH)
    try:
        result = project.tasks.bake.delay("rescued", 3)
        soon(lambda: "baking rescued" in project.diary, "the victim to start the task")
        os.killpg(victim.process.pid, signal.SIGKILL)
    finally:
        project.control("add_consumer", "bakery", workers=BOTH)
    assert result.get(timeout=PATIENCE_S) == "rescued"
    assert project.diary.count("baking rescued") == 2
    assert project.diary.count("baked rescued") == 1


def test_a_worker_told_to_shut_down_ends_well_and_loses_nothing(project: Project) -> None:
    leaver = project.open_worker("leaver")
    results = [project.tasks.add.delay(number, 1) for number in range(50)]
    project.app.control.shutdown(destination=["leaver@bakery"])
    assert leaver.process.wait(PATIENCE_S) == 0
    assert [result.get(timeout=PATIENCE_S) for result in results] == list(range(1, 51))
    assert project.inspect("ping") == {name: {"ok": "pong"} for name in BOTH}


def test_beat_sends_what_its_schedule_says(project: Project) -> None:
    beat = project.open_shell("beat", "beat", "-l", "INFO", "--pidfile=")
    try:
        soon(lambda: project.diary.count("tick") >= 3, "three ticks")
    finally:
        beat.end()


def test_flower_shows_the_workers_the_tasks_and_the_brokers_queues(project: Project) -> None:
    port = free_port()
    words = (f"--port={port}", "--address=127.0.0.1")
    flower = project.open_shell(
        "flower", "flower", *words, f"--broker-api={project.broker.management_url}"
    )
    try:
        soon(lambda: is_up(port), "Flower to listen")
        # Flower asks the workers for their queues in the background, and knows none before.
        soon(lambda: "bakery" in lengths(port), "Flower to know the queue")
        # RabbitMQ's own figures lag by some seconds.
        soon(lambda: lengths(port)["bakery"] == 0, "the queue to be shown empty")
        status, page = fetch(port, "/broker")
        assert status == 200
        assert "bakery" in page
        soon(lambda: sorted(json.loads(fetch(port, "/api/workers")[1])) == BOTH, "both workers")
        result = project.tasks.add.delay(20, 22)
        assert result.get(timeout=PATIENCE_S) == 42
        soon(lambda: task_state(port, result.id) == "SUCCESS", "Flower to have seen the task")
        assert "Unable to get queues" not in flower.text
        assert "API call failed" not in flower.text
    finally:
        flower.end()


def fetch(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def is_up(port: int) -> bool:
    try:
        return fetch(port, "/healthcheck")[0] == 200
    except OSError:
        return False


def lengths(port: int) -> dict[str, int]:
    status, text = fetch(port, "/api/queues/length")
    assert status == 200, text
    return {queue["name"]: queue["messages"] for queue in json.loads(text)["active_queues"]}


def task_state(port: int, task: str) -> str | None:
    status, text = fetch(port, f"/api/task/info/{task}")
    return json.loads(text)["state"] if status == 200 else None
