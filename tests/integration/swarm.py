"""Workers, beats and commands as processes of their own on a broker of the test's choosing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kombu import pools

from botswarm.config import load
from botswarm.queueing import App, make_app
from botswarm.testing.servers import AmqpServer

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE_S = 30.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """What the condition answers once that is true; fails with ``what`` where it stays false."""
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Event:
    at: float
    kind: str
    number: int
    pid: int
    parent: int


@dataclass(slots=True)
class Process:
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def end(self) -> None:
        self.signal_group(signal.SIGKILL)
        self.popen.wait()


@dataclass(slots=True)
class Swarm:
    server: AmqpServer
    vhost: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """Of the processes' environment, and no settings."""
    _app: App | None = None

    @property
    def url(self) -> str:
        return self.server.url(self.vhost)

    @property
    def events_file(self) -> Path:
        return self.folder / "events"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "BOTSWARM_BROKER_URL": self.url,
            "BOTSWARM_BROKER_MANAGEMENT_URL": self.server.management_url,
            "BOTSWARM_STATE_DIR": str(self.folder / "state"),
            "BOTSWARM_LOG_LEVEL": "debug",
            **self.settings,
        }

    def _whole_environment(self) -> dict[str, str]:
        return {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "QUEUEING_TEST_EVENTS": str(self.events_file),
            **self.variables,
            **self.environment,
        }

    @property
    def app(self) -> App:
        if self._app is None:
            settings = load(environ=self.environment, folder=self.folder).settings
            self._app = make_app(settings, set_as_current=False)
        return self._app

    def send(self, verb: str, **arguments: Any) -> Any:
        return self.app.send_task(f"workers.orders.{verb}", kwargs=arguments)

    def start(self, *words: str) -> Process:
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [str(BIN / "celery"), "-A", "botswarm", *words],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=self._whole_environment(),
                start_new_session=True,
            )
        process = Process(popen, log)
        self.processes.append(process)
        return process

    def worker(self, queues: str, *flags: str) -> Process:
        name = f"w{len(self.processes)}@test"
        tasks = "tests.integration.queueing_tasks"
        process = self.start("worker", "-Q", queues, "-n", name, "-I", tasks, *flags)
        until(lambda: " ready." in process.text or process.popen.poll() is not None, "the worker")
        assert process.popen.poll() is None, process.text
        return process

    def command(self, *words: str, expect: int = 0) -> Any:
        """The parsed answer of a ``botswarm`` command."""
        done = self.run(str(BIN / "botswarm"), *words, "--json")
        assert done.returncode == expect, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            env=self._whole_environment(),
        )

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=self._whole_environment(),
        )

    def events(self) -> list[Event]:
        if not self.events_file.exists():
            return []
        lines = [line.split() for line in self.events_file.read_text().splitlines()]
        return [
            Event(float(at), kind, int(number), int(pid), int(parent))
            for at, kind, number, pid, parent in lines
        ]

    def count(self, kind: str, number: int | None = None) -> int:
        return sum(e.kind == kind and number in (None, e.number) for e in self.events())

    def length(self, queue: str) -> int:
        """All of its messages, those handed out too; by declaring, which is never late."""
        _, row = self.server.manage("GET", f"queues/{quote(self.vhost, safe='')}/{queue}")
        return int(row.get("messages", -1)) if isinstance(row, dict) else -1

    def ready(self, queue: str) -> int:
        with self.app.connection_for_read() as connection:
            channel = connection.channel()
            return int(channel.queue_declare(queue, passive=True).message_count)

    def consumers(self) -> list[dict[str, Any]]:
        _, rows = self.server.manage("GET", f"consumers/{quote(self.vhost, safe='')}")
        return list(rows)

    def connections(self) -> list[str]:
        _, rows = self.server.manage("GET", "connections")
        return [row["name"] for row in rows if row.get("vhost") == self.vhost]

    def drop_connections(self) -> None:
        for name in self.connections():
            self.server.manage("DELETE", f"connections/{quote(name, safe='')}")

    def close(self) -> None:
        for process in self.processes:
            process.end()
        if self._app is not None:
            self._app.close()
            pools.reset()  # type: ignore[no-untyped-call]
