"""What our Celery app costs beside bare Celery with the same guarantees, on both brokers."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kombu import pools

from botswarm.bench import bare_worker, risk_tasks
from botswarm.bench.loads import connected, used_s
from botswarm.config import load
from botswarm.errors import NotFound, TimedOut
from botswarm.queueing import make_app
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer

COST_MAX = 1.25
PATIENCE_S = 120.0
POLL_S = 0.01
WARM_TRIPS = 20
CHILDREN = 2


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int
    tasks: int
    trips: int


FULL = Size(rounds=5, tasks=4000, trips=400)
QUICK = Size(rounds=2, tasks=1000, trips=100)

# key, unit, whether more is better, text
MEASURES = (
    ("publish_per_s", "1/s", True, "tasks sent, each confirmed"),
    ("tasks_per_s", "1/s", True, "no-op tasks run"),
    ("worker_cpu_ms", "ms", False, "processor time of the worker per task"),
    ("round_trip_p50_ms", "ms", False, "one at a time, p50"),
    ("round_trip_p99_ms", "ms", False, "one at a time, p99"),
)

Runs = dict[tuple[str, str, str], list[float]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two apps: how to send to it and how to run its worker."""

    name: str
    queue: str
    noop: str
    echo: str
    app: Callable[[AmqpServer, Path], Any]
    worker: Callable[[AmqpServer, Path], subprocess.Popen[bytes]]


def _ours(server: AmqpServer, folder: Path) -> Any:
    return make_app(
        load(environ=_environment(server, folder), folder=folder).settings, set_as_current=False
    )


def _environment(server: AmqpServer, folder: Path) -> dict[str, str]:
    return {
        "BOTSWARM_BROKER_URL": server.url(),
        "BOTSWARM_STATE_DIR": str(folder / "state"),
        "BOTSWARM_WORKER_CAPS": f"risk={CHILDREN}",
        "BOTSWARM_SWARM_CAPS": f"risk={CHILDREN}",
        "BOTSWARM_LOG_LEVEL": "info",
        "PYTHONWARNINGS": "ignore",
    }


def _our_worker(server: AmqpServer, folder: Path) -> subprocess.Popen[bytes]:
    celery = [sys.executable, "-m", "celery", "-A", "botswarm", "worker"]
    return subprocess.Popen(
        [*celery, "-Q", "risk", "-I", "botswarm.bench.risk_tasks"],
        cwd=folder,
        env=_environment(server, folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _bare(server: AmqpServer, _: Path) -> Any:
    return bare_worker.make_bare_app(server.url())


def _bare_worker(server: AmqpServer, folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "botswarm.bench.bare_worker"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"{server.url()}\n".encode())
    process.stdin.close()
    return process


# The queue with a cap of the swarm's: every task takes and returns a slot.
OURS = Side("ours", "risk", risk_tasks.NOOP, risk_tasks.ECHO, _ours, _our_worker)
BARE = Side("bare", bare_worker.QUEUE, bare_worker.NOOP, bare_worker.ECHO, _bare, _bare_worker)


def main(
    *,
    quick: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    size: Size | None = None,
) -> dict[str, Any]:
    """Measure in turn: bare, ours, then ours, bare, so that neither always comes second."""
    size = size or (QUICK if quick else FULL)
    runs: Runs = defaultdict(list)
    with ExitStack() as stack:
        servers: dict[str, AmqpServer] = {
            "embedded": stack.enter_context(EmbeddedBrokerServer()),
        }
        missing = ""
        try:
            servers["rabbitmq"] = stack.enter_context(RabbitMQServer())
        except NotFound as error:
            missing = f"RabbitMQ was not measured: {error.cause}; {error.cure}"
        for round_ in range(size.rounds):
            for broker, server in servers.items():
                for side in (BARE, OURS) if round_ % 2 == 0 else (OURS, BARE):
                    progress(f"round {round_ + 1} of {size.rounds}: {broker}, {side.name}")
                    for measure, value in one_round(server, side, size):
                        runs[broker, side.name, measure].append(value)
    rows = [_row(broker, *measure, runs) for broker in servers for measure in MEASURES]
    return {
        "command": f"botswarm bench tasks{' --quick' if quick else ''}",
        "rounds": size.rounds,
        "tasks": size.tasks,
        "children": CHILDREN,
        "missing": missing,
        "rows": rows,
    }


def one_round(server: AmqpServer, side: Side, size: Size) -> Iterator[tuple[str, float]]:
    with tempfile.TemporaryDirectory(prefix="botswarm-bench-") as name:
        folder = Path(name)
        app = side.app(server, folder)
        try:
            began = time.perf_counter()
            for _ in range(size.tasks):
                app.send_task(side.noop, queue=side.queue, ignore_result=True)
            yield "publish_per_s", size.tasks / (time.perf_counter() - began)
            with running(side.worker(server, folder)) as worker, connected(server) as channel:
                rate, cpu_ms = _drain(channel, side.queue, size.tasks, worker.pid)
                yield "tasks_per_s", rate
                yield "worker_cpu_ms", cpu_ms
                took = _round_trips(app, side, size.trips)
            yield "round_trip_p50_ms", took[len(took) // 2]
            yield "round_trip_p99_ms", took[len(took) * 99 // 100]
        finally:
            close(app)


def close(app: Any) -> None:
    """Celery's own close leaves the connection that waits for results."""
    if app.backend.result_consumer._connection is not None:
        app.backend.result_consumer.stop()
    app.close()
    # The connections of all apps of one URL are one pool, which outlives the app.
    pools.reset()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _drain(channel: Any, queue: str, tasks: int, worker: int) -> tuple[float, float]:
    """Tasks a second, and the worker's processor time for each.

    From the first look that finds 5 % gone (start-up is over) to the first at an empty queue.
    """
    began = started_with = used = 0.0
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        left = channel.queue_declare(queue, passive=True).message_count
        now = time.perf_counter()
        if not began and left < tasks * 0.95:
            began, started_with, used = now, left, used_s({"worker": worker})["worker"]
        if left == 0:
            return started_with / (now - began), (
                used_s({"worker": worker})["worker"] - used
            ) * 1e3 / started_with
        time.sleep(POLL_S)
    raise TimedOut(
        f"the worker did not drain {tasks} tasks in {PATIENCE_S:g} s",
        cure="run the bench on a machine that is otherwise idle",
    )


def _cpu_s(worker: int) -> float:
    return used_s({"worker": worker})["worker"]


def _round_trips(app: Any, side: Side, trips: int) -> list[float]:
    took = []
    for number in range(trips + WARM_TRIPS):
        began = time.perf_counter()
        result = app.send_task(side.echo, (number,), queue=side.queue, ignore_result=False)
        result.get(timeout=30)
        took.append((time.perf_counter() - began) * 1e3)
    return sorted(took[WARM_TRIPS:])


def _row(
    broker: str, key: str, unit: str, more_is_better: bool, text: str, runs: Runs
) -> dict[str, Any]:
    bare, ours = runs[broker, "bare", key], runs[broker, "ours", key]
    # Pairs of one round ran next to each other, so what else the machine did is in both.
    ratios = [b / o if more_is_better else o / b for b, o in zip(bare, ours, strict=True)]
    cost = statistics.median(ratios)
    return {
        "broker": broker,
        "measure": key,
        "text": text,
        "unit": unit,
        "bare": _spread(bare),
        "ours": _spread(ours),
        "cost": round(cost, 3),
        "within": cost <= COST_MAX,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 2),
        "low": round(min(values), 2),
        "high": round(max(values), 2),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The same for people; a cost of 1.10 means that ours takes a tenth more."""
    lines = [
        f"{figures['command']}: {figures['rounds']} rounds in turn, median (lowest to highest), "
        f"{figures['children']} children; ours may cost {COST_MAX:.2f} of bare Celery",
        f"{'':40}{'unit':>5}{'bare Celery':>28}{'ours':>28}{'cost':>7}",
    ]
    lines += [
        f"{row['broker'] + ': ' + row['text']:40}{row['unit']:>5}{_cell(row['bare']):>28}"
        f"{_cell(row['ours']):>28}{row['cost']:>7.2f}"
        for row in figures["rows"]
    ]
    return "\n".join([*lines, *([figures["missing"]] if figures["missing"] else [])])


def _cell(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.5g} ({spread['low']:.5g} to {spread['high']:.5g})"
