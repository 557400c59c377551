"""Every limit at every level: it warns once, refuses what it must, and a person lifts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from botswarm.domain.limits import RULES, Level, Limit, LimitKind, in_force, level_of
from botswarm.domain.order import Order, OrderKind, Side
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.domain.standing import AtRisk, Mark
from botswarm.errors import Refused as No
from botswarm.ledger import halts, migrate, risk_events, risk_standings
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
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.risk_models import LimitRevisionRow, LimitRow, LimitWarningRow
from botswarm.ledger.rows import row_of
from botswarm.ledger.store import Ledger
from botswarm.ledger.sweep_models import ExposureRow, MarkRow, StandingRow
from botswarm.risk import gate
from botswarm.risk.limits import Limits
from tests.ledger.conftest import NOW, Migrated, a_bot, an_order
from tests.standing import reconciled

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


def limit_above(value: Decimal) -> Order:
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
    K.PRICE_COLLAR: amounts(lambda _, value: limit_above(value)),
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


def test_every_kind_of_limit_has_a_case() -> None:
    assert set(CASES) == set(LimitKind) == set(RULES)


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    found: dict[str, World] = {}
    yield found
    for each in found.values():
        each.ledger.close()


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    worlds: dict[str, World],
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    kind: str = request.param
    if kind not in worlds:
        worlds[kind] = World(a_ledger(kind, request, tmp_path_factory))
    worlds[kind].clear()
    worlds[kind].told()
    return worlds[kind]


def a_ledger(kind: str, request: pytest.FixtureRequest, paths: pytest.TempPathFactory) -> Ledger:
    if kind == "sqlite":
        ledger = Ledger(f"sqlite:///{paths.mktemp('limits') / 'ledger.db'}")
        migrate.migrate(ledger.database)
    else:
        migrated: Migrated = request.getfixturevalue("migrated")
        migrated.empty()
        ledger = Ledger(migrated.url)
    for account in ("paper", "other"):
        reconciled(ledger, NOW, account=account)
    beta = a_bot(name="beta", strategy="grid", account="other", symbol="ETH-USDT")
    for bot in (a_bot(), beta):
        ledger.bots.create(bot, NOW, actor="anna")
    return ledger


def restarted(ledger: Ledger) -> Ledger:
    """What another process makes of the same database."""
    return Ledger(ledger.database.url.render_as_string(hide_password=False))


def every() -> list[Any]:
    """All of them on one database, and on the other each kind at one level."""
    first = [("sqlite", kind, level) for kind in LimitKind for level in Level]
    levels = list(Level)
    second = [
        ("postgresql", kind, levels[number % len(levels)]) for number, kind in enumerate(LimitKind)
    ]
    return [pytest.param(*each, id="-".join((*each[1:], each[0]))) for each in first + second]


@pytest.mark.parametrize(("world", "kind", "level"), every(), indirect=["world"])
def test_a_limit_warns_once_then_refuses_until_a_person_lifts_it(
    world: World, kind: LimitKind, level: Level
) -> None:
    case, scope = CASES[kind], CHAIN[level]
    limit = Limit(scope=scope, kind=kind, breach=case.breach, warn=case.warn)
    world.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)

    def asked(value: Decimal, *, ledger: Ledger | None = None, **changes: Any) -> Verdict:
        world.forget_orders()
        order = replace(case.make(world, value), **changes)
        return world.judged(order, ledger=ledger)

    assert isinstance(asked(case.calm), Approved)
    assert world.told() == []
    assert isinstance(asked(case.near), Approved)
    assert [(each.kind, each.severity) for each in world.told()] == [(kind, Severity.WARN)]
    assert isinstance(asked(case.near), Approved)
    assert world.told() == [], "the warning line is told when it is crossed, not for every order"

    refused = asked(case.over)
    assert isinstance(refused, Refused)
    (event,) = world.told()
    assert (event.kind, event.severity) == (kind, Severity.BREACH)
    assert event.limit_value == case.breach
    assert event.value is not None
    assert event.value > case.warn
    assert (event.words, event.order_id) == (refused.reason, refused.order.id)
    assert (event.numbers or {})["limit_of"] == scope

    another = restarted(world.ledger)
    assert isinstance(asked(case.over, ledger=another), Refused)
    another.close()
    if level is not Level.SWARM:
        assert isinstance(asked(case.over, **STRANGER), Approved), "it is none of its business"

    assert_only_what_shrinks_passes(world, case)
    assert_only_a_person_lifts_it(world, kind, scope, lambda: asked(case.over))


def assert_only_what_shrinks_passes(world: World, case: Case) -> None:
    world.forget_orders()
    world.write(lambda session: session.add(held(D(1000))))
    order = replace(case.make(world, case.over), side=Side.SELL, quantity=D(900))
    passed = world.judged(order)
    assert isinstance(passed, Approved), "what only shrinks a position passes every limit"
    wished = world.ledger.cancels.wish([order.id], NOW, actor="anna", reason="a test")
    assert wished.ended == (order.id,), "so does a cancel"
    world.write(lambda session: session.execute(delete(PositionRow)))


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


def assert_only_a_person_lifts_it(
    world: World, kind: LimitKind, scope: str, ask: Callable[[], Verdict]
) -> None:
    world.ledger.limits.unset(scope, kind, actor="anna", reason="it is enough", now=NOW)
    if RULES[kind].halts:
        halted = scope if RULES[kind].is_total else CHAIN[Level.BOT]
        (halt,) = (each for each in world.ledger.halts.all() if each.scope == halted)
        assert (halt.state, halt.actor) == (TradingState.REDUCING, f"limit:{kind}")
        still = ask()
        assert isinstance(still, Refused)
        assert "reducing" in still.reason
        active = TradingState.ACTIVE
        with pytest.raises(No, match="may not relax"):
            world.ledger.halts.set(
                halted, active, reason="", actor="a rule", now=NOW, cause=halts.Cause.LIMIT
            )
        world.ledger.halts.set(
            halted, active, reason="seen to", actor="anna", now=NOW, is_human=True
        )
    assert isinstance(ask(), Approved)
    change = world.ledger.limits.history(scope, kind)[0]
    assert (change.actor, change.after, change.reason) == ("anna", None, "it is enough")


# --- which limit holds ----------------------------------------------------------------------------

both = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
one = pytest.mark.parametrize("world", ["sqlite"], indirect=True)


def set_(world: World, kind: LimitKind, breach: int, scope: str) -> None:
    limit = Limit(scope=scope, kind=kind, breach=D(breach))
    world.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)


def refusal(verdict: Verdict) -> str | None:
    return verdict.reason if isinstance(verdict, Refused) else None


@one
def test_of_what_is_judged_for_each_order_the_strictest_holds(world: World) -> None:
    for level, breach in ((Level.SWARM, 50), (Level.BOT, 80), (Level.STRATEGY, 30)):
        set_(world, K.ORDER_VALUE, breach, CHAIN[level])
    reason = refusal(world.judged(worth(D(31))))
    assert reason == "order notional would be 31, over 30 (limit order_value of strategy:sma_cross)"
    assert refusal(world.judged(worth(D(30)))) is None


@one
def test_what_a_scope_has_together_is_held_to_each_limit_around_it(world: World) -> None:
    set_(world, K.OPEN_ORDERS, 3, "swarm")
    set_(world, K.OPEN_ORDERS, 2, "bot:alpha")
    assert refusal(world.judged(worth(SMALL))) is None
    assert refusal(world.judged(worth(SMALL))) is None
    assert "limit open_orders of bot:alpha" in (refusal(world.judged(worth(SMALL))) or "")
    assert refusal(world.judged(worth(SMALL, **STRANGER))) is None
    words = refusal(world.judged(worth(SMALL, **STRANGER)))
    assert words == "open orders would be 4, over 3 (limit open_orders of swarm)"


def effective(world: World, kind: LimitKind) -> list[tuple[str, Decimal]]:
    limits = Limits(
        order_notional_max=D(500),
        open_notional_max=D(5000),
        position_notional_max=D(1000),
        open_orders_max=100,
        orders_per_minute_max=60,
        daily_loss_max=D(500),
        signal_age_max_s=10,
    )
    said = [each.limit for each in world.ledger.limits.all()]
    found = in_force(CHAIN, said, limits.defaults)
    return [(each.scope, each.breach) for each in found if each.kind is kind]


@one
def test_a_setting_speaks_only_where_its_own_level_says_nothing(world: World) -> None:
    account = CHAIN[Level.ACCOUNT]
    assert effective(world, K.OPEN_ORDERS) == [(account, D(100))]
    assert effective(world, K.ORDER_VALUE) == [("swarm", D(500))]
    set_(world, K.OPEN_ORDERS, 300, "swarm")
    assert set(effective(world, K.OPEN_ORDERS)) == {(account, D(100)), ("swarm", D(300))}
    set_(world, K.OPEN_ORDERS, 200, account)
    assert set(effective(world, K.OPEN_ORDERS)) == {(account, D(200)), ("swarm", D(300))}
    set_(world, K.ORDER_VALUE, 800, "swarm")
    assert effective(world, K.ORDER_VALUE) == [("swarm", D(800))]
    set_(world, K.ORDER_VALUE, 900, "bot:alpha")
    assert effective(world, K.ORDER_VALUE) == [("swarm", D(800))]


@both
def test_every_change_is_seen_by_the_very_next_order_of_every_process(world: World) -> None:
    another = restarted(world.ledger)
    for breach in (40, 60, 20, 90):
        set_(world, K.ORDER_VALUE, breach, "swarm")
        for ledger in (world.ledger, another):
            assert refusal(world.judged(worth(D(breach)), ledger=ledger)) is None
            assert refusal(world.judged(worth(D(breach) + 1), ledger=ledger)) is not None
    another.close()


@one
def test_a_warning_is_told_again_after_its_line_was_left(world: World) -> None:
    limit = Limit(scope="swarm", kind=K.ORDER_VALUE, breach=D(100), warn=D(80))
    world.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)
    for value in (85, 90, 10, 95):
        world.judged(worth(D(value)))
    assert [event.value for event in world.told()] == [D(85), D(95)]


@one
def test_a_warning_is_told_again_where_the_limit_was_changed(world: World) -> None:
    for breach in (100, 95):
        limit = Limit(scope="swarm", kind=K.ORDER_VALUE, breach=D(breach), warn=D(80))
        world.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)
        world.judged(worth(D(85)))
        world.judged(worth(D(86)))
    assert [event.limit_value for event in world.told()] == [D(80), D(80)]


@one
def test_a_kind_that_nobody_knows_lets_nothing_pass(world: World) -> None:
    row = {"scope": "swarm", "kind": "moon_phase", "breach": D(1), "at": NOW, "actor": "anna"}
    world.write(lambda session: session.add(LimitRow(**row, warn=None, reason="a newer version")))
    set_(world, K.ORDER_VALUE, 1000, "bot:beta")
    assert "which this version does not know" in (refusal(world.judged(worth(SMALL))) or "")
    world.write(lambda session: session.add(held(D(1000))))
    assert refusal(world.judged(worth(SMALL, side=Side.SELL))) is None


@one
def test_a_ledger_that_does_not_count_its_limits_changes_lets_nothing_grow(world: World) -> None:
    kept = world.ledger.database.read(lambda session: session.get_one(LimitRevisionRow, 1).revision)
    world.write(lambda session: session.execute(delete(LimitRevisionRow)))
    assert "does not know its limits" in (refusal(world.judged(worth(SMALL))) or "")
    world.write(lambda session: session.add(LimitRevisionRow(id=1, revision=kept + 1)))
    assert refusal(world.judged(worth(SMALL))) is None


# --- what is not known, or makes no sense ---------------------------------------------------------

RESTING_ON_A_SWEEP = (
    K.GROSS_EXPOSURE,
    K.NET_EXPOSURE,
    K.DAILY_LOSS,
    K.DRAWDOWN,
    K.LOSING_STREAK,
    K.LEVERAGE,
    K.CONCENTRATION,
)


@one
@pytest.mark.parametrize("kind", RESTING_ON_A_SWEEP)
def test_a_sweep_that_is_too_old_is_not_believed(world: World, kind: LimitKind) -> None:
    set_(world, kind, 10**6, CHAIN[Level.ACCOUNT])
    world.stands(at=NOW - timedelta(seconds=59))
    assert refusal(world.judged(worth(SMALL))) is None
    world.stands(at=NOW - timedelta(seconds=61))
    words = refusal(world.judged(worth(SMALL))) or ""
    assert "is not known: the last sweep reckoned it at" in words
    (event,) = world.told()
    assert (event.kind, event.severity, event.value) == (kind, Severity.BREACH, None)


@one
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (K.GROSS_EXPOSURE, {"gross": None}),
        (K.NET_EXPOSURE, {"net": None}),
        (K.DAILY_LOSS, {"unrealised": None}),
        (K.DRAWDOWN, {"unrealised": None}),
        (K.LEVERAGE, {"equity": None}),
        (K.CONCENTRATION, {"equity": D(-1)}),
    ],
)
def test_a_price_that_a_sweep_missed_refuses_what_grows(
    world: World, kind: LimitKind, changes: dict[str, Any]
) -> None:
    set_(world, kind, 10**6, CHAIN[Level.ACCOUNT])
    world.stands(**changes, unknown="BTC-USDT has no fresh price")
    assert "is not known" in (refusal(world.judged(worth(SMALL))) or "")
    world.write(lambda session: session.add(held(D(1000))))
    assert refusal(world.judged(worth(SMALL, side=Side.SELL))) is None


@one
@pytest.mark.parametrize("age_s", [None, 61, -10])
def test_without_a_fresh_price_slippage_refuses(world: World, age_s: int | None) -> None:
    set_(world, K.SLIPPAGE, 5, "swarm")
    if age_s is not None:
        mark = {"venue": "simulated", "symbol": "BTC-USDT", "price": PRICE}
        at = NOW - timedelta(seconds=age_s)
        world.write(lambda session: session.add(MarkRow(**mark, at=at, bid=None, ask=None)))
    words = refusal(world.judged(worth(SMALL))) or ""
    assert "no fresh price of the market is known" in words


@one
def test_what_a_sweep_has_not_seen_yet_counts_all_the_same(world: World) -> None:
    set_(world, K.GROSS_EXPOSURE, 100, CHAIN[Level.ACCOUNT])
    bought = worth(D(90))
    assert refusal(world.judged(bought)) is None
    world.write(lambda session: fill(session, bought))
    words = refusal(world.judged(worth(D(11)))) or ""
    assert words.startswith("gross exposure would be 101, over 100"), "no sweep ever came by"
    world.write(lambda session: risk_standings.keep(session, [everything(gross=D(90), sequence=1)]))
    assert refusal(world.judged(worth(D(10)))) is None, "and it is counted once"


@one
def test_a_bot_that_no_sweep_has_met_and_that_holds_something_is_not_known(world: World) -> None:
    set_(world, K.GROSS_EXPOSURE, 10**6, CHAIN[Level.BOT])
    assert refusal(world.judged(worth(SMALL))) is None
    world.write(lambda session: session.add(held(D(5))))
    assert "no sweep has reckoned its bot" in (refusal(world.judged(worth(SMALL))) or "")


def everything(**changes: Any) -> AtRisk:
    return at_risk(CHAIN[Level.ACCOUNT], **changes)


def fill(session: Session, order: Order) -> None:
    """Booked, and the order at its end."""
    row = session.get_one(OrderRow, order.id)
    row.is_open, row.state = False, "filled"
    done = FillRow(
        **{name: getattr(order, name) for name in ("venue", "account", "symbol", "bot")},
        trade_id=session.scalar(select(func.count()).select_from(FillRow)) or 0,
        client_order_id=order.client_order_id,
        is_external=False,
        side=order.side.value,
        price=PRICE,
        quantity=order.quantity,
        commission=D(0),
        commission_asset="USDT",
        at=NOW,
        booked_at=NOW,
    )
    session.add(done)
    session.flush()
    last = session.scalar(select(func.max(EntryRow.sequence))) or 0
    session.add(EntryRow(sequence=last + 1, fill_id=done.id, previous_hash="", hash=""))


@both
def test_orders_of_two_accounts_that_race_cannot_exceed_a_limit_together(world: World) -> None:
    set_(world, K.OPEN_ORDERS, 5, "swarm")
    orders = [worth(SMALL, **(STRANGER if number % 2 else {})) for number in range(16)]
    for order in orders:
        assert world.ledger.orders.add(order, NOW)

    def ask(order: Order) -> Verdict | None:
        def judge(each: Order, exposure: Exposure) -> Verdict:
            return gate.judge(each, exposure, BOUNDLESS, NOW)

        return world.ledger.books.judge(order.id, judge, NOW)

    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(ask, orders))
    assert sum(isinstance(each, Approved) for each in verdicts) == 5


@one
@pytest.mark.parametrize(
    ("resting", "asked", "is_refused"),
    [
        ({"side": Side.SELL, "limit_price": D(101)}, {"limit_price": D(101)}, True),
        ({"side": Side.SELL, "limit_price": D(101)}, {"limit_price": D(100)}, False),
        ({"limit_price": D(99)}, {"side": Side.SELL, "limit_price": D(99)}, True),
        ({"limit_price": D(99)}, {"side": Side.SELL, "limit_price": D("99.01")}, False),
        ({"side": Side.SELL, "limit_price": D(100)}, {"kind": OrderKind.MARKET}, True),
        ({"side": Side.SELL, "limit_price": D(101)}, {"kind": OrderKind.MARKET}, False),
        ({"side": Side.SELL, "limit_price": D(1), "account": "other"}, {}, False),
        ({"side": Side.SELL, "limit_price": D(1), "symbol": "ETH-USDT"}, {}, False),
    ],
)
def test_two_of_our_orders_do_not_trade_with_each_other(
    world: World, resting: dict[str, Any], asked: dict[str, Any], is_refused: bool
) -> None:
    limit = {"kind": OrderKind.LIMIT, "limit_price": PRICE, "quantity": D("0.1")}
    assert refusal(world.judged(an_order(**limit | {"bot": "gamma"} | resting))) is None
    if asked.get("kind") is OrderKind.MARKET:
        asked = {**asked, "limit_price": None}
    words = refusal(world.judged(an_order(**limit | asked)))
    assert (words is not None) is is_refused, words
    assert not is_refused or "it would trade with an order of our own" in (words or "")


@one
def test_an_order_whose_end_is_asked_for_stands_in_nobodys_way(world: World) -> None:
    resting = an_order(kind=OrderKind.LIMIT, limit_price=PRICE, side=Side.SELL, quantity=D("0.1"))
    assert refusal(world.judged(resting)) is None
    assert "an order of our own" in (refusal(world.judged(worth(SMALL))) or "")

    def ask_for_its_end(session: Session) -> None:
        session.get_one(OrderRow, resting.id).is_ending = True

    world.write(ask_for_its_end)
    assert refusal(world.judged(worth(SMALL))) is None


@both
def test_orders_that_cross_a_warning_line_together_tell_it_once(world: World) -> None:
    limit = Limit(scope="swarm", kind=K.DAILY_LOSS, breach=D(100), warn=D(80))
    world.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)
    world.stands(unrealised=D(-90))
    orders = [worth(SMALL, **(STRANGER if number % 2 else {})) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert all(isinstance(each, Approved) for each in pool.map(world.judged, orders))
    assert [event.severity for event in world.told()] == [Severity.WARN]


def test_a_limit_says_what_it_is_or_is_not_set() -> None:
    for scope in ("swarm:", "bot", "bot:", "account:paper", "market:a:b:c", "planet:mars", ""):
        with pytest.raises(No, match="is no scope"):
            level_of(scope)
    assert level_of("account:binance:main") is Level.ACCOUNT
