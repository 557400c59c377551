"""Whatever changes a bot's stand is noticed, is read once, and voids what was decided before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from botswarm.domain.order import OrderState
from botswarm.ledger.bots import NEVER, Bot, BotState, Decision
from botswarm.ledger.stands import MarketPass, News
from botswarm.ledger.store import Ledger
from botswarm.testing.books import begin_attempt
from tests.ledger.conftest import NOW, SYMBOL, VENUE, Request, a_bot, a_fill, an_order, let_pass


@pytest.fixture
def bot(ledger: Ledger) -> Bot:
    ledger.bots.create(a_bot(name="beta"), NOW, actor="test")
    return ledger.bots.create(a_bot(), NOW, actor="test")


def news(ledger: Ledger, since: int = NEVER) -> News:
    return ledger.stands.since(VENUE, SYMBOL, since)


def names(found: News) -> list[str]:
    return [each.bot.name for each in found.stands]


def test_what_was_read_is_not_read_again(ledger: Ledger, bot: Bot) -> None:
    first = news(ledger)
    assert (names(first), first.is_all) == (["alpha", "beta"], True)
    assert news(ledger, first.revision) == News(
        revision=first.revision, stands=(), ended=frozenset()
    )


Change = Callable[[Ledger], object]


def decided(ledger: Ledger) -> str:
    order = an_order()
    (stand,) = (each for each in news(ledger).stands if each.bot.name == "alpha")
    made = Decision(
        bot="alpha",
        sequence=stand.bot.last_sequence + 1,
        seen_sequence=stand.bot.last_sequence,
        seen_revision=stand.revision,
        orders=[order],
    )
    assert ledger.bots.decide(made, NOW)
    return order.id


def judged(ledger: Ledger) -> str:
    order_id = decided(ledger)
    assert ledger.books.judge(order_id, let_pass, NOW) is not None
    return order_id


def begun(ledger: Ledger) -> str:
    order_id = judged(ledger)
    assert begin_attempt(ledger.books, ledger.orders.get(order_id), Request(), NOW) is not None
    return order_id


def unknown(ledger: Ledger) -> str:
    order_id = begun(ledger)
    ledger.books.record(order_id, OrderState.UNKNOWN, NOW)
    return order_id


CHANGES: dict[str, tuple[Callable[[Ledger], str], Callable[[Ledger, str], object]]] = {
    "a state": (
        lambda _: "",
        lambda ledger, _: ledger.bots.set_state(
            "alpha", BotState.RUNNING, NOW, reason="", actor="test"
        ),
    ),
    "a decision": (lambda _: "", lambda ledger, _: decided(ledger)),
    "a verdict": (decided, lambda ledger, order: ledger.books.judge(order, let_pass, NOW)),
    "an attempt": (
        judged,
        lambda ledger, order: begin_attempt(ledger.books, ledger.orders.get(order), Request(), NOW),
    ),
    "an answer": (
        begun,
        lambda ledger, order: ledger.books.record(order, OrderState.LIVE, NOW),
    ),
    "another attempt": (
        unknown,
        lambda ledger, order: ledger.books.reopen(order, Request().fence_at, NOW),
    ),
    "a proof": (
        unknown,
        lambda ledger, order: ledger.books.decline(order, Request().fence_at, NOW, reason="no"),
    ),
    "a fill": (
        begun,
        lambda ledger, order: ledger.books.book([a_fill(ledger.orders.get(order), 1)], NOW),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_news_of_its_bot_alone_and_voids_older_decisions(
    ledger: Ledger, bot: Bot, what: str
) -> None:
    prepare, change = CHANGES[what]
    order_id = prepare(ledger)
    seen = news(ledger)
    change(ledger, order_id)
    found = news(ledger, seen.revision)
    assert (names(found), found.is_all) == (["alpha"], False)
    stale = {each.bot.name: each for each in seen.stands}
    made = [
        Decision(
            bot=name,
            sequence=99,
            seen_sequence=found_bot.last_sequence,
            seen_revision=stale[name].revision,
            memory={"x": 1},
        )
        for name in ("alpha", "beta")
        if (found_bot := ledger.bots.get(name))
    ]
    assert ledger.bots.decide_many(made, NOW).bots == {"beta"}
    fresh = replace(made[0], seen_revision=found.stands[0].revision)
    assert ledger.bots.decide(fresh, NOW)


def test_a_stand_shows_what_it_holds_and_has_open(ledger: Ledger, bot: Bot) -> None:
    order = ledger.orders.get(begun(ledger))
    ledger.books.book([a_fill(order, 1, quantity=Decimal("0.4"))], NOW)
    (stand,) = (each for each in news(ledger).stands if each.bot.name == "alpha")
    assert stand.position == stand.held[SYMBOL].quantity == Decimal("0.3999")
    assert stand.held[SYMBOL].cost == Decimal(40)
    assert [each.open_quantity for each in stand.orders] == [Decimal("0.6")]


def test_who_runs_no_more_is_told_and_comes_back(ledger: Ledger, bot: Bot) -> None:
    seen = news(ledger).revision
    ledger.bots.set_state("alpha", BotState.PAUSED, NOW, reason="", actor="test")
    found = news(ledger, seen)
    assert names(found) == []
    assert found.ended == {"alpha"}
    ledger.bots.delete("alpha", NOW, actor="test")
    assert names(news(ledger)) == ["beta"]
    ledger.bots.create(a_bot(), NOW, actor="test")
    assert names(news(ledger, found.revision)) == ["alpha"]


def test_other_markets_are_no_news(ledger: Ledger, bot: Bot) -> None:
    seen = news(ledger).revision
    ledger.bots.create(a_bot(name="gamma", symbol="ETH-USDT"), NOW, actor="test")
    assert news(ledger, seen).stands == ()


def test_a_ledger_that_counts_from_anew_is_read_whole(ledger: Ledger, bot: Bot) -> None:
    found = news(ledger, news(ledger).revision + 1000)
    assert (names(found), found.is_all) == (["alpha", "beta"], True)


def test_a_pass_is_one_row_and_a_late_worker_takes_nothing_back(ledger: Ledger) -> None:
    one = MarketPass(venue=VENUE, symbol=SYMBOL, at=NOW, sequence=7, bots=3, passes=2, took_ms=5)
    ledger.stands.passed([one])
    ledger.stands.passed([replace(one, at=NOW - timedelta(seconds=1), sequence=6)])
    ledger.stands.passed([replace(one, at=NOW + timedelta(seconds=1), sequence=8, took_ms=4)])
    found = ledger.stands.last_pass(VENUE, SYMBOL)
    assert found is not None
    assert (found.sequence, found.passes, found.took_ms) == (8, 4, 4)
    assert ledger.stands.last_pass(VENUE, "ETH-USDT") is None
    assert ledger.stands.last_passes() == [found]
