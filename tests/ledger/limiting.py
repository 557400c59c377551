"""A ledger around an order, and how the order comes to have a value of each kind of limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from botswarm.domain.limits import LimitKind
from botswarm.domain.order import Order, OrderKind
from botswarm.domain.permission import Exposure, TradingState, Verdict
from botswarm.domain.standing import AtRisk, Mark
from botswarm.ledger import halts, risk_events, risk_standings
from botswarm.ledger.limits import chain_of
from botswarm.ledger.models import (
    CancelRow,
    EntryRow,
    FillRow,
    OrderEventRow,
    OrderRow,
    PositionRow,
    TradingStateRow,
)
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.risk_models import LimitRow, LimitWarningRow
from botswarm.ledger.rows import row_of
from botswarm.ledger.store import Ledger
from botswarm.ledger.sweep_models import ExposureRow, MarkRow, StandingRow
from botswarm.risk import gate
from botswarm.risk.limits import Limits
from tests.ledger.conftest import NOW, an_order

D = Decimal
MUCH = D(10**12)
BOUNDLESS = Limits(
    order_notional_max=MUCH,
    open_notional_max=MUCH,
    position_notional_max=MUCH,
    open_orders_max=10**9,
    orders_per_minute_max=10**9,
    daily_loss_max=MUCH,
    signal_age_max_s=3600,
    groups=(("majors", frozenset({"BTC"})),),
)
STRANGER: dict[str, Any] = {"bot": "beta", "account": "other", "symbol": "ETH-USDT"}
CHAIN = chain_of("simulated", "paper", "sma_cross", "BTC-USDT", "alpha")
PRICE, NOTHING = D(100), D(0)
K = LimitKind
OF_ORDERS = (CancelRow, OrderEventRow, OrderRow)


@dataclass(slots=True)
class World:
    """Around the order that is asked about, and around a stranger to all its scopes but one."""

    ledger: Ledger
    clock_offset_s: Decimal = NOTHING
    priced_ms: int | None = None
    seen: int = 0
    """The last event that was told."""

    def clear(self) -> None:
        tables = (
            *(*OF_ORDERS, LimitRow, LimitWarningRow, MarkRow, StandingRow),
            *(EntryRow, FillRow, ExposureRow, PositionRow),
        )

        self.clock_offset_s, self.priced_ms = D(0), None

        def work(session: Session) -> None:
            for table in tables:
                session.execute(delete(table))
            others = TradingStateRow.scope != halts.SWARM
            session.execute(delete(TradingStateRow).where(others))
            swarm = session.get_one(TradingStateRow, halts.SWARM)
            swarm.state, swarm.cause = TradingState.ACTIVE.value, "person"

        self.ledger.database.write(work)

    def forget_orders(self) -> None:
        def work(session: Session) -> None:
            for table in OF_ORDERS:
                session.execute(delete(table))

        self.ledger.database.write(work)

    def write(self, work: Callable[[Session], object]) -> None:
        self.ledger.database.write(work)

    def passed(self, count: int, *, is_open: bool) -> None:
        """Orders of all of its scopes that passed the gate half a second ago."""

        def work(session: Session) -> None:
            for _ in range(count):
                row = row_of(an_order(quantity=D("0.001")), None, NOW)
                row.approved_at, row.is_open = NOW - timedelta(seconds=0.5), is_open
                row.state = "approved" if is_open else "filled"
                session.add(row)

        self.write(work)

    def stands(self, **changes: Any) -> None:
        """What a sweep reckoned of every scope of the order."""
        self.write(
            lambda session: risk_standings.keep(
                session, [at_risk(scope, **changes) for scope in CHAIN.values()]
            )
        )

    def priced(self, **changes: Any) -> None:
        self.write(lambda session: session.execute(delete(MarkRow)))
        mark = Mark(venue="simulated", symbol="BTC-USDT", price=PRICE, at=NOW)
        self.ledger.marks.save([replace(mark, **changes)], NOW)

    def judged(self, order: Order, *, ledger: Ledger | None = None) -> Verdict:
        def judge(each: Order, exposure: Exposure) -> Verdict:
            return gate.judge(each, exposure, BOUNDLESS, NOW, self.clock_offset_s)

        books = self.ledger if ledger is None else ledger
        assert books.orders.add(order, NOW)
        if self.priced_ms is not None:
            said = {"exchange_ms": self.priced_ms}
            decided = update(OrderRow).where(OrderRow.id == order.id).values(evaluation=said)
            self.write(lambda session: session.execute(decided))
        verdict = books.books.judge(order.id, judge, NOW)
        assert verdict is not None
        return verdict

    def told(self) -> list[RiskEvent]:
        """Since it was asked last."""
        seen = self.seen
        found = self.ledger.database.read(lambda session: risk_events.since(session, seen))
        self.seen = max([seen, *(event.id or 0 for event in found)])
        return list(found)


def at_risk(scope: str, **changes: Any) -> AtRisk:
    values: dict[str, Any] = {
        "scope": scope,
        "quote": "USDT",
        "at": NOW,
        "day": "2026-03-04",
        "positions": 1,
        "realised": D(0),
        "unrealised": D(0),
        "day_result": D(0),
        "peak": D(0),
        "peak_at": NOW,
        "equity": D(1000),
        "equity_peak": D(1000),
        "gross": D(0),
        "net": D(0),
        "losing_streak": 0,
        "lost_at": None,
        "marked_at": NOW,
        "unknown": None,
        "sequence": 0,
    }
    return AtRisk(**values | changes)


def held(quantity: Decimal) -> PositionRow:
    return PositionRow(
        bot="alpha",
        venue="simulated",
        account="paper",
        symbol="BTC-USDT",
        quantity=quantity,
        cash=-quantity,
        cost=quantity,
        realised=D(0),
        last_trade_id=1,
        updated_at=NOW,
    )


def worth(value: Decimal, **changes: Any) -> Order:
    return an_order(quantity=value / PRICE, **changes)


@dataclass(frozen=True, slots=True)
class Case:
    """How an order comes to have a value of a kind, in a world that was cleared."""

    calm: Decimal
    near: Decimal
    over: Decimal
    breach: Decimal
    make: Callable[[World, Decimal], Order]

    @property
    def warn(self) -> Decimal:
        return self.breach * D("0.8")


def amounts(make: Callable[[World, Decimal], Order]) -> Case:
    return Case(D(50), D(85), D("100.01"), D(100), make)


def counts(make: Callable[[World, Decimal], Order]) -> Case:
    return Case(D(2), D(4), D(6), D(5), make)


def stood(order: Order, world: World, **changes: Any) -> Order:
    world.stands(**changes)
    return order


def limit_above(world: World, value: Decimal) -> Order:
    world.priced(ask=PRICE)
    price = PRICE * (1 + value / 100)
    return an_order(kind=OrderKind.LIMIT, limit_price=price, quantity=D("0.01"))


def aged(world: World, value: Decimal) -> Order:
    world.priced_ms = int((NOW - timedelta(seconds=float(value))).timestamp() * 1000)
    return an_order(quantity=D("0.01"))


def slipped(world: World, value: Decimal) -> Order:
    world.priced(ask=PRICE * (1 + value / 100))
    return an_order(quantity=D("0.01"))


def after(count: Decimal, world: World, *, is_open: bool) -> Order:
    world.passed(int(count) - 1, is_open=is_open)
    return an_order(quantity=D("0.001"))


def off(world: World, value: Decimal) -> Order:
    world.clock_offset_s = -value
    return an_order(quantity=D("0.01"))


SMALL = D(1)
CASES: dict[LimitKind, Case] = {
    K.ORDER_VALUE: amounts(lambda _, value: worth(value)),
    K.ORDER_QUANTITY: amounts(lambda _, value: an_order(quantity=value)),
    K.PRICE_COLLAR: amounts(limit_above),
    K.SLIPPAGE: amounts(slipped),
    K.POSITION: amounts(lambda _, value: worth(value)),
    K.OPEN_VALUE: amounts(lambda _, value: worth(value)),
    K.GROSS_EXPOSURE: amounts(lambda world, value: stood(worth(SMALL), world, gross=value - SMALL)),
    K.NET_EXPOSURE: amounts(lambda world, value: stood(worth(SMALL), world, net=value - SMALL)),
    K.CONCENTRATION: amounts(lambda world, value: stood(worth(value * 10), world)),
    K.GROUP_EXPOSURE: amounts(lambda world, value: stood(worth(value), world)),
    K.OPEN_ORDERS: counts(lambda world, value: after(value, world, is_open=True)),
    K.ORDERS_PER_SECOND: counts(lambda world, value: after(value, world, is_open=False)),
    K.ORDERS_PER_MINUTE: counts(lambda world, value: after(value, world, is_open=False)),
    K.REPEATED_EXECUTIONS: counts(lambda world, value: after(value, world, is_open=False)),
    K.DAILY_LOSS: amounts(lambda world, value: stood(worth(SMALL), world, unrealised=-value)),
    K.DRAWDOWN: amounts(lambda world, value: stood(worth(SMALL), world, peak=value)),
    K.LOSING_STREAK: counts(
        lambda world, value: stood(
            worth(SMALL), world, losing_streak=int(value), lost_at=NOW - timedelta(seconds=1)
        )
    ),
    K.DATA_AGE: amounts(aged),
    K.CLOCK_OFFSET: amounts(off),
    K.LEVERAGE: Case(
        D("0.5"),
        D("0.85"),
        D("1.01"),
        D(1),
        lambda world, value: stood(worth(100 * (1 + value)), world, equity=D(100)),
    ),
}
