"""How long a scrape of each process of a swarm with many bots takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from botswarm.bench.bots import CLEAN
from botswarm.bench.loads import used_s
from botswarm.bench.orders import MARKETS
from botswarm.bots.spec import BotSpec
from botswarm.config import load
from botswarm.errors import BotswarmError, TimedOut
from botswarm.health import ask, card
from botswarm.health.card import Found
from botswarm.ledger import migrate
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import load as load_catalog

METRICS, READY = "/metrics", "/readyz"
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""As Prometheus asks."""
PROCESSES = 7
READY_S = 120.0
STOP_S = 60.0
ANSWER_S = 10.0
"""Prometheus waits no longer either."""
EVERY_S = 0.5
"""So that scrapes meet all that a process does now and then."""
SLOWER_MAX = 3
"""Where scrapes take so much longer than they should, there are fewer of them."""
TOLD_EVERY_S = 10.0

Progress = Callable[[str], None]


@dataclass(slots=True)
class Scraped:
    """One process."""

    pid: int
    took_ms: list[float] = field(default_factory=list)
    unanswered: int = 0
    page: bytes = b""


def measured(bots: int, scrapes: int, settle_s: float, progress: Progress) -> dict[str, Any]:
    """By process; raises TimedOut where the swarm cannot be brought up in time."""
    with (
        tempfile.TemporaryDirectory(prefix="botswarm-bench-metrics-") as name,
        _swarm(Path(name), bots, progress) as state_dir,
    ):
        progress(f"the swarm is ready; it takes up its bots for {settle_s:g} s")
        time.sleep(settle_s)
        _wait_told(state_dir, bots)
        found = card.found(state_dir)
        seen = {each.card.name: Scraped(each.card.pid) for each in found}
        pids = {name: each.pid for name, each in seen.items()}
        before, began = used_s(pids), time.monotonic()
        for number in range(scrapes):
            if time.monotonic() - began > SLOWER_MAX * EVERY_S * scrapes:
                progress(f"scrapes are slow: {number} of {scrapes} must do")
                break
            _scrape(found, seen)
            if (number + 1) % max(1, scrapes // 3) == 0:
                progress(f"scraped {number + 1} of {scrapes} times")
        after, lasted_s = used_s(pids), time.monotonic() - began
    check_bots(seen, bots)
    return {
        name: {
            **_spread(each),
            "percent_of_core_meanwhile": round(100 * (after[name] - before[name]) / lasted_s, 1),
        }
        for name, each in seen.items()
    }


def _scrape(found: Sequence[Found], seen: Mapping[str, Scraped]) -> None:
    """Each by itself: what one process takes must not be counted to another."""
    until = time.monotonic() + EVERY_S
    for each in found:
        one = seen[each.card.name]
        began = time.perf_counter()
        (said,) = ask.ask([each], METRICS, ANSWER_S, ACCEPT)
        one.took_ms.append((time.perf_counter() - began) * 1e3)
        if said.code == 200:
            one.page = said.body
        else:
            one.unanswered += 1
    time.sleep(max(0.0, until - time.monotonic()))


def _spread(scraped: Scraped) -> dict[str, Any]:
    took = sorted(scraped.took_ms)
    return {
        "p50_ms": round(statistics.median(took), 1),
        "p95_ms": round(took[len(took) * 95 // 100], 1),
        "longest_ms": round(took[-1], 1),
        "unanswered": scraped.unanswered,
        "series": len(samples_of(scraped.page)),
        "scrapes": len(took),
        "bytes": len(scraped.page),
    }


def _states(pages: Iterable[bytes]) -> dict[str, int]:
    return {
        sample.labels["state"]: int(sample.value)
        for page in pages
        for sample in samples_of(page)
        if sample.name == "botswarm_bots"
    }


def samples_of(page: bytes) -> list[Sample]:
    families = text_string_to_metric_families(  # type: ignore[no-untyped-call]
        page.decode() or "# EOF\n"
    )
    return [sample for family in families for sample in family.samples]


def _wait_told(state_dir: Path, bots: int) -> None:
    """The first look at the ledger comes when it comes; the pages are whole after it."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        said = ask.ask(card.found(state_dir), METRICS, ANSWER_S, ACCEPT)
        if _states(each.body for each in said if each.code == 200) == {"running": bots}:
            return
        time.sleep(EVERY_S)


def check_bots(seen: Mapping[str, Scraped], bots: int) -> None:
    """Figures of a swarm that has other bots than it should would be of something else."""
    states = _states(each.page for each in seen.values())
    if states != {"running": bots}:
        told = ", ".join(f"{many} {state}" for state, many in states.items()) or "none"
        raise BotswarmError(
            f"{bots} running bots were to be measured, and the swarm told of: {told}",
            cure="give it longer: run the bench on a machine that is otherwise idle",
        )


# --- the swarm ------------------------------------------------------------------------------------


@contextmanager
def _swarm(folder: Path, bots: int, progress: Progress) -> Iterator[Path]:
    """``botswarm up`` in a folder of its own, with its bots, once it is ready."""
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
        datetime.now(UTC), new=list(made_bots(bots)), actor="bench", reason="created"
    )
    ledger.close()
    log = folder / "up.log"
    with log.open("wb") as file:
        swarm = subprocess.Popen(
            [sys.executable, "-m", "botswarm", "up", "--no-demo"],
            cwd=folder,
            env={
                **CLEAN,
                **environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PYTHONWARNINGS": "ignore",
            },
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _wait_ready(swarm, state_dir, log, progress)
        yield state_dir
    finally:
        swarm.terminate()
        try:
            # It stops its processes in order; killed, it would leave them to end by themselves.
            swarm.wait(STOP_S)
        except subprocess.TimeoutExpired:
            progress(f"the swarm did not stop within {STOP_S:g} s and is killed")
            swarm.kill()
            swarm.wait()


def made_bots(count: int) -> Iterator[Bot]:
    """They decide, each a bit unlike its neighbours, and being shadows order nothing."""
    catalog = load_catalog()
    symbols = list(MARKETS)
    for number in range(count):
        spec = BotSpec.of(
            catalog,
            name=f"watched{number}",
            strategy="sma-cross",
            venue="simulated",
            symbol=symbols[number % len(symbols)],
            account="paper",
            timeframe="1m",
            parameters={"fast": 3 + number % 5, "slow": 20 + number % 30},
            is_shadow=True,
        )
        yield replace(spec.bot(), state=BotState.RUNNING)


def _wait_ready(
    swarm: subprocess.Popen[bytes], state_dir: Path, log: Path, progress: Progress
) -> None:
    began = told_at = time.monotonic()
    while True:
        said = ask.processes(state_dir, READY)
        missing = [f"{each.process.card.name}: {each.words}" for each in said if each.code != 200]
        if len(said) >= PROCESSES and not missing:
            return
        words = f"{len(said) - len(missing)} of {PROCESSES} processes are ready"
        words = "; ".join([words, *missing])
        now = time.monotonic()
        if swarm.poll() is not None:
            raise BotswarmError(
                f"the swarm ended by itself ({words}); its last words: {_last_words(log)}",
                cure="botswarm doctor",
            )
        if now - began > READY_S:
            raise TimedOut(
                f"the swarm was not ready within {READY_S:g} s: {words}; its last words: "
                f"{_last_words(log)}",
                cure="run the bench on a machine that is otherwise idle",
            )
        if now - told_at > TOLD_EVERY_S:
            told_at = now
            progress(words)
        time.sleep(0.2)


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-500:].strip() or "none"
