"""What the gate adds to an order: reading what stands against its limits, and judging."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from botswarm.bench.ledgers import fresh_ledger
from botswarm.domain.limits import Level, Limit, LimitKind
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import Approved
from botswarm.domain.reconciliation import Reconciliation
from botswarm.domain.standing import AtRisk, Mark, MarketExposure
from botswarm.errors import BotswarmError
from botswarm.ledger import placing, risk_standings
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.exposing import exposure_of
from botswarm.ledger.limits import chain_of
from botswarm.ledger.many import insert_all
from botswarm.ledger.models import OrderRow
from botswarm.ledger.rows import row_of
from botswarm.ledger.steps import Step
from botswarm.ledger.store import Ledger
from botswarm.risk import gate
from botswarm.risk.limits import Limits

P99_MAX_MS = 1.0
SWEPT_EVERY = 50
"""Orders; it is not measured."""
IN_TURN = 50
"""Bots whose orders are judged: one alone would have passed thousands in the last minute."""
VENUE, ACCOUNT, SYMBOL, STRATEGY = "simulated", "paper", "BTC-USDT", "sma-cross"
MUCH = Decimal(10**9)
LIMITS = Limits(
    order_notional_max=MUCH,
    open_notional_max=MUCH,
    position_notional_max=MUCH,
    open_orders_max=10**6,
    orders_per_minute_max=10**6,
    daily_loss_max=MUCH,
    signal_age_max_s=3600,
    price_collar_percent=Decimal(10),
    clock_offset_max_s=Decimal(1),
)
OF_THE_ORDER = (LimitKind.ORDER_VALUE, LimitKind.ORDER_QUANTITY, LimitKind.POSITION)
SETTINGS, USUAL, ALL = "the settings", "five limits set", "every kind at every level"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    orders: int
    """That are judged in each round."""
    bots: int
    resting: int
    """Open orders of the account."""
    past: int
    """Orders of the last day that are at their end."""

    @property
    def in_turn(self) -> Sequence[str]:
        """The bots that order."""
        return [f"bot{number}" for number in range(min(IN_TURN, self.bots))]


FULL = Size(orders=2000, bots=10_000, resting=50, past=20_000)
QUICK = Size(orders=200, bots=500, resting=20, past=1000)


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
            progress(f"{kind}: {size.bots:,} bots, {size.past:,} orders")
            _fill(ledger, size)
            for name in (SETTINGS, USUAL, ALL):
                _set(ledger, name, size)
                runs.append({"ledger": kind, "limits": name, **_measured(ledger, size)})
                progress(_line(runs[-1]))
    usual = [run for run in runs if run["limits"] != ALL]
    return {
        "command": "botswarm bench gate",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": runs,
        "is_met": all(run["p99_ms"] < P99_MAX_MS for run in usual),
    }


def _measured(ledger: Ledger, size: Size) -> dict[str, Any]:
    """Each in the transaction that claims the order, as in an order worker."""
    warm_up, took = size.orders // 10, []
    for number in range(warm_up + size.orders):
        if number % SWEPT_EVERY == 0:
            _sweep(ledger, size)
        took.append(_once(ledger, size.in_turn[number % len(size.in_turn)]))
    took = took[warm_up:]
    return {
        "orders": len(took),
        **_spread("", [passed for passed, _ in took]),
        **_spread("processor_", [used for _, used in took]),
    }


def _spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    found = sorted(each * 1e3 for each in seconds)
    return {
        f"{name}p50_ms": round(statistics.median(found), 3),
        f"{name}p95_ms": round(found[len(found) * 95 // 100], 3),
        f"{name}p99_ms": round(found[len(found) * 99 // 100], 3),
        f"{name}max_ms": round(found[-1], 3),
    }


def _once(ledger: Ledger, bot: str) -> tuple[float, float]:
    """How long it took, and how long this process worked on it: the rest it waited."""
    order, now = _order(bot), datetime.now(UTC)
    ledger.orders.add(order, now)
    took: list[tuple[float, float]] = []

    def work(session: Session) -> None:
        step = Step.of(placing.claim(session, order.id, now), now)
        began, idle = time.perf_counter(), time.thread_time()
        exposure, _ = exposure_of(session, step)
        verdict = gate.judge(step.order, exposure, LIMITS, now, Decimal(0))
        took.append((time.perf_counter() - began, time.thread_time() - idle))
        if not isinstance(verdict, Approved):
            raise BotswarmError(f"the bench's own order was refused: {verdict.reason}")
        row = session.get_one(OrderRow, order.id)
        row.state, row.is_open, row.approved_at = OrderState.FILLED.value, False, now

    ledger.database.write(work)
    return took[-1]


# --- what stands around ---------------------------------------------------------------------------


def _fill(ledger: Ledger, size: Size) -> None:
    now = datetime.now(UTC)
    bots = [_bot(f"bot{number}") for number in range(size.bots)]
    ledger.changes.save(now, new=bots, actor="bench", reason="created")
    done = Reconciliation(venue=VENUE, account=ACCOUNT, at=now, differences=())
    ledger.reconciliations.conclude(done)
    ledger.database.write(lambda session: insert_all(session, OrderRow, list(_past(size, now))))


def _past(size: Size, now: datetime) -> Iterator[dict[str, Any]]:
    for number in range(size.past + size.resting):
        is_open = number < size.resting
        at = now - timedelta(seconds=0 if is_open else number * 86_400 / size.past)
        row = row_of(replace(_order(f"bot{number % size.bots}"), created_at=at), None, at)
        row.approved_at, row.is_open = at, is_open
        row.state = (OrderState.LIVE if is_open else OrderState.FILLED).value
        values = {each.name: getattr(row, each.name) for each in OrderRow.__table__.columns}
        yield {name: value for name, value in values.items() if name != "is_ending"}


def _bot(name: str) -> Bot:
    return Bot(
        name=name,
        strategy=STRATEGY,
        venue=VENUE,
        symbol=SYMBOL,
        account=ACCOUNT,
        timeframe="1m",
        parameters={},
        state=BotState.RUNNING,
    )


def _order(bot: str) -> Order:
    now = datetime.now(UTC)
    return Order(
        id=str(uuid.uuid4()),
        bot=bot,
        venue=VENUE,
        account=ACCOUNT,
        symbol=SYMBOL,
        side=Side.BUY,
        kind=OrderKind.LIMIT,
        quantity=Decimal("0.001"),
        limit_price=Decimal(99_000),
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal(100_000),
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + timedelta(minutes=30),
    )


def _set(ledger: Ledger, name: str, size: Size) -> None:
    if name == USUAL:
        _say(ledger, OF_THE_ORDER, _scopes(size, Level.BOT))
        _say(ledger, [LimitKind.OPEN_VALUE], _scopes(size, Level.ACCOUNT))
        _say(ledger, [LimitKind.ORDER_VALUE], _scopes(size, Level.STRATEGY))
    if name == ALL:
        kinds = [kind for kind in LimitKind if kind is not LimitKind.DATA_AGE]
        _say(ledger, kinds, _scopes(size, *Level))


def _scopes(size: Size, *levels: Level) -> list[str]:
    """Of all bots that order."""
    chains = [chain_of(VENUE, ACCOUNT, STRATEGY, SYMBOL, bot) for bot in size.in_turn]
    return sorted({chain[level] for chain in chains for level in levels})


def _sweep(ledger: Ledger, size: Size) -> None:
    """What sweeps and strategy workers do meanwhile: what limits rest on must not grow old."""
    now = datetime.now(UTC)
    mark = Mark(venue=VENUE, symbol=SYMBOL, price=Decimal(100_000), at=now)
    ledger.marks.save([mark], now)
    ledger.database.write(lambda session: _reckon(session, _scopes(size, *Level), now))


def _say(ledger: Ledger, kinds: Sequence[LimitKind], scopes: Sequence[str]) -> None:
    for scope in scopes:
        for kind in kinds:
            limit = Limit(scope=scope, kind=kind, breach=MUCH, warn=None)
            ledger.limits.set(limit, actor="bench", reason="measured", now=datetime.now(UTC))


def _reckon(session: Session, scopes: Iterable[str], now: datetime) -> None:
    zero = Decimal(0)
    common: dict[str, Any] = {
        "quote": "USDT",
        "at": now,
        "day": f"{now:%Y-%m-%d}",
        "positions": 1,
        "losing_streak": 0,
        "lost_at": None,
        "peak_at": None,
        "marked_at": now,
        "unknown": None,
        "sequence": 0,
        "equity": MUCH,
        "equity_peak": MUCH,
    }
    names = ("realised", "unrealised", "day_result", "peak", "gross", "net")
    common |= dict.fromkeys(names, zero)
    risk_standings.keep(session, [AtRisk(scope=scope, **common) for scope in scopes])
    held = MarketExposure(
        venue=VENUE,
        account=ACCOUNT,
        symbol=SYMBOL,
        quote="USDT",
        long_quantity=zero,
        short_quantity=zero,
        price=Decimal(100_000),
        marked_at=now,
        at=common["at"],
        sequence=0,
    )
    risk_standings.keep_exposures(session, [held])


def _line(run: Mapping[str, Any]) -> str:
    spread = ", ".join(f"{name} {run[f'{name}_ms']}" for name in ("p50", "p95", "p99", "max"))
    used = ", ".join(f"{name} {run[f'processor_{name}_ms']}" for name in ("p50", "p99"))
    return f"{run['ledger']}, {run['limits']}: {spread} ms; of the worker's processor: {used} ms"


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{figures['command']}, {figures['began_at']}", ""]
    lines += [_line(run) for run in figures["runs"]]
    met = "met" if figures["is_met"] else "NOT met"
    lines.append(f"below {P99_MAX_MS:g} ms at p99, but for every kind at every level: {met}")
    return "\n".join(lines)
