"""What a swarm of thousands of bots costs: the whole of it running, fed by a loopback venue."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from botswarm.bench import evaluation_probe as probe
from botswarm.bench.forms import forms
from botswarm.bench.freqtrade import idle_freqtrade
from botswarm.bench.loads import family, pss_mb, used_s
from botswarm.bench.stream_server import StreamServer
from botswarm.errors import BotswarmError, TimedOut
from botswarm.strategies.registry import BUILT_IN
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    PostgreSQLServer,
    RabbitMQServer,
    Server,
)

MARKETS, SECONDS = 100, 60
SIZES = (1_000, 10_000, 100_000)
WARM_UP_S = 300.0
SETTLE_S, SETTLE_QUICK_S = 75.0, 10.0
"""Until the first whole minute has closed, and what the feed missed of it is mended."""
QUOTES_OVER_S = 2.0
DUE_S = 1.0
LATE_S = 0.5
"""A market's next evaluation is due a second after the last one, give or take this."""
STRATEGIES = 5
TIMEFRAMES = ("1m", "5m", "15m", "1h")
PROBED = ("-I", "botswarm.bench.evaluation_probe", "--loglevel", "warning")
PROGRAMS = (sys.executable, "-m")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    bots: int
    markets: int = MARKETS
    seconds: int = SECONDS
    broker: str = "embedded"
    ledger: str = "sqlite"
    workers: int = 1
    settle_s: float = 75.0


class Swarm(Server):
    """All that ``botswarm up`` runs but the exchange, whose place the loopback venue takes."""

    name = "swarm"

    def __init__(self, load: Load, venue: StreamServer, broker: AmqpServer, database: str) -> None:
        super().__init__()
        self.load = load
        self.state_dir = venue.state_dir
        self._environment = {
            "PATH": os.defpath,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "BOTSWARM_STATE_DIR": str(venue.state_dir),
            "BOTSWARM_BROKER_URL": broker.url(),
            "BOTSWARM_DATABASE_URL": database,
            "BOTSWARM_BOT_MAX_CONCURRENT": str(10 * load.bots),
            "BOTSWARM_LOG_LEVEL": "warning",
            "BOTSWARM_LOG_FORMAT": "json",
        }

    def command(self, *words: str | Path) -> float:
        """Run one of ours to its end; how long it took."""
        began = time.monotonic()
        done = subprocess.run(
            [*PROGRAMS, "botswarm", *map(str, words)],
            env=self._environment,
            cwd=self.data,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            told = (done.stderr or done.stdout).strip()
            raise BotswarmError(f"botswarm {' '.join(map(str, words))} failed: {told}")
        return time.monotonic() - began

    def _launch(self) -> None:
        botswarm, celery = [*PROGRAMS, "botswarm"], [*PROGRAMS, "botswarm.cli.celery_command"]
        lines = [[*botswarm, "run", "feed"]]
        lines += [
            [*celery, "worker", "-Q", "strategy", "-n", f"strategy{number}@%h", *PROBED]
            for number in range(self.load.workers)
        ]
        lines += [
            [*botswarm, "run", "worker", "-Q", "orders"],
            [*botswarm, "run", "worker", "-Q", "risk,ops,backtest"],
            [*botswarm, "run", "beat"],
        ]
        for line in lines:
            self._run(line, environment=self._environment)

    def _is_ready(self) -> bool:
        return True

    def processes(self) -> Mapping[str, int]:
        """By name, those that ``_launch`` started."""
        names = ["feed", *(f"strategy{n}" for n in range(self.load.workers))]
        names += ["orders", "risk,ops,backtest", "beat"]
        return dict(zip(names, (each.pid for each in self._processes), strict=True))


# --- one size -------------------------------------------------------------------------------------


def measure(load: Load, progress: Progress) -> dict[str, Any]:
    """Start a swarm, wait until every bot was evaluated, and look at it for so many seconds."""
    broker: AmqpServer = RabbitMQServer() if load.broker == "rabbitmq" else EmbeddedBrokerServer()
    venue = StreamServer(
        markets=load.markets, trades_per_s=load.markets, quotes_per_s=load.markets / 10
    )
    servers: list[Server] = [broker, venue]
    if load.ledger == "postgresql":
        servers.append(PostgreSQLServer())
    try:
        for server in servers:
            server.start()
        swarm = Swarm(load, venue, broker, _database(load, servers))
        servers.append(swarm)
        swarm.data.mkdir(parents=True, exist_ok=True)
        swarm.command("db", "migrate")
        bots = swarm.data / "bots.toml"
        bots.write_text(bots_toml(load, venue.symbols))
        progress(f"{load.bots} bots, {load.broker}, {load.ledger}: creating them")
        created_s = swarm.command("bot", "import", "--start", "--yes", bots)
        swarm.start()
        progress("starting: every bot's first evaluation is written down")
        warm_s = _wait_until_warm(load, swarm)
        time.sleep(load.settle_s)
        # From here on a market's one tick a second is its trade: of two in a second the later
        # one waits for the next second's evaluation, which is no delay of anybody's making.
        venue.set_rates(trades_per_s=load.markets, quotes_per_s=0)
        time.sleep(QUOTES_OVER_S)
        progress(f"measuring {load.seconds} s")
        broken_down = {"broker": broker.pid, **swarm.processes()}
        if load.ledger == "postgresql":
            broken_down["postgresql"] = servers[2].pid
        figures = _watch(load, swarm, broken_down)
        return {
            "bots": load.bots,
            "markets": load.markets,
            "seconds": load.seconds,
            "broker": load.broker,
            "ledger": load.ledger,
            "strategy_workers": load.workers,
            "created_s": round(created_s, 2),
            "first_evaluations_s": round(warm_s, 1),
            **figures,
        }
    finally:
        for server in reversed(servers):
            server.close()


def _database(load: Load, servers: Sequence[Server]) -> str:
    if load.ledger == "sqlite":
        return f"sqlite:///{servers[1].data / 'ledger.db'}"
    postgresql = servers[2]
    assert isinstance(postgresql, PostgreSQLServer)
    postgresql.create_database("bench")
    return postgresql.ledger_url("bench")


def strategies() -> list[str]:
    """Five kinds that decide side by side."""
    return [each.name for each in BUILT_IN if each.is_vectorised()][:STRATEGIES]


def bots_toml(load: Load, symbols: Sequence[str]) -> str:
    """Each a bit different from the others; they decide and, being shadows, order nothing."""
    names = strategies()
    lines = ["format = 1"]
    for number in range(load.bots):
        kind = next(each for each in BUILT_IN if each.name == names[number % len(names)])
        first = kind.parameters()[0]
        # The first parameter is a length everywhere: 20 neighbours look at different averages.
        value = f"{int(first.default) + number // len(names) // load.markets % 8}"
        lines += [
            "[[bot]]",
            f'name = "b{number:06d}"',
            f'strategy = "{kind.name}"',
            f'timeframe = "{TIMEFRAMES[number // len(names) // load.markets % len(TIMEFRAMES)]}"',
            f'market = "{symbols[number // len(names) % load.markets]}"',
            f"budget = {100 + number % 97}",
            "shadow = true",
            f"parameters = {{ {first.name} = {value} }}",
        ]
    return "\n".join(lines) + "\n"


def _wait_until_warm(load: Load, swarm: Swarm) -> float:
    """Until so many decisions were committed as there are bots: each has had its first."""
    began = time.monotonic()
    while sum(each.decided for each in _passes(swarm.state_dir)) < load.bots:
        if time.monotonic() - began > WARM_UP_S + load.bots / 100:
            raise TimedOut(
                "the bots were not all evaluated; the swarm's last words: " + swarm._last_words(),
                cure="run it again with fewer bots",
            )
        time.sleep(0.5)
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Seen:
    """One pass, as the probe wrote it down."""

    symbol: str
    ended_ms: float
    took_ms: float
    """From the tick's receipt by the feed."""
    bots: int
    asked: int
    decided: int


def _passes(state_dir: Path) -> list[Seen]:
    found = []
    for path in probe.folder(state_dir).glob("*"):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 7:  # the last one may be half written
                numbers = map(int, words[3:6])
                found.append(Seen(words[0], float(words[1]), float(words[2]), *numbers))
    return sorted(found, key=lambda each: each.ended_ms)


def _watch(load: Load, swarm: Swarm, processes: Mapping[str, int]) -> dict[str, Any]:
    began_ms, before, began = time.time() * 1e3, used_s(processes), time.monotonic()
    time.sleep(load.seconds)
    used, lasted = used_s(processes), time.monotonic() - began
    ended_ms = time.time() * 1e3
    memory = {name: sum(map(pss_mb, family(pid))) for name, pid in processes.items()}
    seen = [each for each in _passes(swarm.state_dir) if began_ms <= each.ended_ms <= ended_ms]
    took = sorted(each.took_ms for each in _on_new_ticks(seen)) or [float("nan")]
    cores = {name: (used[name] - before[name]) / lasted for name in processes}
    return {
        "cores": round(sum(cores.values()), 3),
        "cores_by_process": {name: round(value, 3) for name, value in cores.items()},
        "pss_mb": round(sum(memory.values()), 1),
        "pss_mb_by_process": {name: round(value, 1) for name, value in memory.items()},
        "passes": len(seen),
        "evaluations": sum(each.bots for each in seen),
        "evaluations_per_s": round(sum(each.bots for each in seen) / lasted),
        "asked_one_by_one": sum(each.asked for each in seen),
        "decided": sum(each.decided for each in seen),
        "tick_to_decision_p50_ms": round(statistics.median(took), 1),
        "tick_to_decision_p99_ms": round(took[min(len(took) - 1, int(len(took) * 0.99))], 1),
        "tick_to_decision_max_ms": round(took[-1], 1),
        "skipped": skipped(seen, began_ms, ended_ms, load.markets),
    }


def _on_new_ticks(seen: Sequence[Seen]) -> Iterator[Seen]:
    """Without passes that only a candle's end brought about: no tick waited for them."""
    known: dict[str, float] = {}
    for each in seen:
        received_ms = each.ended_ms - each.took_ms
        if received_ms > known.get(each.symbol, float("-inf")) + 0.5:
            yield each
        known[each.symbol] = max(received_ms, known.get(each.symbol, received_ms))


def skipped(seen: Sequence[Seen], began_ms: float, ended_ms: float, markets: int) -> int:
    """How many evaluations, due each second in each market, did not come."""
    by_market: dict[str, list[float]] = {}
    for each in seen:
        by_market.setdefault(each.symbol, [began_ms]).append(each.ended_ms)
    missing = (markets - len(by_market)) * int((ended_ms - began_ms) / 1e3 / DUE_S)
    for moments in by_market.values():
        pauses = zip(moments, [*moments[1:], ended_ms], strict=True)
        missing += sum(
            max(0, int((after - before) / 1e3 / DUE_S - LATE_S)) for before, after in pauses
        )
    return missing


# --- all of it ------------------------------------------------------------------------------------


def main(
    *,
    sizes: Sequence[int] = SIZES,
    markets: int = MARKETS,
    seconds: int = SECONDS,
    brokers: Sequence[str] = ("embedded",),
    ledger: str = "sqlite",
    workers: int = 1,
    is_quick: bool = False,
    cache: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Figures as plain data; docs/bench.md says under each key exactly what is measured.

    Without a ``cache`` folder freqtrade is left out.
    """
    began_at = datetime.now(UTC)
    runs = []
    for broker in brokers:
        for bots in sizes:
            load = Load(
                bots=bots,
                markets=markets,
                seconds=seconds,
                broker=broker,
                ledger=ledger,
                workers=workers,
                settle_s=SETTLE_QUICK_S if is_quick else SETTLE_S,
            )
            try:
                runs.append(measure(load, progress))
            except BotswarmError as error:
                # Where it saturates is a result too; the other sizes are still to come.
                runs.append({"bots": bots, "broker": broker, "failed": str(error)})
            progress(line_of(runs[-1]))
    progress("the two forms of deciding, in one process")
    answer: dict[str, Any] = {
        "command": "botswarm bench evaluate",
        "began_at": began_at.isoformat(timespec="seconds"),
        "strategies": strategies(),
        "runs": runs,
        "kb_per_further_bot": growth(runs),
        "forms": forms(strategies()),
    }
    if cache is not None:
        answer["freqtrade"] = idle_freqtrade(cache, progress)
    return answer


def growth(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From each size to the next on the same broker: what a further bot takes."""
    done = [each for each in runs if "failed" not in each]
    return [
        {
            "broker": less["broker"],
            "from": less["bots"],
            "to": more["bots"],
            "kb": round(
                (more["pss_mb"] - less["pss_mb"]) * 1024 / (more["bots"] - less["bots"]), 2
            ),
            "cores_ratio": round(more["cores"] / less["cores"], 2) if less["cores"] else None,
        }
        for less, more in pairwise(done)
        if less["broker"] == more["broker"]
    ]


def line_of(run: Mapping[str, Any]) -> str:
    if "failed" in run:
        return f"{run['bots']:>7,} bots, {run['broker']}: {run['failed']}"
    return (
        f"{run['bots']:>7,} bots, {run['broker']}, {run['ledger']}: {run['cores']:.2f} cores, "
        f"{run['pss_mb']:.0f} MB, tick to decision p50 {run['tick_to_decision_p50_ms']} ms, "
        f"p99 {run['tick_to_decision_p99_ms']} ms, {run['skipped']} skipped, "
        f"{run['evaluations_per_s']:,} evaluations/s"
    )


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{figures['command']}, {figures['began_at']}", ""]
    lines += [line_of(run) for run in figures["runs"]]
    lines += [
        f"from {each['from']:,} to {each['to']:,} bots, {each['broker']}: {each['kb']} KB a "
        f"further bot, {each['cores_ratio']} times the cores"
        for each in figures["kb_per_further_bot"]
    ]
    lines += ["", "evaluations/s on one core, in one process:"]
    lines += [
        f"  {each['strategy']:20} side by side {each['ranked_per_s']:>12,}   "
        f"one by one {each['scalar_per_s']:>9,}"
        for each in figures["forms"]
    ]
    if "freqtrade" in figures:
        lines += ["", figures["freqtrade"]["text"]]
    return "\n".join(lines)
