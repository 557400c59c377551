"""What it costs to be watched: scrapes of a swarm with many bots, and orders with and without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botswarm.bench import orders, tasks
from botswarm.bench.bots import CLEAN
from botswarm.bench.loads import used_s
from botswarm.config import load
from botswarm.errors import TimedOut
from botswarm.health import ask, card
from botswarm.ledger import migrate
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import EmbeddedBrokerServer

SCRAPE_MAX_MS = 100.0
COST_MAX = 0.03
METRICS, READY = "/metrics", "/readyz"
PROCESSES = 7
PATIENCE_S = 180.0
SCRAPE_EVERY_S = 5.0
"""Three times as often as Prometheus would."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    bots: int = 10_000
    scrapes: int = 40
    settle_s: float = 30.0
    """The swarm has taken up its bots by then."""
    orders: int = 1500
    rounds: int = 5
    idle_s: float = 30.0
    """So long nothing is to be done, watched and not, and all processor time is counted."""


QUICK = Size(bots=2000, scrapes=10, settle_s=5.0, orders=200, rounds=1, idle_s=5.0)


def main(*, size: Size, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Figures as plain data; docs/bench.md says under each key exactly what is measured."""
    progress(f"a swarm of {size.bots:,} bots is started and scraped")
    scrapes = _scraped(size)
    progress("orders through one worker, watched and not, in turn")
    cost = _cost(size, progress)
    return {
        "command": "botswarm bench metrics",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "bots": size.bots,
        "scrapes": scrapes,
        "scrape_is_met": all(each["p99_ms"] < SCRAPE_MAX_MS for each in scrapes.values()),
        "cost": cost,
        "cost_is_met": cost["of_machine"] < COST_MAX,
    }


# --- scrapes --------------------------------------------------------------------------------------


def _scraped(size: Size) -> dict[str, dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory(prefix="botswarm-bench-metrics-") as name,
        _swarm(Path(name), size) as state_dir,
    ):
        _wait_ready(state_dir)
        time.sleep(size.settle_s)
        found = {each.card.name: each for each in card.found(state_dir)}
        took: dict[str, list[float]] = {name: [] for name in found}
        bytes_read = dict.fromkeys(found, 0)
        before = used_s({name: each.card.pid for name, each in found.items()})
        for _ in range(size.scrapes):
            for name, each in found.items():
                began = time.perf_counter()
                (said,) = ask.ask([each], METRICS, PATIENCE_S)
                took[name].append((time.perf_counter() - began) * 1e3)
                bytes_read[name] = len(said.body)
            time.sleep(0.05)
        after = used_s({name: each.card.pid for name, each in found.items()})
        return {
            name: {
                "p50_ms": round(statistics.median(times), 1),
                "p99_ms": round(sorted(times)[len(times) * 99 // 100], 1),
                "bytes": bytes_read[name],
                "cpu_s_meanwhile": round(after[name] - before[name], 2),
            }
            for name, times in took.items()
        }


@contextmanager
def _swarm(folder: Path, size: Size) -> Iterator[Path]:
    """``botswarm up`` in a folder of its own, with its bots."""
    state_dir = folder / ".botswarm"
    environ = {
        "BOTSWARM_STATE_DIR": str(state_dir),
        "BOTSWARM_LOG_LEVEL": "warning",
        "BOTSWARM_EXCHANGE_ORDERS_PER_10S_MAX": "1000000",
    }
    ledger = Ledger(load(environ=environ, folder=folder).settings.database_url)
    state_dir.mkdir(mode=0o700)
    migrate.migrate(ledger.database)
    ledger.changes.save(
        datetime.now(UTC), new=list(_bots(size.bots)), actor="bench", reason="created"
    )
    ledger.close()
    path = str(Path(__file__).parents[2])
    with (folder / "up.log").open("wb") as log:
        swarm = subprocess.Popen(
            [sys.executable, "-m", "botswarm", "up", "--no-demo"],
            cwd=folder,
            env={**CLEAN, **environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield state_dir
    finally:
        swarm.terminate()
        try:
            # It stops its processes in order; killed, it would leave them to end by themselves.
            swarm.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            swarm.kill()


def _bots(count: int) -> Iterator[Bot]:
    symbols = list(orders.MARKETS)
    for number in range(count):
        yield Bot(
            name=f"watched{number}",
            strategy="sma_cross",
            venue="simulated",
            symbol=symbols[number % len(symbols)],
            account="paper",
            timeframe="1m",
            parameters={"fast": 3 + number % 5, "slow": 20 + number % 30},
            state=BotState.RUNNING,
        )


def _wait_ready(state_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        said = ask.processes(state_dir, READY)
        if len(said) >= PROCESSES and all(each.code == 200 for each in said):
            return
        if time.monotonic() > deadline:
            names = ", ".join(each.process.card.name for each in said if each.code != 200)
            raise TimedOut(
                f"the swarm was not ready within {PATIENCE_S:g} s: {names or len(said)}",
                cure="run the bench on a machine that is otherwise idle",
            )
        time.sleep(0.2)


# --- what it costs --------------------------------------------------------------------------------


class Watched(orders.Stage):
    """With a worker of the queue ops, which reads the swarm's figures; scraped all the time."""

    is_watched = True

    @contextmanager
    def workers(self, count: int) -> Iterator[Mapping[str, int]]:
        self.environment["BOTSWARM_HEALTH_ENABLE"] = "on" if self.is_watched else "off"
        celery = [sys.executable, "-m", "celery", "-A", "botswarm"]
        ops = [*celery, "worker", "-Q", "ops,risk", "-n", "ops@%h"]
        with ExitStack() as stack:
            pids = dict(stack.enter_context(super().workers(count)))
            pids["ops"] = stack.enter_context(tasks.running(self._start(ops))).pid
            if self.is_watched:
                stack.enter_context(_scraping(self.exchange.state_dir))
            yield pids


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


def _cost(size: Size, progress: Progress) -> dict[str, Any]:
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBrokerServer())
        folder = Path(broker.data) / "bench-metrics"
        folder.mkdir(exist_ok=True)
        stage = Watched(broker, "postgresql", folder, stack)
        stage.reconcile()
        load_size = orders.Size(orders=size.orders, rate=1, seconds=1, workers=(1,), noops=1)
        idle = _idle(stage, size, progress)
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for number in range(size.rounds):
            found = {}
            # Each is first in every other round: what the machine does meanwhile hits both.
            for is_watched in (True, False) if number % 2 else (False, True):
                stage.is_watched = is_watched
                found[is_watched] = orders.drained(stage, 1, load_size)
            pairs.append((found[False], found[True]))
            plain, watched = (each["orders_per_s"] for each in pairs[-1])
            progress(f"round {number + 1}: {plain} orders/s, watched {watched}")
    return {**idle, **_compared(pairs)}


def _idle(stage: Watched, size: Size, progress: Progress) -> dict[str, float]:
    """What watching takes while nothing else is done: less noisy than any rate of orders."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for is_watched in (False, True, True, False):
        stage.is_watched = is_watched
        with stage.workers(1) as pids:
            pids = {**{name: server.pid for name, server in stage.servers.items()}, **pids}
            time.sleep(size.idle_s)  # they have started by then
            used, began = sum(used_s(pids).values()), time.monotonic()
            time.sleep(size.idle_s)
            took_s = time.monotonic() - began
            found[is_watched].append(100 * (sum(used_s(pids).values()) - used) / took_s)
    plain, watched = (statistics.mean(found[each]) for each in (False, True))
    progress(f"idle: {plain:.1f} % of a core, watched {watched:.1f} %")
    return {
        "idle_percent_of_core": round(plain, 2),
        "watched_idle_percent_of_core": round(watched, 2),
        "of_machine": round((watched - plain) / 100 / (os.cpu_count() or 1), 4),
    }


def _compared(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    def cpu(run: Mapping[str, Any]) -> float:
        return float(sum(run["cpu_ms_per_order"].values()))

    rates = [watched["orders_per_s"] / plain["orders_per_s"] for plain, watched in pairs]
    spent = [cpu(watched) / cpu(plain) for plain, watched in pairs]
    return {
        "rounds": len(pairs),
        "orders_per_s": [plain["orders_per_s"] for plain, _ in pairs],
        "watched_orders_per_s": [watched["orders_per_s"] for _, watched in pairs],
        "share": round(1 - statistics.median(rates), 4),
        "share_lowest": round(1 - max(rates), 4),
        "share_highest": round(1 - min(rates), 4),
        "cpu_share": round(statistics.median(spent) - 1, 4),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{figures['command']}, {figures['began_at']}, {figures['bots']:,} bots",
        f"{'a scrape of':<24}{'p50 ms':>9}{'p99 ms':>9}{'bytes':>10}",
    ]
    for name, each in figures["scrapes"].items():
        lines.append(f"{name:<24}{each['p50_ms']:>9}{each['p99_ms']:>9}{each['bytes']:>10,}")
    cost = figures["cost"]
    lines.append(
        f"idle {cost['idle_percent_of_core']} % of a core, watched "
        f"{cost['watched_idle_percent_of_core']} %: {100 * cost['of_machine']:.1f} % of all cores"
    )
    lines.append(
        f"watched, {100 * cost['share']:.1f} % fewer orders/s (median of {cost['rounds']} pairs, "
        f"{100 * cost['share_lowest']:.1f} to {100 * cost['share_highest']:.1f} %); "
        f"{100 * cost['cpu_share']:.1f} % more processor time an order"
    )
    for name, words in (
        ("scrape_is_met", "each scrape < 100 ms"),
        ("cost_is_met", "watching takes < 3 % of this machine"),
    ):
        lines.append(f"{words}: {'yes' if figures[name] else 'NO'}")
    return "\n".join(lines)
