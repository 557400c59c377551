"""What watching costs: its processor time while orders are filled, and turns with and without."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2

from botswarm import metrics
from botswarm.bench import orders, tasks
from botswarm.bench.loads import ended_s, used_s
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
READ_S = 5.0
"""All that has happened until now is read and counted by then."""
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
    drained: int
    """Orders of a round's long turn, which is watched."""
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
        self._tell_server("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")

    def tidy(self) -> None:
        """When nobody measures: what PostgreSQL tidies by itself now and then takes more of the
        processor than what is looked for.
        """
        self._tell_server("VACUUM ANALYZE")

    def _tell_server(self, *statements: str) -> None:
        url = self.environment["BOTSWARM_DATABASE_URL"].replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for statement in statements:
                cursor.execute(statement)

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

    def used(self, count_s: float) -> Used:
        servers = {name: server.pid for name, server in self.servers.items()}
        found = used_s({**servers, **self.pids})
        return Used(
            total=sum(found.values()),
            ledger=found["postgresql"],
            asked=ended_s(servers["postgresql"]),
            servers=found["broker"] + found["exchange"],
            watching=found[WATCHER] + self._told(count_s),
        )

    def _told(self, count_s: float) -> float:
        """What the other processes say of themselves: their threads, and what they counted."""
        found = card.found(self.exchange.state_dir)
        working = [each for each in found if each.card.pid != self.pids[WATCHER]]
        pages = [said.body for said in ask.ask(working, METRICS, ANSWER_S, ACCEPT)]
        told = [sample for page in pages for sample in samples_of(page)]
        threads_s = sum(each.value for each in told if each.name in THREADS)
        return threads_s + count_s * sum(each.value for each in told if each.name in COUNTS)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Processor time, in seconds."""

    total: float
    """Of all processes, the servers too."""
    ledger: float
    asked: float
    """Of it what connections took that are gone: whoever watches makes a new one for each look."""
    servers: float
    """The broker and the exchange."""
    watching: float
    """What is known to be nothing else: the process that only watches, the others' threads for
    it, and counting.
    """

    def __sub__(self, other: Used) -> Used:
        return Used(**{name: value - getattr(other, name) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    orders: int
    orders_per_s: float
    lasted_s: float
    spent: Used

    @property
    def cpu_ms_per_order(self) -> float:
        return self.spent.total / self.orders * 1e3

    @property
    def asked(self) -> float:
        """In seconds a second."""
        return self.spent.asked / self.lasted_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """With nothing to do, in shares of one core."""

    plain: Used
    watched: Used

    @property
    def servers(self) -> float:
        """How much more broker and exchange took while they were asked."""
        return self.watched.servers - self.plain.servers

    @property
    def ledger(self) -> float:
        return self.watched.ledger - self.plain.ledger

    @property
    def of_machine(self) -> float:
        return (self.watched.watching + self.servers + self.ledger) / (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    long: Turn
    """Watched, and the watching counted until all that it brought has been read."""
    pairs: Sequence[tuple[Turn, Turn]]
    """Not watched, and watched."""
    idle: Idle

    @property
    def asked(self) -> float:
        """What looks took of the ledger in the long turn: other connections end, too, and as many
        when nobody watches.
        """
        plain = statistics.fmean(plain.asked for plain, _ in self.pairs)
        return self.long.spent.asked - plain * self.long.lasted_s

    @property
    def taken(self) -> float:
        """The share of the processor time that went into watching while orders were filled."""
        servers = self.idle.servers * self.long.lasted_s
        return (self.long.spent.watching + self.asked + servers) / self.long.spent.total

    @property
    def fewer(self) -> Sequence[float]:
        """By which share fewer orders a second were filled, by pairs."""
        return [1 - watched.orders_per_s / plain.orders_per_s for plain, watched in self.pairs]

    @property
    def dearer(self) -> Sequence[float]:
        """By which share more processor time an order took."""
        return [
            watched.cpu_ms_per_order / plain.cpu_ms_per_order - 1 for plain, watched in self.pairs
        ]


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
        rounds: list[Round] = []
        while len(rounds) < load.rounds:
            if rounds and time.monotonic() > until:
                progress(f"time is up after {len(rounds)} of {load.rounds} rounds")
                break
            with swarm.workers(1):
                rounds.append(_round(swarm, load, count_s))
            progress(f"round {len(rounds)} of {load.rounds}: {_words(rounds[-1])}")
    return {"count_us": round(count_s * 1e6, 2), **_compared(rounds)}


def _round(swarm: Swarm, load: Load, count_s: float) -> Round:
    _turn(swarm, load.orders, count_s)
    swarm.tidy()
    time.sleep(load.settle_s)
    long = _turn(swarm, load.drained, count_s, read_s=READ_S)
    pairs = []
    for number in range(load.pairs):
        turns: dict[bool, Turn] = {}
        # Each begins as the one before ended: half as many changes.
        for is_watched in (True, False)[:: -1 if number % 2 else 1]:
            swarm.watch(is_watched)
            turns[is_watched] = _turn(swarm, load.orders, count_s)
        pairs.append((turns[False], turns[True]))
    idle = {is_watched: _idle(swarm, is_watched, load, count_s) for is_watched in (True, False)}
    return Round(long=long, pairs=pairs, idle=Idle(plain=idle[False], watched=idle[True]))


def _turn(swarm: Swarm, count: int, count_s: float, read_s: float = 0.0) -> Turn:
    """What begins to be watched has a lot to catch up with: that is while orders are queued."""
    before = len(swarm.accepted_ms())
    swarm.listen(False)
    placed = swarm.queue(count)
    began, used = time.monotonic(), swarm.used(count_s)
    swarm.listen(True)
    swarm.wait_for(before + count)
    spent = swarm.used(count_s) - used
    if read_s:
        time.sleep(read_s)
        late = swarm.used(count_s) - used
        spent = replace(spent, watching=late.watching, asked=late.asked)
    lasted_s = time.monotonic() - began
    answered = sorted(swarm.answered(placed).values())
    first, last = len(answered) // EDGE, -1 - len(answered) // EDGE
    middle_s = (answered[last] - answered[first]).total_seconds()
    return Turn(
        orders=count,
        orders_per_s=(len(answered) - 1 - 2 * first) / middle_s,
        lasted_s=lasted_s,
        spent=spent,
    )


def _idle(swarm: Swarm, is_watched: bool, load: Load, count_s: float) -> Used:
    """By the second."""
    swarm.watch(is_watched)
    time.sleep(READ_S)
    used, began = swarm.used(count_s), time.monotonic()
    time.sleep(load.idle_s)
    spent, lasted_s = swarm.used(count_s) - used, time.monotonic() - began
    return Used(**{name: value / lasted_s for name, value in asdict(spent).items()})


def _count_s() -> float:
    """Processor time of one count, the dearer kind."""
    began = time.thread_time()
    for _ in range(COUNTS_TRIED):
        metrics.TASK_SECONDS.labels("bench").observe(0.01)
    return (time.thread_time() - began) / COUNTS_TRIED


# --- what they say --------------------------------------------------------------------------------


def _words(found: Round) -> str:
    plain, watched = _rates([found])
    return (
        f"watching took {100 * found.taken:.2f} % of the processor time of {found.long.orders} "
        f"orders, and with nothing to do {100 * found.idle.of_machine:.2f} % of all cores; "
        f"{plain} orders/s, watched {watched}"
    )


def _rates(rounds: Sequence[Round]) -> tuple[float, float]:
    pairs = [pair for each in rounds for pair in each.pairs]
    plain, watched = (
        statistics.harmonic_mean([each.orders_per_s for each in turns])
        for turns in zip(*pairs, strict=True)
    )
    return round(plain, 1), round(watched, 1)


def _compared(rounds: Sequence[Round]) -> dict[str, Any]:
    taken, of_machine = ([each.taken for each in rounds], [e.idle.of_machine for e in rounds])
    fewer = [each for found in rounds for each in found.fewer]
    dearer = [each for found in rounds for each in found.dearer]
    plain, watched = _rates(rounds)
    ms = [1e3 / each.long.orders for each in rounds]
    return {
        "rounds": len(rounds),
        "pairs": len(fewer),
        "taken": _mean(taken),
        "taken_within": interval(taken),
        "cpu_ms_per_order": _mean(each.long.cpu_ms_per_order for each in rounds),
        "watching_ms_per_order": _mean(
            each.long.spent.watching * in_ms for each, in_ms in zip(rounds, ms, strict=True)
        ),
        "asked_ms_per_order": _mean(
            each.asked * in_ms for each, in_ms in zip(rounds, ms, strict=True)
        ),
        "of_machine": _mean(of_machine),
        "of_machine_within": interval(of_machine),
        "idle_percent_of_core": _mean(100 * each.idle.plain.total for each in rounds),
        "watched_idle_percent_of_core": _mean(100 * each.idle.watched.total for each in rounds),
        "watching_percent_of_core": _mean(100 * each.idle.watched.watching for each in rounds),
        "servers_percent_of_core": _mean(100 * each.idle.servers for each in rounds),
        "ledger_percent_of_core": _mean(100 * each.idle.ledger for each in rounds),
        "orders_per_s": plain,
        "watched_orders_per_s": watched,
        "fewer": _mean(fewer),
        "fewer_within": interval(fewer),
        "dearer": _mean(dearer),
        "dearer_within": interval(dearer),
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
