"""What a sweep over the positions of a large swarm costs, while every price moves."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psutil
from sqlalchemy import text

from botswarm.bench.ledgers import fresh_ledger
from botswarm.clock import SystemClock
from botswarm.domain.limits import Limit, LimitKind, default
from botswarm.domain.standing import Mark
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.many import insert_all
from botswarm.ledger.models import PositionRow
from botswarm.ledger.store import Ledger
from botswarm.sweeps.sweep import Rules, Tools
from botswarm.sweeps.table import sweep

MAX_S = 2.0
VENUE, ACCOUNT = "simulated", "paper"
STRATEGIES = ("sma-cross", "grid", "rsi-reversion", "breakout")
MUCH = Decimal(10**9)
RULES = Rules(defaults=(default(LimitKind.POSITION, MUCH), default(LimitKind.DAILY_LOSS, MUCH)))

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    positions: int
    markets: int
    sweeps: int
    limited: int
    """Bots with limits of their own, which have a line in every sweep."""


FULL = Size(positions=10_000, markets=100, sweeps=30, limited=1_000)
QUICK = Size(positions=500, markets=10, sweeps=3, limited=50)


def main(
    *,
    ledgers: Sequence[str] = ("postgresql", "sqlite"),
    size: Size = FULL,
    progress: Progress = lambda line: None,
) -> dict[str, Any]:
    """Figures as plain data; docs/bench.md says exactly what is measured."""
    runs = []
    for kind in ledgers:
        with fresh_ledger(kind) as ledger:
            _fill(ledger, size)
            runs.append({"ledger": kind, **_measured(ledger, size)})
            progress(_line(runs[-1]))
    return {
        "command": "botswarm bench sweep",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "positions": size.positions,
        "markets": size.markets,
        "runs": runs,
        "is_met": all(run["max_s"] < MAX_S for run in runs),
    }


def _measured(ledger: Ledger, size: Size) -> dict[str, Any]:
    tools = Tools(ledger=ledger, clock=SystemClock(), rules=RULES)
    prices = random.Random(1)  # noqa: S311 - prices of a bench
    took: list[float] = []
    used: list[float] = []
    for _ in range(size.sweeps):
        _move(ledger, size, prices)
        before, began = _used_s(ledger), time.perf_counter()
        done = sweep("positions", tools)
        took.append(time.perf_counter() - began)
        used.append(_used_s(ledger) - before)
        assert done.error is None, done.error
        assert done.looked == size.positions
    return {
        "sweeps": size.sweeps,
        "first_s": round(took[0], 3),
        "p50_s": round(statistics.median(took), 3),
        "max_s": round(max(took), 3),
        "cpu_p50_s": round(statistics.median(used), 3),
        "cpu_max_s": round(max(used), 3),
    }


def _used_s(ledger: Ledger) -> float:
    """Of this process, and of the one that answers it where the database is a server."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    own = used.ru_utime + used.ru_stime
    if ledger.database.is_sqlite:
        return own
    asked = text("SELECT pg_backend_pid()")
    answering = ledger.database.read(lambda session: session.execute(asked).scalar_one())
    its = psutil.Process(answering).cpu_times()
    return own + float(its.user + its.system)


def _move(ledger: Ledger, size: Size, prices: random.Random) -> None:
    now = datetime.now(UTC)
    marks = [
        Mark(
            venue=VENUE, symbol=symbol, price=Decimal(prices.randrange(9_000, 11_000)) / 100, at=now
        )
        for symbol in _symbols(size)
    ]
    ledger.marks.save(marks, now)


# --- what is swept --------------------------------------------------------------------------------


def _fill(ledger: Ledger, size: Size) -> None:
    now = datetime.now(UTC)
    bots = list(_bots(size))
    ledger.changes.save(now, new=bots, actor="bench", reason="created")
    ledger.database.write(lambda session: insert_all(session, PositionRow, list(_rows(bots, now))))
    for number in range(size.limited):
        scope = f"bot:{bots[number].name}"
        limit = Limit(scope=scope, kind=LimitKind.DRAWDOWN, breach=MUCH)
        ledger.limits.set(limit, actor="bench", reason="measured", now=now)


def _symbols(size: Size) -> Sequence[str]:
    return [f"C{number}-USDT" for number in range(size.markets)]


def _bots(size: Size) -> Iterator[Bot]:
    symbols = _symbols(size)
    for number in range(size.positions):
        yield Bot(
            name=f"bot{number}",
            strategy=STRATEGIES[number % len(STRATEGIES)],
            venue=VENUE,
            symbol=symbols[number % size.markets],
            account=ACCOUNT,
            timeframe="1m",
            parameters={},
            state=BotState.RUNNING,
        )


def _rows(bots: Sequence[Bot], now: datetime) -> Iterator[dict[str, Any]]:
    for number, bot in enumerate(bots):
        quantity = Decimal(number % 7 + 1) / 10
        yield {
            "bot": bot.name,
            "venue": VENUE,
            "account": ACCOUNT,
            "symbol": bot.symbol,
            "quantity": quantity,
            "cash": -quantity * 100,
            "cost": quantity * 100,
            "realised": Decimal(number % 11 - 5),
            "last_trade_id": number,
            "updated_at": now,
        }


def _line(run: Mapping[str, Any]) -> str:
    return (
        f"{run['ledger']}: first {run['first_s']} s, p50 {run['p50_s']} s, "
        f"longest of {run['sweeps']} {run['max_s']} s; {run['cpu_p50_s']} s of processor, "
        f"{run['cpu_max_s']} s at most"
    )


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{figures['command']}, {figures['began_at']}", ""]
    lines.append(f"{figures['positions']:,} positions in {figures['markets']} markets, all moving")
    lines += [_line(run) for run in figures["runs"]]
    met = "met" if figures["is_met"] else "NOT met"
    lines.append(f"below {MAX_S:g} s, the longest of them: {met}")
    return "\n".join(lines)
