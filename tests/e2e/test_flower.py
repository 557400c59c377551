"""Flower as a process of the swarm: a real browser on both brokers, and nothing for strangers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flower.urls import handlers

from botswarm.queueing.flower import FlowerRecord, read
from botswarm.testing.servers import EmbeddedBrokerServer, RabbitMQServer, free_port
from tests.e2e.swarm import Shell, Swarm, until

BROWSER = (
    *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--virtual-time-budget=8000", "--dump-dom"),
)
BROKERS = {"embedded": EmbeddedBrokerServer, "rabbitmq": RabbitMQServer}
PATIENCE_S = 90.0
PROBE = ("botswarm", "task", "run", "probe")


@dataclass(frozen=True, slots=True)
class Stage:
    swarm: Swarm
    record: FlowerRecord
    profile: Path

    def fetch(self, path: str, login: str = "", method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.record.host, self.record.port, timeout=20)
        token = base64.b64encode(login.encode()).decode()
        headers = {"Authorization": f"Basic {token}"} if login else {}
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @property
    def login(self) -> str:
        return f"{self.record.user}:{self.record.password}"

    def page(self, path: str) -> str:
        """What a person sees in a browser once its scripts have run."""
        address = self.record.url.replace("://", f"://{self.login}@").rstrip("/") + path
        done = subprocess.run(
            [*BROWSER, f"--user-data-dir={self.profile}", address],
            capture_output=True,
            text=True,
            env={"PATH": os.defpath, "HOME": str(self.profile)},
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def soon_on(self, path: str, wanted: Callable[[str], bool]) -> str:
        seen = []

        def found() -> str:
            seen.append(self.page(path))
            return seen[-1] if wanted(seen[-1]) else ""

        try:
            return str(until(found, f"{path} to show it", PATIENCE_S))
        except AssertionError:
            raise AssertionError(f"{path} showed at last: {seen[-1][-3000:]}") from None

    def task(self, task_id: str) -> Any:
        status, body = self.fetch(f"/api/task/info/{task_id}", self.login)
        return json.loads(body) if status == 200 else {}


def flower(swarm: Swarm) -> Shell:
    shell = swarm.open("botswarm", "run", "flower", name="flower")
    until(lambda: "Flower shows itself" in shell.text, f"Flower: {shell.text}", PATIENCE_S)
    return shell


@pytest.fixture(scope="module", params=BROKERS)
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp(f"flower-{request.param}")
    with BROKERS[request.param]() as broker:
        settings = {
            "BOTSWARM_BROKER_URL": broker.url(),
            "BOTSWARM_BROKER_MANAGEMENT_URL": broker.management_url,
            "BOTSWARM_FLOWER_PORT": str(free_port()),
        }
        swarm = Swarm(folder, settings)
        try:
            assert swarm.run("botswarm", "db", "migrate").returncode == 0
            swarm.open("botswarm", "run", "worker", "-Q", "ops", name="worker")
            flower(swarm)
            record = read(swarm.state_dir)
            assert record is not None
            yield Stage(swarm, record, folder / "browser")
        finally:
            swarm.end()


def test_a_browser_shows_workers_queues_and_tasks(stage: Stage) -> None:
    stage.soon_on("/workers", lambda page: "ops@" in page)
    # The broker's own figures lag by some seconds, and so do the workers' queues.
    queues = stage.soon_on("/broker", lambda page: '<tr id="ops">' in page)
    assert stage.record.password not in queues

    def seen() -> bool:
        # Workers tell of tasks only from when Flower has asked them to.
        done = stage.swarm.run(*PROBE, "--arg", "text=seen", "--wait", "60")
        assert done.returncode == 0, done.stdout + done.stderr
        page = stage.page("/tasks")
        return "workers.ops.probe" in page and "SUCCESS" in page

    until(seen, "the page of tasks to show one that was run", PATIENCE_S)


def test_a_stranger_reads_nothing_at_all(stage: Stage) -> None:
    paths = [_example(each) for each in handlers]
    assert {"/metrics", "/healthcheck", "/api/tasks", "/"} <= set(paths)
    for path in (*paths, "/static/css/flower.css", "/nowhere"):
        for login in ("", "botswarm:wrong", f"admin:{stage.record.password}", "botswarm:"):
            for method in ("GET", "POST", "OPTIONS"):
                status, body = stage.fetch(path, login, method)
                assert (status, b"password is in" in body) == (401, True), (method, path, body)
    assert stage.fetch("/metrics", stage.login)[0] == 200
    assert stage.fetch("/healthcheck", stage.login) == (200, b"OK")


def test_nobody_stops_a_worker_from_a_page_that_only_shows(stage: Stage) -> None:
    worker = next(iter(json.loads(stage.fetch("/api/workers?refresh=1", stage.login)[1])))
    status, body = stage.fetch(f"/api/worker/shutdown/{worker}", stage.login, "POST")
    assert (status, body) == (403, b"Read only mode is enabled")


def test_what_it_saw_outlives_it(stage: Stage) -> None:
    done = stage.swarm.run("botswarm", "task", "run", "probe", "--arg", "text=kept", "--json")
    task_id = json.loads(done.stdout)["data"]["id"]
    until(lambda: stage.task(task_id).get("state") == "SUCCESS", "the task to be seen", PATIENCE_S)

    shell = stage.swarm.shells[-1]
    shell.popen.terminate()
    assert shell.ends_within(30) == 0

    flower(stage.swarm)
    known = read(stage.swarm.state_dir)
    assert known is not None
    assert known.password == stage.record.password, "an open browser would be turned away"
    assert stage.task(task_id)["state"] == "SUCCESS"


def _example(handler: Any) -> str:
    """A path that one of Flower's routes answers."""
    pattern = handler[0] if isinstance(handler, tuple) else handler.regex.pattern.rstrip("$")
    return (
        str(pattern).replace("/?", "").replace("(.+)", "x").replace("(.*)", "x").replace(".*", "/y")
    )
