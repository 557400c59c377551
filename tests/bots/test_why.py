"""What a bot answers when it is asked why, from the ledger alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from botswarm.bots import demo, why
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.muster import Muster
from botswarm.bots.registry import Registry
from botswarm.bots.scene import Scene
from botswarm.bots.spec import BotSpec
from botswarm.bots.strategies import Strategies
from botswarm.cli import botswarm
from botswarm.cli.session import Session
from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderState
from botswarm.domain.permission import Approved, Refused, TradingState
from botswarm.errors import BotswarmError, NotFound
from botswarm.errors import Refused as NotAllowed
from botswarm.ledger.bots import BotState
from botswarm.ledger.halts import SWARM, bot_scope, place_of
from botswarm.ledger.stands import MarketPass
from botswarm.ledger.store import Ledger
from botswarm.strategies.evaluate import Market
from botswarm.strategies.registry import load
from tests.strategies.values import NOW, SYMBOL, VENUE, a_market, some_candles

CATALOG = load()
RISING = [100.0, 100.0, 100.0, 101.0, 103.0]


def a_bot(ledger: Ledger, name: str = "alpha", *, start: bool = True) -> None:
    spec = BotSpec.of(
        CATALOG,
        name=name,
        strategy="sma-cross",
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        budget=1000,
        parameters={"fast": 2, "slow": 5},
    )
    bots = Registry(ledger)
    bots.create(spec, NOW - timedelta(minutes=1), actor="test")
    if start:
        bots.start(name, NOW - timedelta(minutes=1), actor="test")


def a_pass(ledger: Ledger, market: Market | None = None, now: datetime = NOW) -> None:
    muster = Muster(VENUE, SYMBOL, Strategies(CATALOG))
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    scene = Scene(market=market or a_market(), candles={"1m": some_candles(RISING)})
    done = Evaluator(timedelta(seconds=10)).evaluate(muster, scene, now)
    ledger.bots.decide_many(done.decisions, now)


def the_order(ledger: Ledger) -> Any:
    (order,) = ledger.orders.list(bot="alpha")
    return order


def asked(ledger: Ledger, seconds_later: float = 3) -> why.Explanation:
    return why.explain(ledger, "alpha", NOW + timedelta(seconds=seconds_later))


def spoken(ledger: Ledger, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    url = ledger.database.url.render_as_string(hide_password=False)
    session = Session(environ={"BOTSWARM_DATABASE_URL": url})
    code = botswarm.main([*words], prog_name="botswarm", standalone_mode=False, obj=session)
    assert code == 0
    return capsys.readouterr().out


def test_a_bot_that_nobody_evaluated_says_so(ledger: Ledger) -> None:
    a_bot(ledger)
    found = asked(ledger)
    assert found.answer == (
        "alpha runs, and has not been evaluated yet: simulated:BTC-USDT is not followed: the feed "
        "never wrote a candle of it"
    )
    assert found.is_silent


def test_it_tells_what_it_saw_thought_and_was_nearest_to(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    a_pass(ledger)
    found = asked(ledger)
    assert found.answer == (
        "alpha in: the fast average is above the slow one; "
        "to leave: fast 102 is 1.2 above slow 100.8"
    )
    assert not found.is_silent
    told = why.data(found)
    assert told["evaluated_s_ago"] == 3.0
    shown = told["evaluation"]["indicators"]
    assert shown == pytest.approx({"fast": 102.0, "slow": 100.8, "above": 1.2})
    assert told["orders"][0]["state"] == "ready"
    assert json.loads(json.dumps(told)) == told
    text = spoken(ledger, capsys, "bot", "why", "alpha")
    for words in (
        "verdict       in: the fast average is above the slow one",
        "nearest       to leave: fast 102 is 1.2 above slow 100.8",
        "seen          fast 102  slow 100.8  above 1.2",
        "market        last 100, bid 99.99, ask 100",
        "on data 0 ms old",
    ):
        assert words in text


def test_it_names_the_gate_that_stopped_its_last_order(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    a_pass(ledger)
    reason = "order notional would be 1000, over 500 (limit_order_notional_max)"
    ledger.books.judge(the_order(ledger).id, lambda order, _: Refused(order, reason), NOW)
    found = asked(ledger)
    assert found.stopped_order is not None
    assert found.stopped_order.state is OrderState.REFUSED
    assert found.stopped_order.reason == reason
    text = spoken(ledger, capsys, "bot", "why", "alpha")
    assert f"last stopped  12:00:00 buy 10: refused, {reason}" in text


def test_it_shows_its_fills_and_what_it_holds(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    a_pass(ledger)
    order = the_order(ledger)
    ledger.books.judge(order.id, lambda order, _: Approved(order), NOW)
    fill = Fill(
        venue=VENUE,
        symbol=SYMBOL,
        trade_id=1,
        client_order_id=order.client_order_id,
        side=order.side,
        price=Decimal("99.99"),
        quantity=Decimal("2.5"),
        commission=Decimal("0.0025"),
        commission_asset="BTC",
        at=NOW,
    )
    ledger.books.book([fill], NOW)
    told = why.data(asked(ledger))
    assert told["position"] == "2.4975"
    assert told["fills"][0]["price"] == "99.99"
    text = spoken(ledger, capsys, "bot", "why", "alpha")
    assert "holds         2.4975 BTC, open orders: 1, budget 1000 USDT" in text
    assert "12:00:00  buy   2.5       99.99  0.0025 BTC" in text


def test_it_says_that_it_does_not_act_and_why(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger, a_market(exchange_ms=a_market().exchange_ms - 7200))
    assert asked(ledger).answer == ("alpha does not act: the data is 7.2 s old, over 5 s (stale)")


def test_it_says_that_it_was_paused_and_by_what(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger)
    Registry(ledger).pause("alpha", NOW, actor="test", reason="5 evaluations in a row failed: X")
    assert asked(ledger).answer == (
        "alpha is paused: 5 evaluations in a row failed: X (test, 2026-03-04 12:00:00)"
    )


def test_it_says_that_trading_is_halted_before_anything_else(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger)
    scope = bot_scope("alpha")
    ledger.halts.set(scope, TradingState.HALTED, reason="a drill", actor="test", now=NOW)
    assert asked(ledger).answer == "alpha: trading of bot:alpha is halted: a drill"
    ledger.halts.set(
        scope, TradingState.ACTIVE, reason="over", actor="test", now=NOW, is_human=True
    )
    assert asked(ledger).halts == []


def test_it_says_that_trading_is_open_to_others_only(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger)
    said = {"reason": "step by step", "actor": "ada", "now": NOW, "is_human": True}
    for share, is_held in ((place_of("alpha"), True), (place_of("alpha") + 1, False)):
        ledger.halts.set(SWARM, TradingState.ACTIVE, share=share, **said)  # type: ignore[arg-type]
        held = [halt.reason for halt in asked(ledger).halts]
        assert bool(held) is is_held
        assert all(f"only {share} %" in words for words in held)


def test_a_bot_that_runs_and_is_never_asked_is_silent(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger)
    assert not asked(ledger, seconds_later=60).is_silent
    late = asked(ledger, seconds_later=120)
    assert late.is_silent
    assert late.answer.startswith("alpha runs, and was last evaluated 120 s ago: ")
    # Nothing new was found since; that its market is looked after is known all the same.
    passed = MarketPass(
        venue=VENUE, symbol=SYMBOL, at=NOW + timedelta(seconds=110), sequence=99, bots=1
    )
    ledger.stands.passed([passed])
    seen = asked(ledger, seconds_later=120)
    assert (seen.is_silent, seen.age_s) == (False, 10)


def test_an_unknown_name_is_answered_with_the_one_that_was_meant(ledger: Ledger) -> None:
    a_bot(ledger)
    with pytest.raises(NotFound) as caught:
        why.explain(ledger, "alhpa", NOW)
    assert caught.value.exit_code == 4
    assert caught.value.cure == "did you mean alpha?"
    with pytest.raises(NotFound) as caught:
        why.explain(ledger, "zzz", NOW)
    assert caught.value.cure == "see: botswarm bot list"


# --- what may be done with a bot ------------------------------------------------------------------


def test_a_bot_goes_only_where_it_can(ledger: Ledger) -> None:
    a_bot(ledger, start=False)
    bots = Registry(ledger)
    for refused in (bots.pause, bots.resume):
        with pytest.raises(NotAllowed, match="is created"):
            refused("alpha", NOW, actor="test")
    assert bots.start("alpha", NOW, actor="test").state is BotState.RUNNING
    assert bots.pause("alpha", NOW, actor="test").state is BotState.PAUSED
    assert bots.resume("alpha", NOW, actor="test").state is BotState.RUNNING
    assert bots.stop("alpha", NOW, actor="test").state is BotState.STOPPED
    assert bots.stop("alpha", NOW, actor="test", reason="again").reason == "stopped"
    with pytest.raises(NotAllowed, match="is stopped, not paused"):
        bots.resume("alpha", NOW, actor="test")


def test_a_bot_with_work_under_way_is_not_deleted(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger)
    bots = Registry(ledger)
    with pytest.raises(NotAllowed, match="runs"):
        bots.delete("alpha", NOW, actor="test")
    bots.stop("alpha", NOW, actor="test")
    with pytest.raises(NotAllowed, match="1 orders of alpha are not at their end"):
        bots.delete("alpha", NOW, actor="test")
    ledger.books.judge(the_order(ledger).id, lambda order, _: Refused(order, "no"), NOW)
    bots.delete("alpha", NOW, actor="test")
    assert bots.list() == []
    assert len(ledger.orders.list(bot="alpha")) == 1, "its history stays"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "two words"}, "'two words' is no name"),
        ({"name": "manual"}, "people's own orders"),
        ({"symbol": "BTCUSDT"}, "'BTCUSDT' is no market"),
        ({"timeframe": "7m"}, "'7m' is no timeframe"),
        ({"budget": "0"}, "the budget is 0"),
        ({"budget": "-1"}, "the budget is -1"),
        ({"budget": "1e5"}, "the budget is 1e5"),
        ({"budget": "NaN"}, "the budget is NaN"),
        ({"parameters": {"fast": 0}}, "fast is 0"),
        ({"strategy": "smacross"}, "there is no strategy 'smacross'"),
        ({"symbol": "BTC-USDC"}, "simulated has no market BTC-USDC"),
    ],
)
def test_a_bot_that_makes_no_sense_is_not_created(
    ledger: Ledger, changes: dict[str, Any], complaint: str
) -> None:
    said: dict[str, Any] = {
        "name": "alpha",
        "strategy": "sma-cross",
        "venue": VENUE,
        "symbol": SYMBOL,
        "account": "paper",
    }
    with pytest.raises(BotswarmError) as caught:
        Registry(ledger).create(BotSpec.of(CATALOG, **said | changes), NOW, actor="test")
    assert complaint in caught.value.cause
    assert caught.value.cure
    assert Registry(ledger).list() == []


def test_the_demo_is_a_dozen_bots_of_every_strategy_and_seeding_twice_adds_none(
    ledger: Ledger,
) -> None:
    # As on a fresh machine: nobody has saved the venue's list yet.
    new = demo.specs(CATALOG, venue="elsewhere", account="paper")
    assert len(new) == 12
    assert {each.strategy for each in new} == {"sma-cross", "rsi-reversion", "grid"}
    assert {each.symbol for each in new} == set(demo.SYMBOLS)
    seeded = demo.seed(ledger, CATALOG, NOW, venue="elsewhere", account="paper")
    assert [each.state for each in seeded] == [BotState.RUNNING] * 12
    Registry(ledger).stop("trend-btc", NOW, actor="test")
    assert demo.seed(ledger, CATALOG, NOW, venue="elsewhere", account="paper") == []
    assert ledger.bots.get("trend-btc").state is BotState.STOPPED


def test_the_demos_orders_fit_the_default_limits_even_all_at_once() -> None:
    """The defaults of limit_order_notional_max and limit_open_notional_max."""
    budgets = [each.budget for each in demo.specs(CATALOG, venue=VENUE, account="paper")]
    assert max(budgets) <= 500
    assert sum(budgets) <= 5000
