"""What watching costs: orders through one worker by turns, some of them watched and some not."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botswarm import metrics
from botswarm.bench import orders, tasks
from botswarm.bench.loads import used_s
from botswarm.bench.scrapes import ACCEPT, ANSWER_S, METRICS, samples_of
from botswarm.errors import TimedOut
from botswarm.families import names_of
from botswarm.health import ask, card
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer

SCRAPE_EVERY_S = 5.0
"""Three times as often as Prometheus would."""
LOOK_S = 0.1
EDGE = 20
"""The first and the last twentieth of a turn's orders say little about how fast it went."""
SETTLE_S = 5.0
"""What begins to be watched has caught up by then."""
COUNTS_TRIED = 50_000
WATCHER = "watcher"
THREADS = names_of(metrics.WATCHING_CPU_SECONDS)
COUNTS = frozenset(
    name
    for family in metrics.COUNTED
    for name in names_of(family)
    if name.endswith(("_total", "_count"))
)

STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)
"""By degrees of freedom."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    orders: int
    """In each turn: so few that none is rung for again while they are queued."""
    pairs: int
    """Of turns in a round, one watched and one not."""
    rounds: int
    """Each with new processes."""
    settle_s: float
    """After the start of a round's workers, which is no part of what watching costs."""
    idle_s: float


class Swarm(orders.Stage):
    """With a worker of the queue ops that works and watches nothing, and one that only watches.

    Watching is stopped and goes on while the same processes work: new ones differ from others of
    their kind by more than what is looked for.
    """

    def __init__(self, broker: AmqpServer, ledger: str, folder: Path, stack: ExitStack) -> None:
        super().__init__(broker, ledger, folder, stack)
        self.pids: Mapping[str, int] = {}
        self._is_watched = threading.Event()

    @contextmanager
    def workers(self, count: int) -> Iterator[Mapping[str, int]]:
        celery = [sys.executable, "-m", "celery", "-A", "botswarm"]
        # Not risk: to its sweeps thousands of orders a minute are a habit to be held up.
        ops = [*celery, "worker", "-Q", "ops", "-n"]
        with ExitStack() as stack:
            pids = dict(stack.enter_context(super().workers(count)))
            working = self._start([*ops, "ops@%h"], BOTSWARM_HEALTH_ENABLE="off")
            pids["ops"] = stack.enter_context(tasks.running(working)).pid
            watching = self._start([*ops, f"{WATCHER}@%h"])
            pids[WATCHER] = stack.enter_context(tasks.running(watching)).pid
            self.pids = pids
            # What is stopped cannot be told to end.
            stack.callback(self.watch, True)
            self.watch(True)
            self.listen(False, "ops", WATCHER)
            stack.enter_context(_scraping(self.exchange.state_dir, self._is_watched))
            yield pids

    def watch(self, wanted: bool) -> None:
        """Have the watching worker run and every process be scraped, or neither."""
        if wanted:
            os.killpg(self.pids[WATCHER], signal.SIGCONT)
            self._is_watched.set()
        else:
            self._is_watched.clear()
            os.killpg(self.pids[WATCHER], signal.SIGSTOP)

    def listen(self, wanted: bool, queue: str = "orders", worker: str = "orders") -> None:
        """Have a worker take from a queue, or leave what comes."""
        tell = self.app.control.add_consumer if wanted else self.app.control.cancel_consumer
        deadline = time.monotonic() + orders.PATIENCE_S
        while not tell(queue, reply=True, timeout=2, limit=1, pattern=f"{worker}*", matcher="glob"):
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"no worker of the queue {queue} answered within {orders.PATIENCE_S:g} s",
                    cure="run the bench on a machine that is otherwise idle",
                )

    def told(self) -> Told:
        """By the processes that work: what only watches stands still every other turn."""
        found = card.found(self.exchange.state_dir)
        working = [each for each in found if each.card.pid != self.pids[WATCHER]]
        pages = [said.body for said in ask.ask(working, METRICS, ANSWER_S, ACCEPT)]
        told = [sample for page in pages for sample in samples_of(page)]
        return Told(
            threads_s=sum(each.value for each in told if each.name in THREADS),
            counts=sum(each.value for each in told if each.name in COUNTS),
        )


@contextmanager
def _scraping(state_dir: Path, is_watched: threading.Event) -> Iterator[None]:
    """Every so many seconds of those that are watched."""
    stop = threading.Event()

    def scrape() -> None:
        waited_s = 0.0
        while not stop.wait(LOOK_S):
            waited_s += LOOK_S if is_watched.is_set() else 0.0
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


# --- turns ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """By the pages of all processes that work, since they were started."""

    threads_s: float
    """Processor time of their threads that watch."""
    counts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    orders_per_s: float
    cpu_ms_per_order: float
    """Of all processes, the servers too."""
    steady_ms_per_order: float
    """Of it what watching takes that no turn is without: threads of their own, and counting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    plain: Turn
    watched: Turn

    @property
    def steady(self) -> float:
        """As a share of all that an order takes."""
        return self.plain.steady_ms_per_order / self.plain.cpu_ms_per_order

    @property
    def share(self) -> float:
        """By how much fewer orders a second were filled."""
        return 1 - self.watched.orders_per_s / self.plain.orders_per_s + self.steady

    @property
    def cpu_share(self) -> float:
        """How much more processor time an order took."""
        return self.watched.cpu_ms_per_order / self.plain.cpu_ms_per_order - 1 + self.steady


@dataclass(frozen=True, slots=True)
class Idle:
    """Percent of one core, by all processes together, with nothing to do."""

    plain: float
    watched: float
    steady: float
    """Of both."""

    @property
    def of_machine(self) -> float:
        return (self.watched - self.plain + self.steady) / 100 / (os.cpu_count() or 1)


def measured(load: Load, until: float, progress: Progress) -> dict[str, Any]:
    """As many rounds as were wished, or as are begun by ``until``; one at least."""
    count_s = _count_s()
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBrokerServer())
        folder = Path(broker.data) / "bench-metrics"
        folder.mkdir(exist_ok=True)
        swarm = Swarm(broker, "postgresql", folder, stack)
        progress("the account is compared with its venue before anything may be sent")
        swarm.reconcile()
        pairs: list[Pair] = []
        idle: list[Idle] = []
        while len(idle) < load.rounds:
            if idle and time.monotonic() > until:
                progress(f"time is up after {len(idle)} of {load.rounds} rounds")
                break
            with swarm.workers(1):
                pairs += _pairs(swarm, load, count_s)
                idle.append(_idle(swarm, load.idle_s))
            progress(f"round {len(idle)} of {load.rounds}: {_words(pairs[-load.pairs :])}")
    return {"rounds": len(idle), "count_us": round(count_s * 1e6, 2), **_compared(pairs, idle)}


def _pairs(swarm: Swarm, load: Load, count_s: float) -> list[Pair]:
    """Each begins with the turn that the one before ended with: half as many changes."""
    _turn(swarm, load.orders, count_s)
    time.sleep(load.settle_s)
    found = []
    for number in range(load.pairs):
        turns: dict[bool, Turn] = {}
        for is_watched in (True, False)[:: -1 if number % 2 else 1]:
            swarm.watch(is_watched)
            turns[is_watched] = _turn(swarm, load.orders, count_s)
        found.append(Pair(plain=turns[False], watched=turns[True]))
    return found


def _turn(swarm: Swarm, count: int, count_s: float) -> Turn:
    """What begins to be watched has a lot to catch up with: that is while orders are queued."""
    before = len(swarm.accepted_ms())
    swarm.listen(False)
    placed = swarm.queue(count)
    told, used = swarm.told(), _used_s(swarm)
    swarm.listen(True)
    swarm.wait_for(before + count)
    spent_s, now = _used_s(swarm) - used, swarm.told()
    steady_s = now.threads_s - told.threads_s + (now.counts - told.counts) * count_s
    answered = sorted(swarm.answered(placed).values())
    first, last = len(answered) // EDGE, -1 - len(answered) // EDGE
    lasted_s = (answered[last] - answered[first]).total_seconds()
    return Turn(
        orders_per_s=(len(answered) - 1 - 2 * (len(answered) // EDGE)) / lasted_s,
        cpu_ms_per_order=spent_s / count * 1e3,
        steady_ms_per_order=steady_s / count * 1e3,
    )


def _idle(swarm: Swarm, lasting_s: float) -> Idle:
    percents: dict[bool, float] = {}
    steady = 0.0
    for is_watched in (True, False):
        swarm.watch(is_watched)
        time.sleep(SETTLE_S)
        told, used, began = swarm.told().threads_s, _used_s(swarm), time.monotonic()
        time.sleep(lasting_s)
        lasted_s = time.monotonic() - began
        percents[is_watched] = 100 * (_used_s(swarm) - used) / lasted_s
        steady = 100 * (swarm.told().threads_s - told) / lasted_s
    return Idle(plain=percents[False], watched=percents[True], steady=steady)


def _used_s(swarm: Swarm) -> float:
    servers = {name: server.pid for name, server in swarm.servers.items()}
    return sum(used_s({**servers, **swarm.pids}).values())


def _count_s() -> float:
    """Processor time of one count, the dearer kind."""
    began = time.thread_time()
    for _ in range(COUNTS_TRIED):
        metrics.TASK_SECONDS.labels("bench").observe(0.01)
    return (time.thread_time() - began) / COUNTS_TRIED


# --- what they say --------------------------------------------------------------------------------


def _words(pairs: Sequence[Pair]) -> str:
    plain, watched = _rate(pairs, False), _rate(pairs, True)
    share = statistics.fmean(each.share for each in pairs)
    cpu_share = statistics.fmean(each.cpu_share for each in pairs)
    return (
        f"{plain} orders/s, watched {watched}; watching takes {100 * share:.1f} % of the orders/s "
        f"and {100 * cpu_share:.1f} % of an order's processor time"
    )


def _rate(pairs: Sequence[Pair], is_watched: bool) -> float:
    turns = [each.watched if is_watched else each.plain for each in pairs]
    return round(statistics.harmonic_mean([each.orders_per_s for each in turns]), 1)


def _compared(pairs: Sequence[Pair], idle: Sequence[Idle]) -> dict[str, Any]:
    plain = [each.plain for each in pairs]
    return {
        "pairs": len(pairs),
        "orders_per_s": _rate(pairs, False),
        "watched_orders_per_s": _rate(pairs, True),
        "cpu_ms_per_order": _mean(each.cpu_ms_per_order for each in plain),
        "watched_cpu_ms_per_order": _mean(each.watched.cpu_ms_per_order for each in pairs),
        "steady_ms_per_order": _mean(each.steady_ms_per_order for each in plain),
        "share": _mean(each.share for each in pairs),
        "share_within": interval([each.share for each in pairs]),
        "cpu_share": _mean(each.cpu_share for each in pairs),
        "cpu_share_within": interval([each.cpu_share for each in pairs]),
        "idle_percent_of_core": _mean(each.plain for each in idle),
        "watched_idle_percent_of_core": _mean(each.watched for each in idle),
        "steady_percent_of_core": _mean(each.steady for each in idle),
        "of_machine": _mean(each.of_machine for each in idle),
        "of_machine_within": interval([each.of_machine for each in idle]),
    }


def _mean(values: Iterable[float]) -> float:
    return round(statistics.fmean(values), 4)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the mean of endlessly many lies, 95 times of 100; None where one says nothing.

    By Student's distribution: turns on a shared machine differ by more than what is looked for.
    """
    if len(values) < 2:
        return None
    mean, freedom = statistics.fmean(values), len(values) - 1
    error = statistics.stdev(values) / len(values) ** 0.5
    reach = error * STUDENT_95[min(freedom, len(STUDENT_95)) - 1]
    return round(mean - reach, 4), round(mean + reach, 4)
