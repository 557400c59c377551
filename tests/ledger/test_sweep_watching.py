"""What nobody looks after is told once, with its numbers, and again when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from botswarm.domain.finding import Finding
from botswarm.domain.order import OrderState, Side
from botswarm.domain.permission import TradingState
from botswarm.domain.reconciliation import Difference, Fate, Kind
from botswarm.errors import NotFound, Unreachable
from botswarm.ledger.bot import BotState
from botswarm.ledger.store import Ledger
from botswarm.ledger.watched import Traded
from botswarm.risk import patterns
from botswarm.sweeps import watching
from botswarm.sweeps.sweep import Report, Tools, run
from botswarm.sweeps.table import SWEEPS, sweep
from tests.ledger.conftest import NOW, an_order, sent
from tests.ledger.sweeping import OF_ACCOUNT, OF_MARKET, Floor
from tests.standing import reconciled

D = Decimal


@pytest.fixture
def floor(quick_ledger: Ledger) -> Floor:
    made = Floor(quick_ledger)
    made.bot("alpha", state=BotState.RUNNING)
    return made


def test_an_old_price_is_told_once_and_again_when_it_is_new(floor: Floor) -> None:
    floor.price("100")
    floor.wait(61)
    floor.bot("beta", symbol="ETH-USDT", state=BotState.RUNNING)
    for _ in range(3):
        floor.sweep(watching.feeds, "feeds")
    (event,) = floor.events("stale_feed")
    assert (event.scope, event.severity) == (OF_MARKET, "warn")
    floor.price("100")
    floor.sweep(watching.feeds, "feeds")
    assert [each.severity for each in floor.events("stale_feed")] == ["warn", "info"]


def test_a_market_whose_price_grew_old_is_held_until_there_is_a_new_one(floor: Floor) -> None:
    floor.price("100")
    floor.wait(61)
    for _ in range(2):
        floor.sweep(watching.feeds, "feeds")
    assert floor.state(OF_MARKET) == "reducing"
    floor.price("100")
    floor.sweep(watching.feeds, "feeds")
    assert floor.state(OF_MARKET) == "active"


def test_what_a_person_holds_a_sweep_does_not_let_go(floor: Floor) -> None:
    floor.price("100")
    floor.wait(61)
    floor.sweep(watching.feeds, "feeds")
    floor.ledger.halts.set(
        OF_MARKET, TradingState.REDUCING, reason="!", actor="me", now=floor.clock.at, is_human=True
    )
    floor.price("100")
    floor.sweep(watching.feeds, "feeds")
    assert floor.state(OF_MARKET) == "reducing"


def test_a_market_whose_price_nobody_ever_wrote_down_is_told_and_not_held(floor: Floor) -> None:
    floor.trade("alpha", "buy", "1", "100")
    floor.wait(61)
    floor.sweep(watching.feeds, "feeds")
    assert floor.state(OF_MARKET) == "active"


def test_a_position_without_a_price_is_graver_than_a_bot_without_one(floor: Floor) -> None:
    floor.trade("alpha", "buy", "1", "100")
    floor.wait(61)
    floor.sweep(watching.feeds, "feeds")
    (event,) = floor.events("stale_feed")
    assert event.severity == "breach"


def test_a_venue_that_fell_silent_is_one_finding_not_one_for_each_market(floor: Floor) -> None:
    for number in range(5):
        floor.trade("alpha", "buy", "1", "100", symbol=f"C{number}-USDT")
    floor.wait(61)
    done = floor.sweep(watching.feeds, "feeds")
    assert (done.looked, done.found) == (6, 1)
    assert "all 6 markets of simulated are silent" in floor.events("stale_feed")[0].words


def test_an_order_that_does_not_move_is_told_and_graver_the_longer_it_lasts(floor: Floor) -> None:
    order = sent(floor.ledger)
    floor.sweep(watching.orders, "orders")
    assert floor.events("stuck_order") == []
    for seconds, severities in ((61, ["warn"]), (30, ["warn"]), (300, ["warn", "breach"])):
        floor.wait(seconds)
        floor.sweep(watching.orders, "orders")
        assert [each.severity for each in floor.events("stuck_order")] == severities
    assert floor.events("stuck_order")[0].order_id == order.id
    assert floor.state("bot:alpha") == "reducing", "nobody knows what it holds in the end"
    floor.ledger.books.record(order.id, OrderState.CANCELED, floor.clock.at)
    floor.sweep(watching.orders, "orders")
    assert floor.events("stuck_order")[-1].severity == "info"
    assert floor.state("bot:alpha") == "active"


def test_orders_that_rest_or_wait_for_a_moment_are_not_stuck(floor: Floor) -> None:
    from botswarm.domain.order import OrderKind

    resting = sent(floor.ledger, kind=OrderKind.LIMIT, limit_price=D(90))
    floor.ledger.books.record(resting.id, OrderState.LIVE, NOW)
    waiting = an_order(signal_expires_at=NOW + timedelta(hours=1))
    floor.ledger.orders.add(waiting, NOW)
    floor.wait(600)
    assert floor.sweep(watching.orders, "orders").found == 0
    floor.ledger.cancels.wish([resting.id], floor.clock.at, actor="me", reason="")
    floor.wait(61)
    done = floor.sweep(watching.orders, "orders")
    assert done.found == 1
    assert "its end was asked for" in floor.events("stuck_order")[0].words


def test_an_account_that_is_not_compared_or_does_not_agree_is_told(floor: Floor) -> None:
    floor.sweep(watching.accounts, "accounts")
    assert floor.events("unreconciled") == []
    floor.wait(601)
    floor.sweep(watching.accounts, "accounts")
    (event,) = floor.events("unreconciled")
    assert (event.scope, event.severity) == (OF_ACCOUNT, "breach")
    differing = Difference(
        kind=Kind.CORRECTION, subject="USDT", words="3 USDT more than booked", fate=Fate.RAISED
    )
    reconciled(floor.ledger, floor.clock.at, differences=(differing,))
    floor.sweep(watching.accounts, "accounts")
    (standing,) = floor.ledger.findings.standing()
    assert "3 USDT more" in standing.finding.words


def test_processes_are_looked_at_by_the_sweep(floor: Floor) -> None:
    done = floor.sweep(watching.processes, "processes")
    assert done.result["differences"] == []


def burst(floor: Floor, count: int, **changes: Any) -> None:
    for number in range(count):
        order = an_order(
            created_at=floor.clock.at,
            signal_expires_at=floor.clock.at + timedelta(seconds=10),
            **{"quantity": D(number + 1), **changes},
        )
        floor.ledger.orders.add(order, floor.clock.at)


def test_a_burst_of_orders_is_told_and_a_mad_one_holds_its_bot(floor: Floor) -> None:
    burst(floor, 49)
    assert floor.sweep(watching.habits, "patterns").found == 0
    burst(floor, 1)
    floor.sweep(watching.habits, "patterns")
    (event,) = floor.events("burst")
    assert (event.severity, event.bot) == ("warn", "alpha")
    assert floor.state("bot:alpha") == "active"
    burst(floor, 250)
    floor.sweep(watching.habits, "patterns")
    assert floor.events("burst")[-1].severity == "breach"
    assert floor.state("bot:alpha") == "reducing"


def traded(count: int, **changes: Any) -> list[Traded]:
    values: dict[str, Any] = {
        "bot": "alpha",
        "symbol": "BTC-USDT",
        "side": "buy",
        "kind": "market",
        "price": "",
        "state": OrderState.FILLED,
        "is_filled": True,
    }
    made = []
    for number in range(count):
        own = {"quantity": str(number), "created_at": NOW - timedelta(seconds=number)}
        said = {name: each(number) if callable(each) else each for name, each in changes.items()}
        made.append(Traded(**{**values, **own, **said}))
    return made


def kinds(
    orders: Sequence[Traded], before: Mapping[str, tuple[int, datetime]] | None = None
) -> set[str]:
    return {each.pattern.kind for each in patterns.unusual(orders, before or {}, NOW)}


def test_each_pattern_is_seen_and_what_is_usual_is_not() -> None:
    assert kinds(traded(19)) == set()
    assert kinds(traded(30, state=OrderState.CANCELED, is_filled=False)) == {"many_cancels"}
    assert kinds(traded(10, state=OrderState.REFUSED, is_filled=False)) == {"many_rejects"}
    some = traded(10, state=OrderState.REFUSED) + traded(11)
    assert kinds(some) == set(), "most of them passed"
    sides = [Side.BUY.value, Side.SELL.value]
    assert kinds(traded(21, side=lambda number: sides[number % 2])) == {"many_flips"}
    assert kinds(traded(20, quantity="1")) == {"repeats"}
    assert kinds(traded(50, created_at=NOW)) == {"burst"}


def test_a_bot_is_held_against_its_own_habit() -> None:
    day = NOW - timedelta(hours=20)
    busy, quiet = {"alpha": (2400, day)}, {"alpha": (48, day)}
    assert kinds(traded(25), busy) == set()
    assert kinds(traded(25), quiet) == {"unlike_itself"}
    young = {"alpha": (1, NOW - timedelta(minutes=30))}
    assert kinds(traded(25), young) == set(), "it has no habits yet"


def test_a_sweep_that_fails_is_recorded_with_its_reason_and_raises_nothing(floor: Floor) -> None:
    def fails(tools: Tools, now: object) -> Report:
        raise Unreachable("the ledger went away", cure="wait")

    done = run("feeds", fails, floor.tools)
    assert done.error == "the ledger went away; wait"
    (kept,) = floor.ledger.findings.sweeps()
    assert kept.error == done.error


def test_a_sweep_that_breaks_is_recorded_too_and_says_what_broke(floor: Floor) -> None:
    def breaks(tools: Tools, now: object) -> Report:
        raise ZeroDivisionError("a bug")

    assert run("feeds", breaks, floor.tools).error == "ZeroDivisionError: a bug"
    (kept,) = floor.ledger.findings.sweeps()
    assert kept.error == "ZeroDivisionError: a bug"


def test_only_busy_bots_are_asked_for_their_habits() -> None:
    some = [*traded(20), *traded(19, bot="beta"), *traded(25, bot="gamma")]
    assert patterns.busy(some) == ["gamma", "alpha"]


def test_more_findings_than_anybody_reads_are_counted_and_the_first_are_kept(
    floor: Floor,
) -> None:
    some = [
        Finding(kind="x", subject=str(number), scope="swarm", severity="warn", words="w")
        for number in range(600)
    ]
    done = run("feeds", lambda tools, now: Report(looked=1, findings=some), floor.tools)
    assert done.found == 600
    assert len(floor.ledger.findings.standing()) == 500


def test_every_sweep_of_the_table_runs_on_an_empty_ledger(floor: Floor) -> None:
    for each in SWEEPS:
        assert sweep(each.name, floor.tools).error is None
    with pytest.raises(NotFound):
        sweep("everything", floor.tools)


def test_every_sweep_is_sent_by_beat() -> None:
    from botswarm.messages import SweepRisk
    from botswarm.schedule import SCHEDULE

    sent_names = {each.message.name for each in SCHEDULE if isinstance(each.message, SweepRisk)}
    assert sent_names == {each.name for each in SWEEPS}
