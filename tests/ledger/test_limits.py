"""Every limit at every level: it warns once, refuses what it must, and a person lifts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from botswarm.domain.limits import RULES, Level, Limit, LimitKind, in_force, level_of
from botswarm.domain.order import Order, OrderKind, Side
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.domain.standing import AtRisk
from botswarm.errors import Refused as No
from botswarm.ledger import halts, migrate, risk_standings
from botswarm.ledger.models import (
    EntryRow,
    FillRow,
    OrderRow,
    PositionRow,
)
from botswarm.ledger.risk_events import Severity
from botswarm.ledger.risk_models import LimitRevisionRow, LimitRow
from botswarm.ledger.store import Ledger
from botswarm.ledger.sweep_models import MarkRow
from botswarm.risk import gate
from botswarm.risk.limits import Limits
from tests.ledger.conftest import NOW, Migrated, a_bot, an_order
from tests.ledger.limiting import (
    BOUNDLESS,
    CASES,
    CHAIN,
    PRICE,
    SMALL,
    STRANGER,
    Case,
    D,
    K,
    World,
    at_risk,
    held,
    worth,
)
from tests.standing import reconciled


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
@pytest.mark.parametrize("kind", [K.SLIPPAGE, K.PRICE_COLLAR])
@pytest.mark.parametrize("age_s", [None, 61, -10])
def test_without_a_fresh_price_what_is_held_against_it_refuses(
    world: World, age_s: int | None, kind: LimitKind
) -> None:
    set_(world, kind, 5, "swarm")
    if age_s is not None:
        mark = {"venue": "simulated", "symbol": "BTC-USDT", "price": PRICE}
        at = NOW - timedelta(seconds=age_s)
        world.write(lambda session: session.add(MarkRow(**mark, at=at, bid=None, ask=None)))
    order = worth(SMALL)
    if kind is K.PRICE_COLLAR:
        order = replace(order, kind=OrderKind.LIMIT, limit_price=PRICE)
    words = refusal(world.judged(order)) or ""
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
