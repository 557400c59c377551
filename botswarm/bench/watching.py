"""What watching costs: orders through one worker with health, metrics and scrapes, and without."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botswarm.bench import orders, tasks
from botswarm.bench.loads import used_s
from botswarm.bench.scrapes import METRICS
from botswarm.errors import TimedOut
from botswarm.health import ask
from botswarm.testing.servers import EmbeddedBrokerServer

SCRAPE_EVERY_S = 5.0
"""Three times as often as Prometheus would."""

STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)
"""By degrees of freedom."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    orders: int
    """In each drain: so few that none is rung for again while they are queued."""
    drains: int
    """In each turn."""
    rounds: int
    """Each is two turns, one watched and one not."""
    settle_s: float
    """After the start of a turn's workers, which is no part of what watching costs."""
    idle_s: float


class Watched(orders.Stage):
    """With a worker of the queue ops, which reads the swarm's figures; scraped all the time."""

    is_watched = True

    @contextmanager
    def workers(self, count: int) -> Iterator[Mapping[str, int]]:
        self.environment["BOTSWARM_HEALTH_ENABLE"] = "on" if self.is_watched else "off"
        celery = [sys.executable, "-m", "celery", "-A", "botswarm"]
        # Not risk: to its sweeps thousands of orders a minute are a habit to be held up.
        ops = [*celery, "worker", "-Q", "ops", "-n", "ops@%h"]
        with ExitStack() as stack:
            pids = dict(stack.enter_context(super().workers(count)))
            pids["ops"] = stack.enter_context(tasks.running(self._start(ops))).pid
            if self.is_watched:
                stack.enter_context(_scraping(self.exchange.state_dir))
            yield pids

    def listen(self, wanted: bool) -> None:
        """Have the worker of the queue orders take from it, or leave what comes."""
        tell = self.app.control.add_consumer if wanted else self.app.control.cancel_consumer
        deadline = time.monotonic() + orders.PATIENCE_S
        while not tell("orders", reply=True, timeout=2, limit=1, pattern="orders*", matcher="glob"):
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"no worker of the queue orders answered within {orders.PATIENCE_S:g} s",
                    cure="run the bench on a machine that is otherwise idle",
                )


@contextmanager
def _scraping(state_dir: Path) -> Iterator[None]:
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_EVERY_S):
            ask.processes(state_dir, METRICS)
            ask.processes(state_dir, "/health")

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Turn:
    orders_per_s: float
    cpu_ms_per_order: float
    idle_percent: float
    """Of one core, by all processes together, with nothing to do."""


def measured(load: Load, until: float, progress: Progress) -> dict[str, Any]:
    """As many rounds as were wished, or as are begun by ``until``; one at least."""
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBrokerServer())
        folder = Path(broker.data) / "bench-metrics"
        folder.mkdir(exist_ok=True)
        stage = Watched(broker, "postgresql", folder, stack)
        progress("the account is compared with its venue before anything may be sent")
        stage.reconcile()
        pairs: list[tuple[Turn, Turn]] = []
        while len(pairs) < load.rounds:
            if pairs and time.monotonic() > until:
                progress(f"time is up after {len(pairs)} of {load.rounds} rounds")
                break
            pairs.append(_pair(stage, load, watched_first=len(pairs) % 2 == 1))
            plain, watched = pairs[-1]
            progress(
                f"round {len(pairs)} of {load.rounds}: {plain.orders_per_s} orders/s, watched "
                f"{watched.orders_per_s}; idle {plain.idle_percent:.1f} % of a core, watched "
                f"{watched.idle_percent:.1f} %"
            )
    return _compared(pairs)


def _pair(stage: Watched, load: Load, *, watched_first: bool) -> tuple[Turn, Turn]:
    """Each is first in every other round: what the machine does meanwhile hits both."""
    found = {}
    for is_watched in (True, False) if watched_first else (False, True):
        stage.is_watched = is_watched
        found[is_watched] = _turn(stage, load)
    return found[False], found[True]


def _turn(stage: Watched, load: Load) -> Turn:
    """Its workers are there and settled before the first order is counted."""
    spent_s = lasted_s = 0.0
    with stage.workers(1) as pids:
        pids = {**{name: server.pid for name, server in stage.servers.items()}, **pids}
        _drain(stage, load.orders, pids)
        time.sleep(load.settle_s)
        for _ in range(load.drains):
            spent, lasted = _drain(stage, load.orders, pids)
            spent_s, lasted_s = spent_s + spent, lasted_s + lasted
        idle = _percent_of_core(pids, load.idle_s)
    done = load.orders * load.drains
    return Turn(round(done / lasted_s, 1), spent_s / done * 1e3, idle)


def _drain(stage: Watched, count: int, pids: Mapping[str, int]) -> tuple[float, float]:
    """The processor time of all processes, and the seconds from the first order to the last."""
    before = len(stage.accepted_ms())
    stage.listen(False)
    placed = stage.queue(count)
    used = sum(used_s(pids).values())
    stage.listen(True)
    stage.wait_for(before + count)
    spent = sum(used_s(pids).values()) - used
    answered = stage.answered(placed).values()
    return spent, (max(answered) - min(answered)).total_seconds()


def _percent_of_core(pids: Mapping[str, int], lasting_s: float) -> float:
    used, began = sum(used_s(pids).values()), time.monotonic()
    time.sleep(lasting_s)
    return 100 * (sum(used_s(pids).values()) - used) / (time.monotonic() - began)


def _compared(pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    lost = [1 - watched.orders_per_s / plain.orders_per_s for plain, watched in pairs]
    spent = [watched.cpu_ms_per_order / plain.cpu_ms_per_order - 1 for plain, watched in pairs]
    idle = statistics.median(plain.idle_percent for plain, _ in pairs)
    watched_idle = statistics.median(watched.idle_percent for _, watched in pairs)
    cores = os.cpu_count() or 1
    taken = [(watched.idle_percent - plain.idle_percent) / 100 / cores for plain, watched in pairs]
    return {
        "rounds": len(pairs),
        "orders_per_s": [plain.orders_per_s for plain, _ in pairs],
        "watched_orders_per_s": [watched.orders_per_s for _, watched in pairs],
        "share": round(statistics.median(lost), 4),
        "share_within": interval(lost),
        "cpu_share": round(statistics.median(spent), 4),
        "cpu_share_within": interval(spent),
        "idle_percent_of_core": round(idle, 2),
        "watched_idle_percent_of_core": round(watched_idle, 2),
        "of_machine": round((watched_idle - idle) / 100 / cores, 4),
        "of_machine_within": interval(taken),
    }


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the mean of endlessly many rounds lies, 95 times of 100; None where one says nothing.

    By Student's distribution: rounds on a shared machine differ by more than what is looked for.
    """
    if len(values) < 2:
        return None
    mean, freedom = statistics.fmean(values), len(values) - 1
    error = statistics.stdev(values) / len(values) ** 0.5
    reach = error * STUDENT_95[min(freedom, len(STUDENT_95)) - 1]
    return round(mean - reach, 4), round(mean + reach, 4)
