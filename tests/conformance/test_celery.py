"""Celery with late acknowledgements, quorum queues and native delays, on real workers."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord, group
from kombu import pools

from botswarm.testing.servers import AmqpServer, wait_until
from tests.conformance import celery_app
from tests.conformance.wire import Client

PATIENCE_S = 20.0


class Workers:
    """Worker processes of one vhost."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.results = f"file://{folder / 'results'}"
        (folder / "results").mkdir()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.app = self._new_app()

    def _new_app(self) -> Any:
        app = Celery("asking")
        app.conf.update(celery_app.app.conf.changes)
        app.conf.update(broker_url=self.url, result_backend=self.results)
        return app

    def reconnect(self) -> None:
        """Forget the connections that a restart of the broker broke."""
        self.app.close()
        pools.reset()  # kombu's own, shared by all apps with this URL
        self.app = self._new_app()

    def start(self, name: str, *options: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.conformance.celery_app"),
                    *("-b", self.url, "--result-backend", self.results),
                    *("worker", "-n", f"{name}@here", "-Q", "work", "-c", "2", "-E"),
                    *("--without-mingle", "--without-gossip", "-l", "INFO", *options),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._answers(name), f"the worker {name}", 60)

    def kill(self, name: str) -> None:
        """The whole process group, at once."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> int:
        process = self._running.pop(name)
        process.terminate()
        return process.wait(30)

    def close(self) -> None:
        for name in list(self._running):
            self.kill(name)
        self.app.close()
        pools.reset()

    def send(self, task: Any, *arguments: Any, **options: Any) -> Any:
        signature = self.app.signature(task.name, args=arguments, immutable=True)
        return signature.apply_async(**options)

    def pause(self, name: str) -> None:
        """Let this worker take no new tasks."""
        self._tell(name, "cancel_consumer")

    def resume(self, name: str) -> None:
        self._tell(name, "add_consumer")

    def _tell(self, name: str, command: str) -> None:
        tell = getattr(self.app.control, command)
        assert tell("work", destination=[f"{name}@here"], reply=True, timeout=PATIENCE_S)

    def revoke(self, name: str, task_id: str) -> bool:
        return bool(
            self.app.control.broadcast(
                "revoke",
                arguments={"task_id": task_id},
                destination=[f"{name}@here"],
                reply=True,
                timeout=5,
            )
        )

    def answers(self, name: str) -> bool:
        return bool(self.app.control.ping([f"{name}@here"], timeout=0.5))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _answers(self, name: str) -> bool:
        process = self._running[name]
        assert process.poll() is None, self.log(name)
        return self.answers(name)


@pytest.fixture(scope="module")
def celery_vhost(broker: AmqpServer) -> Iterator[str]:
    broker.add_vhost("celery")
    yield "celery"
    broker.delete_vhost("celery")


@pytest.fixture(scope="module")
def workers(
    broker: AmqpServer, celery_vhost: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    workers = Workers(broker.url(celery_vhost), tmp_path_factory.mktemp("celery"))
    workers.start("one")
    yield workers
    workers.close()


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], list[str]]:
    def read() -> list[str]:
        path = tmp_path / "notes"
        return path.read_text().splitlines() if path.exists() else []

    return read


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notes")


def test_a_task_comes_back_with_its_result(workers: Workers) -> None:
    assert workers.send(celery_app.add, 2, 3).get(timeout=PATIENCE_S) == 5


def test_many_tasks_all_come_back(workers: Workers) -> None:
    answers = [workers.send(celery_app.add, number, 1) for number in range(50)]
    assert [answer.get(timeout=PATIENCE_S) for answer in answers] == list(range(1, 51))


def test_a_chord_waits_for_all_its_parts(workers: Workers) -> None:
    parts = group(
        workers.app.signature(celery_app.add.name, args=(number, number)) for number in range(5)
    )
    end = workers.app.signature(celery_app.total.name)
    assert chord(parts, app=workers.app)(end).get(timeout=PATIENCE_S) == 20


def test_a_retry_waits_in_the_broker_and_not_in_the_worker(
    broker: AmqpServer, workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    answer = workers.send(celery_app.flaky, path, 2)
    assert answer.get(timeout=PATIENCE_S) == 2
    times = [float(line) for line in notes()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 3
    assert all(0.9 < wait < 3 for wait in waits), waits
    queues = {row["name"] for row in broker.manage("GET", "queues/celery")[1]}
    assert {"celery_delayed_0", "celery_delayed_27"} <= queues


def test_a_countdown_is_kept(workers: Workers, path: str, notes: Callable[[], list[str]]) -> None:
    sent = time.time()
    workers.send(celery_app.note, path, countdown=2).get(timeout=PATIENCE_S)
    assert 1.0 < float(notes()[0]) - sent < 5


def test_an_expired_task_is_not_run(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    answer = workers.send(celery_app.note, path, countdown=1, expires=0.1)
    wait_until(lambda: answer.state == "REVOKED", "the task to be given up", PATIENCE_S)
    assert notes() == []


def test_a_worker_answers_inspection(workers: Workers) -> None:
    inspect = workers.app.control.inspect(["one@here"], timeout=5)
    assert inspect.ping() == {"one@here": {"ok": "pong"}}
    queues = inspect.active_queues()["one@here"]
    assert [queue["name"] for queue in queues] == ["work"]
    assert celery_app.add.name in inspect.registered()["one@here"]


def test_a_revoked_task_is_not_run(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    workers.pause("one")
    answer = workers.send(celery_app.note, path)
    # Asked again where it is not heard: a worker may be busy for longer than one waits.
    wait_until(lambda: workers.revoke("one", answer.id), "the worker to know of it", PATIENCE_S)
    workers.resume("one")
    wait_until(lambda: answer.state == "REVOKED", "the task to be revoked", PATIENCE_S)
    assert notes() == []


def test_a_running_task_can_be_terminated(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    answer = workers.send(celery_app.linger, path, 60)
    wait_until(lambda: len(notes()) == 1, "the task to begin", PATIENCE_S)
    workers.app.control.revoke(answer.id, terminate=True, signal="SIGKILL")
    wait_until(lambda: answer.state == "REVOKED", "the task to be ended", PATIENCE_S)
    assert len(notes()) == 1
    assert workers.send(celery_app.add, 1, 1).get(timeout=PATIENCE_S) == 2


def test_a_queue_can_be_paused_and_resumed(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    workers.pause("one")
    answer = workers.send(celery_app.note, path)
    with pytest.raises(Exception, match="timed out"):
        answer.get(timeout=0.5)
    assert notes() == []
    workers.resume("one")
    answer.get(timeout=PATIENCE_S)
    assert len(notes()) == 1


def test_events_tell_the_story_of_a_task(workers: Workers) -> None:
    seen: list[tuple[str, str]] = []
    wanted: dict[str, str] = {}

    def on_event(event: dict[str, Any]) -> None:
        seen.append((event["type"], event.get("uuid", "")))
        if event["type"] == "task-succeeded" and event["uuid"] == wanted.get("id"):
            receiver.should_stop = True

    with workers.app.connection_for_read() as connection:
        receiver = workers.app.events.Receiver(connection, handlers={"*": on_event})
        with receiver.consumer_context(wakeup=False) as (listening, _, _):
            wanted["id"] = workers.send(celery_app.add, 1, 1).id
            deadline = time.monotonic() + PATIENCE_S
            while not receiver.should_stop:
                assert time.monotonic() < deadline, seen
                try:
                    listening.drain_events(timeout=1)
                except TimeoutError:
                    continue
    story = [kind for kind, task in seen if task == wanted["id"]]
    assert [kind for kind in story if kind != "task-sent"] == [
        "task-received",
        "task-started",
        "task-succeeded",
    ]


def test_a_failed_task_is_dead_lettered_with_its_history(
    broker: AmqpServer, workers: Workers, celery_vhost: str
) -> None:
    with Client(broker.host, broker.port) as client:
        channel = client.open(broker.user, broker.password, celery_vhost).channel()
        channel.exchange("dead", "topic", durable=True)
        channel.queue("dead", durable=True)
        channel.bind("dead", "dead", "#")
        answer = workers.send(celery_app.fail)
        with pytest.raises(ValueError, match="as asked"):
            answer.get(timeout=PATIENCE_S)
        message = channel.take("dead")
    assert message.properties["correlation_id"] == answer.id
    death = message.headers["x-death"][0]
    assert (death["reason"], death["queue"]) == ("rejected", "work")


def test_a_task_whose_worker_was_killed_is_run_by_another(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    # The survivor must have nothing of its own to do with it: only "two" takes the task.
    workers.pause("one")
    workers.start("two")
    answer = workers.send(celery_app.linger, path, 2)
    wait_until(lambda: len(notes()) == 1, "the task to begin", PATIENCE_S)
    workers.resume("one")
    workers.kill("two")
    answer.get(timeout=PATIENCE_S)
    begun = [line for line in notes() if line.startswith("begin")]
    ended = [line for line in notes() if line.startswith("end")]
    assert (len(begun), len(ended)) == (2, 1)
    assert begun[0].split()[1] != begun[1].split()[1]


def test_a_warm_shutdown_finishes_what_was_begun(
    workers: Workers, path: str, notes: Callable[[], list[str]]
) -> None:
    workers.pause("one")
    workers.start("three")
    answer = workers.send(celery_app.linger, path, 1)
    wait_until(lambda: len(notes()) == 1, "the task to begin", PATIENCE_S)
    assert workers.stop("three") == 0
    answer.get(timeout=PATIENCE_S)
    workers.resume("one")
    assert len(notes()) == 2


def test_a_worker_comes_back_after_the_broker_was_restarted(
    broker: AmqpServer, workers: Workers
) -> None:
    workers.pause("one")
    stored = workers.send(celery_app.add, 20, 22)
    time.sleep(1.0)  # RabbitMQ writes down that a quorum queue exists half a second late
    broker.kill()
    broker.start()
    workers.reconnect()
    wait_until(lambda: workers.answers("one"), "the worker to come back", 60)
    workers.resume("one")
    assert stored.get(timeout=PATIENCE_S) == 42
