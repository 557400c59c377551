"""Bots decide in order and once; what a decision writes is written whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from botswarm.domain.permission import TradingState
from botswarm.errors import NotFound, Refused
from botswarm.ledger.bots import NEVER, Bot, BotState, Decision
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import ACCOUNT, NOW, SYMBOL, VENUE, a_bot, a_fill, an_order, sent


@pytest.fixture
def bot(ledger: Ledger) -> Bot:
    return ledger.bots.create(a_bot(), NOW, actor="test")


def decision(
    sequence: int = 10, seen: int = NEVER, bot: str = "alpha", orders: int = 1
) -> Decision:
    return Decision(
        bot=bot,
        sequence=sequence,
        seen_sequence=seen,
        orders=[an_order(bot=bot) for _ in range(orders)],
        memory={"last": sequence},
        evaluation={"verdict": "buy", "fast": Decimal("1.50")},
    )


def test_a_decision_writes_its_bot_its_orders_and_their_doorbells(ledger: Ledger, bot: Bot) -> None:
    made = decision()
    decided = ledger.bots.decide_many([made], NOW)
    assert decided.bots == {"alpha"}
    after = ledger.bots.get("alpha")
    assert (after.last_sequence, after.memory) == (10, {"last": 10})
    assert after.last_evaluation == {"verdict": "buy", "fast": "1.5"}
    assert ledger.orders.list() == list(made.orders)
    assert ledger.orders.story(made.orders[0].id).evaluation == after.last_evaluation
    (doorbell,) = decided.doorbells
    assert ledger.outbox.pending() == [doorbell]
    assert doorbell.kwargs == {
        "order_id": made.orders[0].id,
        "venue": "simulated",
        "account": "paper",
    }
    assert (doorbell.task, doorbell.queue) == ("workers.orders.place", "orders")


@pytest.mark.parametrize(("seen", "sequence"), [(9, 11), (NEVER, 11), (10, 10), (10, 9)])
def test_a_decision_on_an_older_view_is_void(
    ledger: Ledger, bot: Bot, seen: int, sequence: int
) -> None:
    assert ledger.bots.decide(decision(10), NOW)
    assert not ledger.bots.decide(decision(sequence, seen), NOW)
    assert ledger.bots.get("alpha").last_sequence == 10
    assert len(ledger.orders.list()) == len(ledger.outbox.pending()) == 1


def test_of_workers_that_decide_at_once_one_is_heard(ledger: Ledger, bot: Bot) -> None:
    workers, rounds = 4, 15
    barrier = threading.Barrier(workers)

    def start(number: int) -> list[bool]:
        heard = []
        for round_ in range(rounds):
            seen = ledger.bots.get("alpha").last_sequence
            barrier.wait()
            heard.append(ledger.bots.decide(decision(100 * (round_ + 1) + number, seen), NOW))
            barrier.wait()
        return heard

    with ThreadPoolExecutor(workers) as pool:
        heard = list(pool.map(start, range(workers)))
    assert [sum(each) for each in zip(*heard, strict=True)] == [1] * rounds
    assert len(ledger.orders.list()) == rounds


def test_overtaken_bots_do_not_take_the_others_with_them(ledger: Ledger, bot: Bot) -> None:
    ledger.bots.create(a_bot(name="beta"), NOW, actor="test")
    ledger.bots.create(a_bot(name="gamma", state=BotState.PAUSED), NOW, actor="test")
    assert ledger.bots.decide(decision(10), NOW)
    several = [decision(11, bot=name) for name in ("alpha", "beta", "gamma", "nobody")]
    assert ledger.bots.decide_many(several, NOW).bots == {"beta"}
    assert {order.bot for order in ledger.orders.list()} == {"alpha", "beta"}


def test_a_decision_that_cannot_be_written_leaves_nothing_of_itself(
    ledger: Ledger, bot: Bot
) -> None:
    made = decision(orders=2)
    broken = replace(made.orders[1], quantity=Decimal("1e-30"))
    with pytest.raises(Exception, match="more than 18 decimals"):
        ledger.bots.decide(replace(made, orders=[made.orders[0], broken]), NOW)
    assert ledger.bots.get("alpha").last_sequence == NEVER
    assert ledger.orders.list() == []
    assert ledger.outbox.pending() == []


def test_the_same_order_is_written_once(ledger: Ledger, bot: Bot) -> None:
    made = decision()
    assert ledger.bots.decide(made, NOW)
    again = replace(made, sequence=11, seen_sequence=10)
    assert ledger.bots.decide_many([again], NOW).doorbells == ()
    assert len(ledger.orders.list()) == 1


def test_an_empty_decision_writes_nothing_and_counts(ledger: Ledger, bot: Bot) -> None:
    nothing = Decision(bot="alpha", sequence=10, seen_sequence=NEVER)
    assert ledger.bots.decide(nothing, NOW)
    assert ledger.bots.get("alpha") == bot


def test_a_name_is_taken_once_and_an_unknown_one_is_not_found(ledger: Ledger, bot: Bot) -> None:
    with pytest.raises(Refused, match="alpha"):
        ledger.bots.create(a_bot(), NOW, actor="test")
    with pytest.raises(NotFound, match="nobody"):
        ledger.bots.set_state("nobody", BotState.RUNNING, NOW, reason="", actor="test")


def test_bots_are_found_by_market_and_state(ledger: Ledger, bot: Bot) -> None:
    ledger.bots.create(a_bot(name="beta", symbol="ETH-USDT"), NOW, actor="test")
    ledger.bots.set_state("beta", BotState.PAUSED, NOW, reason="tired", actor="test")
    assert [each.name for each in ledger.bots.list(venue=VENUE, symbol=SYMBOL)] == ["alpha"]
    (paused,) = ledger.bots.list(state=BotState.PAUSED)
    assert (paused.name, paused.reason) == ("beta", "tired")


def test_a_strategy_sees_orders_that_wait_as_well_as_those_that_live(
    ledger: Ledger, bot: Bot
) -> None:
    ledger.bots.create(a_bot(name="beta"), NOW, actor="test")
    ledger.bots.decide(decision(), NOW)
    live, done = sent(ledger, bot="beta"), sent(ledger, bot="beta")
    ledger.books.book([a_fill(live, 1)], NOW)
    ledger.books.record(done.id, done.state.CANCELED, NOW)
    stands = ledger.stands.since(VENUE, SYMBOL).stands
    assert {each.bot.name: len(each.orders) for each in stands} == {"alpha": 1, "beta": 1}
    (held,) = ledger.orders.positions(venue=VENUE, symbol=SYMBOL)
    assert (held.bot, held.quantity, held.cash) == ("beta", Decimal("0.0999"), Decimal(-10))


# --- the trading state ----------------------------------------------------------------------------


def state_of(ledger: Ledger, **changes: str) -> TradingState:
    about = {"venue": VENUE, "account": ACCOUNT, "bot": "alpha", "symbol": SYMBOL, **changes}
    return ledger.halts.strictest(**about, now=NOW)


def test_the_strictest_state_holds(ledger: Ledger) -> None:
    assert state_of(ledger) is TradingState.ACTIVE
    said = [
        ("bot:alpha", TradingState.REDUCING),
        (f"market:{VENUE}:{SYMBOL}", TradingState.HALTED),
        (f"account:{VENUE}:{ACCOUNT}", TradingState.ACTIVE),
    ]
    for scope, state in said:
        ledger.halts.set(scope, state, reason="test", actor="test", now=NOW)
    assert state_of(ledger) is TradingState.HALTED
    assert state_of(ledger, symbol="ETH-USDT") is TradingState.REDUCING
    assert state_of(ledger, symbol="ETH-USDT", bot="beta") is TradingState.ACTIVE


def test_only_a_person_relaxes(ledger: Ledger) -> None:
    halt = {"reason": "test", "actor": "drawdown", "now": NOW}
    ledger.halts.set("swarm", TradingState.HALTED, **halt)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="drawdown may not relax swarm"):
        ledger.halts.set("swarm", TradingState.REDUCING, **halt)  # type: ignore[arg-type]
    assert state_of(ledger) is TradingState.HALTED
    ledger.halts.set(
        "swarm", TradingState.ACTIVE, reason="looked", actor="ada", now=NOW, is_human=True
    )
    assert state_of(ledger) is TradingState.ACTIVE


def test_a_decision_ends_orders_with_the_rest_of_it(ledger: Ledger, bot: Bot) -> None:
    waiting = sent(ledger, bot="alpha")
    stranger = sent(ledger, bot="beta")
    made = replace(decision(orders=0), cancels=[waiting.id, stranger.id])
    decided = ledger.bots.decide_many([made], NOW)
    assert [bell.kwargs["order_id"] for bell in decided.doorbells] == [waiting.id]
    wish = ledger.cancels.of(waiting.id)
    assert wish is not None
    assert (wish.actor, wish.reason) == ("alpha", "buy")
    assert ledger.cancels.of(stranger.id) is None
    # Void decisions end nothing.
    void = replace(decision(sequence=5, seen=4, orders=0), cancels=[waiting.id])
    assert ledger.bots.decide_many([void], NOW).doorbells == ()


def test_a_decision_to_replace_ends_the_other_and_writes_the_new(ledger: Ledger, bot: Bot) -> None:
    old = sent(ledger, bot="alpha")
    new = replace(an_order(bot="alpha"), replaces=old.id)
    made = replace(decision(orders=0), orders=[new])
    decided = ledger.bots.decide_many([made], NOW)
    assert {bell.task for bell in decided.doorbells} == {
        "workers.orders.place",
        "workers.orders.cancel",
    }
    assert ledger.orders.story(old.id).replaced_by == [new.id]
    (stand,) = ledger.bots.stands(VENUE, SYMBOL)
    assert {(order.id, order.is_ending) for order in stand.orders} == {
        (old.id, True),
        (new.id, False),
    }
