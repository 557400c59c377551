"""Positions are valued at the market, and what is lost or at stake is held to the limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from botswarm.domain.limits import LimitKind, default
from botswarm.domain.order import OrderKind, Side
from botswarm.domain.permission import Refused as No
from botswarm.domain.permission import TradingState
from botswarm.errors import Refused
from botswarm.ledger.halts import Cause
from botswarm.ledger.store import Ledger
from botswarm.sweeps.positions import day_of
from botswarm.sweeps.sweep import Rules
from tests.ledger.conftest import BTC, NOW, an_order, let_pass
from tests.ledger.sweeping import OF_ACCOUNT, OF_MARKET, SWARM, Floor

D = Decimal


@pytest.fixture
def floor(quick_ledger: Ledger) -> Floor:
    return with_bots(quick_ledger)


@pytest.fixture
def either(ledger: Ledger) -> Floor:
    """On each database."""
    return with_bots(ledger)


def with_bots(ledger: Ledger) -> Floor:
    made = Floor(ledger)
    made.bot("alpha")
    made.bot("beta", strategy="grid")
    return made


def test_every_scope_knows_what_it_has_won_and_what_is_at_stake(either: Floor) -> None:
    either.trade("alpha", "buy", "2", "100")
    either.trade("alpha", "sell", "1", "130")
    either.trade("beta", "buy", "3", "110")
    either.price("120")
    either.sweep()
    alpha, beta = either.standing("bot:alpha"), either.standing("bot:beta")
    assert (alpha.realised, alpha.unrealised, alpha.gross) == (D(30), D(20), D(120))
    assert (beta.realised, beta.unrealised, beta.gross) == (D(0), D(30), D(360))
    for scope in (SWARM, OF_ACCOUNT, OF_MARKET):
        found = either.standing(scope)
        assert (found.realised, found.unrealised, found.gross, found.net) == (
            D(30),
            D(50),
            D(480),
            D(480),
        )
    assert either.standing("strategy:grid").unrealised == D(30)
    (exposure,) = either.ledger.risk_standings.exposures()
    assert (exposure.long_quantity, exposure.short_quantity, exposure.gross) == (
        D(4),
        D(0),
        D(480),
    )


def test_a_short_position_counts_whole_in_gross_and_against_in_net(floor: Floor) -> None:
    floor.trade("alpha", "buy", "2", "100")
    floor.trade("beta", "sell", "1", "100")
    floor.price("90")
    floor.sweep()
    found = floor.standing(OF_ACCOUNT)
    assert (found.gross, found.net, found.unrealised) == (D(270), D(90), D(-10))


@pytest.mark.parametrize("said", [None, 61, -30])
def test_a_price_that_is_missing_old_or_of_the_future_makes_the_loss_unknown(
    floor: Floor, said: int | None
) -> None:
    floor.trade("alpha", "buy", "2", "100")
    if said is not None:
        floor.clock.at = NOW + timedelta(seconds=max(0, -said))
        floor.price("1", at=NOW + timedelta(seconds=max(0, -said)))
        floor.clock.at = NOW + timedelta(seconds=max(0, said))
    floor.sweep()
    found = floor.standing(OF_ACCOUNT)
    assert found.unknown is not None
    assert (found.unrealised, found.today, found.drawdown, found.gross) == (None,) * 4
    assert found.realised == 0


def test_a_standing_names_the_end_of_the_journal_it_was_reckoned_at(floor: Floor) -> None:
    floor.price("100")
    floor.trade("alpha", "buy", "1", "100")
    floor.sweep()
    first = floor.standing(SWARM).sequence
    floor.trade("alpha", "buy", "1", "100")
    assert floor.standing(SWARM).sequence == first
    floor.sweep()
    assert (floor.standing(SWARM).sequence or 0) == (first or 0) + 1


def test_a_loss_warns_once_and_then_holds_the_account_until_a_person_resumes(
    either: Floor,
) -> None:
    either.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "100", warn="50")
    either.trade("alpha", "buy", "1", "1000")
    either.price("940")
    for _ in range(3):
        either.sweep()
        either.wait(5)
    (warning,) = either.events("daily_loss")
    assert (warning.severity, warning.value) == ("warn", D(60))
    assert either.state(OF_ACCOUNT) == "active"
    either.price("900")
    for _ in range(3):
        either.sweep()
        either.wait(5)
    _, breach = either.events("daily_loss")
    assert (breach.severity, breach.limit_value, breach.value) == ("breach", D(100), D(100))
    assert breach.numbers is not None
    assert breach.numbers["unrealised"] == "-100"
    assert either.state(OF_ACCOUNT) == "reducing"
    (halt,) = [each for each in either.ledger.halts.all() if each.scope == OF_ACCOUNT]
    assert halt.cause is Cause.LIMIT
    assert halt.actor == "limit:daily_loss"
    assert "100" in halt.reason
    with pytest.raises(Refused):
        either.ledger.halts.set(
            OF_ACCOUNT, TradingState.ACTIVE, reason="?", actor="rule", now=either.clock.at
        )
    either.price("990")
    either.sweep()
    assert either.state(OF_ACCOUNT) == "reducing", "what it holds, a better price does not lift"
    assert either.events("daily_loss")[-1].severity == "info", "it is told that the breach is over"


def test_a_breach_that_lasts_holds_again_what_somebody_resumed(floor: Floor) -> None:
    floor.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "100")
    floor.trade("alpha", "buy", "1", "1000")
    floor.price("800")
    floor.sweep()
    floor.ledger.halts.set(
        OF_ACCOUNT, TradingState.ACTIVE, reason="!", actor="me", now=floor.clock.at, is_human=True
    )
    floor.sweep()
    assert floor.state(OF_ACCOUNT) == "reducing"
    floor.ledger.sweeping.reset(OF_ACCOUNT, floor.clock.at, actor="me", reason="we know")
    floor.ledger.halts.set(
        OF_ACCOUNT, TradingState.ACTIVE, reason="!", actor="me", now=floor.clock.at, is_human=True
    )
    floor.wait(5)
    floor.price("800")
    floor.sweep()
    assert floor.state(OF_ACCOUNT) == "active"


@pytest.mark.parametrize("scope", [SWARM, OF_ACCOUNT, OF_MARKET, "strategy:grid", "bot:beta"])
@pytest.mark.parametrize("kind", [LimitKind.DAILY_LOSS, LimitKind.DRAWDOWN])
def test_a_loss_limit_fires_at_every_level(floor: Floor, scope: str, kind: LimitKind) -> None:
    floor.limit(scope, kind, "100")
    floor.trade("beta", "buy", "1", "1000")
    floor.price("901")
    floor.sweep()
    assert floor.state(scope) == "active"
    floor.price("900", at=floor.clock.at + timedelta(seconds=1))
    floor.sweep()
    assert floor.state(scope) == "reducing"
    assert floor.state("bot:alpha") == "active"


def test_the_drawdown_is_from_the_peak_not_from_the_beginning(floor: Floor) -> None:
    floor.limit(OF_ACCOUNT, LimitKind.DRAWDOWN, "150")
    floor.trade("alpha", "buy", "1", "1000")
    for price, state in (
        ("1010", "active"),
        ("1100", "active"),
        ("951", "active"),
        ("949", "reducing"),
    ):
        floor.wait(5)
        floor.price(price)
        floor.sweep()
        assert floor.state(OF_ACCOUNT) == state, price


def test_a_new_trading_day_begins_with_what_stood_at_its_boundary(floor: Floor) -> None:
    floor.rules = Rules(day_begins=timedelta(hours=12, minutes=1))
    floor.trade("alpha", "buy", "1", "1000")
    floor.price("900")
    floor.sweep()
    assert floor.standing(OF_ACCOUNT).today == D(-100)
    floor.wait(61)
    floor.price("880")
    floor.sweep()
    assert floor.standing(OF_ACCOUNT).today == D(-20)


def test_the_day_is_the_one_that_began_last() -> None:
    begins = timedelta(hours=22)
    day, began = day_of(NOW, begins)
    assert (day, began) == ("2026-03-03", NOW.replace(day=3, hour=22))
    assert day_of(NOW.replace(hour=22), begins)[0] == "2026-03-04"


def test_losses_in_a_row_are_counted_by_order_and_a_win_ends_them(either: Floor) -> None:
    either.price("100")
    either.trade("alpha", "buy", "10", "100")
    for price, streak in (("90", 1), ("95", 2), ("120", 0), ("99", 1)):
        either.wait(1)
        either.trade("alpha", "sell", "1", price, parts=4)
        either.sweep()
        found = either.standing("bot:alpha")
        assert found.losing_streak == streak, price
        assert either.standing(SWARM).losing_streak == streak
    assert either.standing("bot:alpha").lost_at == either.clock.at
    closed = either.ledger.outcomes.since(NOW, most=100)
    assert [each.realised for each in closed] == [D(-10), D(-5), D(20), D(-1)]
    assert [each.turnover for each in closed] == [D(90), D(95), D(120), D(99)]
    assert either.ledger.outcomes.since(NOW, most=2) == closed[-2:], "of too many the latest"
    assert either.standing("bot:alpha").realised == D(4)


def test_a_losing_streak_fires_and_holds_nothing_by_itself(floor: Floor) -> None:
    floor.limit("bot:alpha", LimitKind.LOSING_STREAK, "2")
    floor.price("100")
    floor.trade("alpha", "buy", "10", "100")
    for _ in range(2):
        floor.trade("alpha", "sell", "1", "90")
    floor.sweep()
    (event,) = floor.events("losing_streak")
    assert (event.severity, event.value, event.bot) == ("breach", D(2), "alpha")
    assert floor.state("bot:alpha") == "active", "the gate counts the pause after a loss"


def test_a_market_that_outgrows_its_share_of_the_account_is_told(floor: Floor) -> None:
    floor.limit(SWARM, LimitKind.CONCENTRATION, "40")
    floor.trade("alpha", "buy", "1", "300")
    floor.price("500")
    fold(floor.ledger, {"USDT": "700", "BTC": "1"})
    floor.sweep()
    (event,) = floor.events("concentration")
    assert event.value is not None
    assert round(event.value, 2) == D("41.67")
    assert floor.standing(OF_ACCOUNT).equity == D(1200)


def test_an_account_is_worth_what_nobody_can_say_while_one_price_is_old(floor: Floor) -> None:
    floor.trade("alpha", "buy", "1", "300")
    floor.price("500")
    fold(floor.ledger, {"USDT": "700", "BTC": "1", "DUST": "5"})
    floor.sweep()
    assert floor.standing(OF_ACCOUNT).equity == D(1200)
    floor.wait(100)
    floor.sweep()
    found = floor.standing(OF_ACCOUNT)
    assert (found.equity, found.equity_peak) == (None, D(1200))


def test_a_position_that_a_price_carried_over_its_limit_is_told(floor: Floor) -> None:
    floor.limit("bot:alpha", LimitKind.POSITION, "150")
    floor.trade("alpha", "buy", "1", "100")
    floor.trade("beta", "buy", "1", "100")
    floor.price("151")
    floor.sweep()
    (event,) = floor.events("position")
    assert (event.bot, event.severity, event.value) == ("alpha", "warn", D(151))


def test_what_is_unknown_is_told_only_where_somebody_set_a_limit(floor: Floor) -> None:
    floor.trade("alpha", "buy", "1", "100")
    floor.sweep()
    assert floor.events() == []
    floor.limit(SWARM, LimitKind.DRAWDOWN, "100")
    floor.sweep()
    (event,) = floor.events()
    assert (event.kind, event.severity) == ("drawdown_unknown", "warn")


def test_each_sweep_is_recorded_with_what_it_looked_at(floor: Floor) -> None:
    floor.trade("alpha", "buy", "1", "100")
    floor.price("100")
    floor.sweep()
    (done,) = floor.ledger.findings.sweeps("positions")
    assert (done.looked, done.found, done.error) == (1, 0, None)
    assert done.result["outcomes"] == 0


def test_a_late_sweep_does_not_take_back_what_a_later_one_said(either: Floor) -> None:
    either.trade("alpha", "buy", "1", "100")
    either.price("100")
    either.sweep()
    late = either.standing(SWARM)
    either.trade("alpha", "buy", "1", "100")
    either.sweep()
    assert not either.ledger.sweeping.keep([late], [], either.clock.at - timedelta(seconds=1))
    assert either.standing(SWARM).gross == D(200)


def test_a_sweep_that_had_begun_does_not_take_back_a_reset(either: Floor) -> None:
    either.trade("alpha", "buy", "1", "100")
    for price in ("150", "100"):
        either.wait(5)
        either.price(price)
        either.sweep()
    either.trade("alpha", "buy", "1", "100")
    late = replace(either.standing(SWARM), sequence=either.ledger.sweeping.look().sequence)
    began = either.clock.at
    either.wait(1)
    assert either.standing(SWARM).drawdown == D(50)
    either.ledger.sweeping.reset(SWARM, either.clock.at, actor="me", reason="accepted")
    assert not either.ledger.sweeping.keep([late], [], began)
    assert either.standing(SWARM).drawdown == D(0)
    either.wait(5)
    either.price("99")
    assert either.sweep().result["is_newest"], "the next one goes on from there"
    assert either.standing(SWARM).drawdown == D(2)


def fold(ledger: Ledger, balances: dict[str, str]) -> None:
    """As a reconciliation leaves the account's balances."""
    from botswarm.ledger.account_models import AccountFoldRow
    from tests.ledger.conftest import ACCOUNT, VENUE

    def work(session: object) -> None:
        row = AccountFoldRow(venue=VENUE, account=ACCOUNT, sequence=0, balances=balances)
        session.merge(row)  # type: ignore[attr-defined]

    ledger.database.write(work)


def test_where_it_is_wanted_a_broken_limit_of_losses_closes_what_its_scope_holds(
    either: Floor,
) -> None:
    either.rules = Rules(closes_on_breach=True)
    either.ledger.books.save_instruments([BTC])
    either.limit("bot:alpha", LimitKind.DAILY_LOSS, "50")
    for name in ("alpha", "beta"):
        either.trade(name, "buy", "2", "100")
    resting = an_order(side=Side.SELL, kind=OrderKind.LIMIT, limit_price=D(120), quantity=D("0.5"))
    either.ledger.orders.add(resting, NOW)
    either.price("70")
    done = either.sweep()
    assert (done.result["closing"], done.result["ended"]) == (1, 1)
    (order,) = either.ledger.orders.under_way(bot="alpha")
    assert (order.kind, order.side, order.is_reduce_only) == (OrderKind.MARKET, Side.SELL, True)
    assert order.quantity == D("1.5")
    assert either.ledger.orders.under_way(bot="beta") == []
    either.wait(5)
    assert either.sweep().result["closing"] == 0, "it is being closed already"
    either.ledger.books.judge(order.id, lambda each, _: No(each, "no"), either.clock.at)
    either.price("100")
    either.wait(5)
    assert either.sweep().result["closing"] == 1, (
        "the price came back, and it is closed all the same"
    )


def test_the_setting_of_a_day_s_loss_counts_what_is_not_realised_too(floor: Floor) -> None:
    floor.rules = Rules(defaults=[default(LimitKind.DAILY_LOSS, 50)])
    floor.trade("alpha", "buy", "2", "100")
    floor.price("76")
    floor.sweep()
    assert floor.state(OF_ACCOUNT) == "active"
    floor.wait(5)
    floor.price("74")
    floor.sweep()
    assert (floor.state(OF_ACCOUNT), floor.state(SWARM)) == ("reducing", "active")


@pytest.mark.parametrize("cause", [Cause.PERSON, Cause.LIMIT])
def test_what_others_hold_already_is_closed_all_the_same_when_its_losses_break_a_limit(
    floor: Floor, cause: Cause
) -> None:
    floor.rules = Rules(closes_on_breach=True)
    floor.ledger.books.save_instruments([BTC])
    floor.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "50")
    floor.trade("alpha", "buy", "2", "100")
    floor.ledger.halts.restrict(
        OF_ACCOUNT,
        TradingState.REDUCING,
        reason="no more today",
        actor="limit:burst",
        now=floor.clock.at,
        cause=cause,
    )
    floor.price("90")
    assert "closing" not in floor.sweep().result, "no limit is broken"
    floor.wait(5)
    floor.price("70")
    assert floor.sweep().result["closing"] == 1


def test_what_a_bot_realised_today_counts_when_it_is_first_met(floor: Floor) -> None:
    floor.price("100")
    floor.trade("alpha", "buy", "2", "100")
    floor.sweep()
    floor.wait(1)
    floor.bot("gamma")
    floor.trade("gamma", "buy", "1", "100")
    floor.trade("gamma", "sell", "1", "60")
    floor.sweep()
    assert floor.standing("bot:gamma").today == D(-40)
    assert floor.standing("bot:alpha").today == D(0)


def test_of_very_many_bots_those_with_limits_are_in_every_sweep_and_others_take_turns(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botswarm.sweeps import positions

    monkeypatch.setattr(positions, "BOTS_MAX", 1)
    floor.limit("bot:alpha", LimitKind.DRAWDOWN, "100")
    for name in ("alpha", "beta"):
        floor.trade(name, "buy", "1", "100")
    met = set()
    for _ in range(positions.TURNS):
        floor.price("100")
        floor.sweep()
        found = {each.scope: each.at for each in floor.ledger.risk_standings.all()}
        assert found["bot:alpha"] == floor.clock.at
        met |= {scope for scope, at in found.items() if at == floor.clock.at}
        floor.wait(5)
    assert "bot:beta" in met


def test_sweeps_that_run_at_once_count_once_and_tell_once(either: Floor) -> None:
    either.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "100")
    either.price("1000")
    either.trade("alpha", "buy", "3", "1000")
    either.trade("alpha", "sell", "1", "900")
    either.price("800", at=either.clock.at + timedelta(seconds=1))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: either.sweep(), range(4)))
    assert {each.error for each in done} == {None}
    assert len(either.events("daily_loss")) == 1
    (outcome,) = either.ledger.outcomes.since(NOW - timedelta(seconds=1), most=100)
    assert outcome.realised == D(-100)
    assert either.standing(OF_ACCOUNT).today == D(-500)


def test_no_more_is_closed_at_once_than_is_judged_in_time(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botswarm.sweeps import placing

    monkeypatch.setattr(placing, "WAITING_MAX", 2)
    floor.rules = Rules(closes_on_breach=True)
    floor.ledger.books.save_instruments([BTC])
    floor.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "50")
    for number in range(5):
        floor.bot(f"b{number}")
        floor.trade(f"b{number}", "buy", "1", "100")
    floor.price("70")
    began = floor.clock.at
    assert floor.sweep().result["closing"] == 2
    assert floor.clock.at - began >= timedelta(seconds=placing.PATIENCE_S)
    waiting = floor.ledger.orders.under_way()
    assert all(each.created_at == began for each in waiting)
    for order in waiting:
        floor.ledger.books.judge(order.id, let_pass, floor.clock.at)
    assert floor.sweep().result["closing"] == 2
