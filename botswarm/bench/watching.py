"""What watching costs: orders through one worker with health, metrics and scrapes, and without."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botswarm.bench import orders, tasks
from botswarm.bench.loads import used_s
from botswarm.bench.scrapes import METRICS
from botswarm.errors import TimedOut
from botswarm.health import ask
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer

SCRAPE_EVERY_S = 5.0
"""Three times as often as Prometheus would."""
LOOK_S = 0.1
IDLE_SPELLS = 2

STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)
"""By degrees of freedom."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    orders: int
    """In each drain: so few that none is rung for again while they are queued."""
    drains: int
    """Of each swarm in a round, by turns of seconds."""
    rounds: int
    """Each with new processes, and with the other swarm watched."""
    settle_s: float
    """After the start of a round's workers, which is no part of what watching costs."""
    idle_s: float


class Swarm(orders.Stage):
    """With a worker of the queue ops, which reads the swarm's figures; scraped while awake.

    Two of them take turns of seconds, as the machine differs by more than what is looked for
    from one minute to the next. The one whose turn it is not is stopped: its processes take
    nothing.
    """

    def __init__(self, broker: AmqpServer, ledger: str, folder: Path, stack: ExitStack) -> None:
        super().__init__(broker, ledger, folder, stack)
        self.is_watched = True
        self.pids: Mapping[str, int] = {}
        self._awake = threading.Event()

    @contextmanager
    def workers(self, count: int) -> Iterator[Mapping[str, int]]:
        self.environment["BOTSWARM_HEALTH_ENABLE"] = "on" if self.is_watched else "off"
        celery = [sys.executable, "-m", "celery", "-A", "botswarm"]
        # Not risk: to its sweeps thousands of orders a minute are a habit to be held up.
        ops = [*celery, "worker", "-Q", "ops", "-n", "ops@%h"]
        with ExitStack() as stack:
            pids = dict(stack.enter_context(super().workers(count)))
            pids["ops"] = stack.enter_context(tasks.running(self._start(ops))).pid
            self.pids = pids
            # What is stopped cannot be told to end.
            stack.callback(self.wake)
            self._awake.set()
            if self.is_watched:
                stack.enter_context(_scraping(self.exchange.state_dir, self._awake))
            yield pids

    def sleep(self) -> None:
        self._awake.clear()
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)
        self._awake.set()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids.values():
            os.killpg(pid, number)

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
def _scraping(state_dir: Path, awake: threading.Event) -> Iterator[None]:
    """Every so many seconds of those in which the swarm is awake."""
    stop = threading.Event()

    def scrape() -> None:
        waited_s = 0.0
        while not stop.wait(LOOK_S):
            waited_s += LOOK_S if awake.is_set() else 0.0
            if waited_s >= SCRAPE_EVERY_S:
                waited_s = 0.0
                ask.processes(state_dir, METRICS)
                ask.processes(state_dir, "/health")

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(slots=True)
class Turns:
    """Of one swarm, all of a round."""

    orders: int = 0
    lasted_s: float = 0.0
    spent_s: float = 0.0
    idle: list[float] = field(default_factory=list)

    @property
    def orders_per_s(self) -> float:
        return round(self.orders / self.lasted_s, 1)

    @property
    def cpu_ms_per_order(self) -> float:
        return self.spent_s / self.orders * 1e3

    @property
    def idle_percent(self) -> float:
        """Of one core, by all processes together, with nothing to do."""
        return statistics.fmean(self.idle)


def measured(load: Load, until: float, progress: Progress) -> dict[str, Any]:
    """As many rounds as were wished, or as are begun by ``until``; one at least."""
    with ExitStack() as stack:
        swarms = _swarm(stack), _swarm(stack)
        progress("the accounts are compared with their venues before anything may be sent")
        for swarm in swarms:
            swarm.reconcile()
        pairs: list[tuple[Turns, Turns]] = []
        while len(pairs) < load.rounds:
            if pairs and time.monotonic() > until:
                progress(f"time is up after {len(pairs)} of {load.rounds} rounds")
                break
            pairs.append(_round(swarms[:: -1 if len(pairs) % 2 else 1], load))
            plain, watched = pairs[-1]
            progress(
                f"round {len(pairs)} of {load.rounds}: {plain.orders_per_s} orders/s, watched "
                f"{watched.orders_per_s}; {plain.cpu_ms_per_order:.2f} ms of processor each, "
                f"watched {watched.cpu_ms_per_order:.2f}; idle {plain.idle_percent:.1f} % of a "
                f"core, watched {watched.idle_percent:.1f} %"
            )
    return _compared(pairs)


def _swarm(stack: ExitStack) -> Swarm:
    broker = stack.enter_context(EmbeddedBrokerServer())
    folder = Path(broker.data) / "bench-metrics"
    folder.mkdir(exist_ok=True)
    return Swarm(broker, "postgresql", folder, stack)


def _round(swarms: Sequence[Swarm], load: Load) -> tuple[Turns, Turns]:
    """The first is not watched, the second is; each goes first in every other pair of turns."""
    found = {swarm: Turns() for swarm in swarms}
    with ExitStack() as stack:
        for is_watched, swarm in enumerate(swarms):
            swarm.is_watched = bool(is_watched)
            stack.enter_context(swarm.workers(1))
        for swarm in swarms:
            _drain(swarm, load.orders, Turns())
        time.sleep(load.settle_s)
        for number in range(load.drains):
            for swarm in swarms[:: -1 if number % 2 else 1]:
                with _alone(swarm, swarms):
                    _drain(swarm, load.orders, found[swarm])
        for number in range(IDLE_SPELLS):
            for swarm in swarms[:: -1 if number % 2 else 1]:
                with _alone(swarm, swarms):
                    found[swarm].idle.append(_percent_of_core(swarm, load.idle_s))
    plain, watched = found.values()
    return plain, watched


@contextmanager
def _alone(swarm: Swarm, swarms: Sequence[Swarm]) -> Iterator[None]:
    others = [each for each in swarms if each is not swarm]
    for other in others:
        other.sleep()
    try:
        yield
    finally:
        for other in others:
            other.wake()


def _drain(swarm: Swarm, count: int, turns: Turns) -> None:
    """The processor time of all processes, and the seconds from the first order to the last."""
    before = len(swarm.accepted_ms())
    swarm.listen(False)
    placed = swarm.queue(count)
    used = _used_s(swarm)
    swarm.listen(True)
    swarm.wait_for(before + count)
    turns.spent_s += _used_s(swarm) - used
    answered = swarm.answered(placed).values()
    turns.lasted_s += (max(answered) - min(answered)).total_seconds()
    turns.orders += count


def _percent_of_core(swarm: Swarm, lasting_s: float) -> float:
    used, began = _used_s(swarm), time.monotonic()
    time.sleep(lasting_s)
    return 100 * (_used_s(swarm) - used) / (time.monotonic() - began)


def _used_s(swarm: Swarm) -> float:
    servers = {name: server.pid for name, server in swarm.servers.items()}
    return sum(used_s({**servers, **swarm.pids}).values())


def _compared(pairs: Sequence[tuple[Turns, Turns]]) -> dict[str, Any]:
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
