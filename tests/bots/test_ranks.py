"""Who is judged side by side with others loses nothing: what it is not asked would be the same."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy
import pytest

from botswarm.bots.commits import Commits
from botswarm.bots.evaluation import Evaluator, evaluate_one
from botswarm.bots.muster import Member, Muster
from botswarm.bots.scene import Scene
from botswarm.bots.strategies import Strategies
from botswarm.domain.instrument import step_down
from botswarm.ledger.bot import Bot
from botswarm.ledger.bots import BotState, Decided, Decision, Stand
from botswarm.ledger.fold import Holding
from botswarm.ledger.stands import News
from botswarm.strategies.api import (
    Candles,
    Many,
    Outcomes,
    Strategy,
    Trigger,
    View,
)
from botswarm.strategies.api import (
    Decision as Said,
)
from botswarm.strategies.evaluate import Evaluation
from botswarm.strategies.registry import BUILT_IN, Catalog, Found, load
from tests.strategies.values import BTC, NOW, NOW_MS, SYMBOL, VENUE, a_market, a_quote, a_trade

LIFE = timedelta(seconds=10)
RANKED = [each.name for each in BUILT_IN if each.is_vectorised()]


def a_stand(
    name: str, strategy: str, position: Decimal = Decimal(0), **parameters: object
) -> Stand:
    bot = Bot(
        name=name,
        strategy=strategy,
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        timeframe="1m",
        parameters={"budget": "1000", **parameters},
        state=BotState.RUNNING,
    )
    held = {SYMBOL: Holding(quantity=position, cost=position * 100)}
    return Stand(bot=bot, position=position, orders=(), revision=1, held=held)


def a_muster(stands: list[Stand], catalog: Catalog) -> Muster:
    muster = Muster(VENUE, SYMBOL, Strategies(catalog))
    muster.take(News(revision=1, stands=stands, ended=frozenset(), is_all=True))
    return muster


def candles(chance: random.Random, count: int = 400) -> Candles:
    steps = numpy.array([chance.gauss(0, 0.4) for _ in range(count)])
    close = 100 + numpy.cumsum(steps - steps.mean())
    open_ms = NOW_MS - 60_000 * numpy.arange(count, 0, -1, dtype=numpy.int64)
    return Candles(
        open_ms=open_ms, open=close, high=close + 0.2, low=close - 0.2, close=close, volume=close
    )


def a_scene(sequence: int, price: float, shown: Candles) -> Scene:
    quoted = step_down(Decimal(price), BTC.tick_size)
    market = a_market(
        sequence=sequence, trade=a_trade(quoted), quote=a_quote(quoted, quoted + BTC.tick_size)
    )
    return Scene(market=market, candles={"1m": shown})


@pytest.mark.parametrize("strategy", RANKED)
@pytest.mark.parametrize("seed", range(3))
def test_who_is_not_asked_would_say_and_order_what_it_did_before(strategy: str, seed: int) -> None:
    chance = random.Random(seed)
    kind = next(each for each in BUILT_IN if each.name == strategy)
    first = kind.parameters()[0]
    stands = [
        a_stand(
            f"b{number}",
            strategy,
            # Nothing, dust, a bit, all of the budget, and everything near its limits.
            Decimal(
                chance.choice(("0", "0.0004", "0.04", "0.049", "0.051", "9.4", "9.5", "10", "10.6"))
            ),
            **{first.name: int(first.default) + number % 5},
        )
        for number in range(40)
    ]
    muster, evaluator = a_muster(stands, load()), Evaluator(LIFE)
    shown = candles(chance)
    made = evaluator.evaluate(muster, a_scene(7, float(shown.close[-1]), shown), NOW)
    evaluator.note(
        muster, a_scene(7, 1, shown), made, frozenset(b.bot for b in made.decisions), NOW
    )
    skipped = 0
    for sequence in range(8, 40):
        shown = candles(chance) if sequence % 8 == 0 else shown
        scene = a_scene(sequence, float(shown.close[-1]) * chance.uniform(0.9, 1.1), shown)
        # Long after nobody is left alone any more, and before it is time to be seen alive.
        now = NOW + timedelta(seconds=1)
        asked = {each.name for each in evaluator.choose(muster, scene, now).members}
        for member in muster.members.values():
            if member.name in asked:
                continue
            skipped += 1
            said = evaluate_one(scene, member, now, LIFE)
            assert (said.orders, _verdict(said)) == ((), member.verdict), member.bot
    assert skipped > 100  # so that something was tested


def _verdict(said: Evaluation) -> str | None:
    return None if said.decision is None else said.decision.verdict


class Broken(Strategy):
    """Its second form fails."""

    @property
    def history(self) -> int:
        return 2

    def decide(self, view: View) -> Said:
        return Said(verdict=f"seen {len(view.candles)}")

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        raise ZeroDivisionError("a bug in the second form")


class Hourly(Strategy):
    """Asked once per candle."""

    @property
    def history(self) -> int:
        return 2

    def trigger(self) -> Trigger:
        return Trigger.on_candle()

    def decide(self, view: View) -> Said:
        return Said(verdict="looked", memory={"at": int(view.candles.open_ms[-1])})


CATALOG = Catalog(
    found={each.name: Found(strategy=each, source="test") for each in (Broken, Hourly)}, broken={}
)


def test_a_second_form_that_fails_costs_nobody_a_decision() -> None:
    muster = a_muster([a_stand("one", "broken")], CATALOG)
    scene = a_scene(7, 100, candles(random.Random(1)))
    made = Evaluator(LIFE).evaluate(muster, scene, NOW)
    assert [each.evaluation["verdict"] for each in made.decisions if each.evaluation] == ["seen 2"]


def test_who_waits_for_a_candle_is_asked_once_for_each(caplog: pytest.LogCaptureFixture) -> None:
    muster, evaluator = a_muster([a_stand("one", "hourly")], CATALOG), Evaluator(LIFE)
    shown = candles(random.Random(1))
    asked = []
    for sequence in range(7, 12):
        if sequence == 10:
            later = replace(shown, open_ms=shown.open_ms + 60_000, _known={})
            shown = later
        scene = a_scene(sequence, 100, shown)
        now = NOW + timedelta(milliseconds=sequence)
        made = evaluator.evaluate(muster, scene, now)
        names = frozenset(each.bot for each in made.decisions)
        evaluator.note(muster, scene, made, names, now)
        asked += [sequence] * len(made.asked)
    assert asked == [7, 10]


def test_a_decision_that_was_overtaken_is_asked_for_again() -> None:
    muster, evaluator = a_muster([a_stand("one", "hourly")], CATALOG), Evaluator(LIFE)
    scene = a_scene(7, 100, candles(random.Random(1)))
    made = evaluator.evaluate(muster, scene, NOW)
    evaluator.note(muster, scene, made, frozenset(), NOW)
    assert [each.bot for each in evaluator.evaluate(muster, scene, NOW).decisions] == ["one"]


def test_our_own_decisions_need_no_reading_and_anybody_elses_do() -> None:
    muster = a_muster([a_stand("one", "hourly"), a_stand("two", "hourly")], CATALOG)

    def member(name: str) -> Member:
        return muster.members[name]

    plain = Decision(bot="one", sequence=7, seen_sequence=-1, evaluation={"verdict": "x"})
    muster.advance(2, [plain])
    assert (muster.revision, member("one").revision, member("two").revision) == (2, 2, 1)
    assert member("one").bot.last_sequence == 7
    muster.advance(4, [replace(plain, bot="two")])  # somebody else made the third
    muster.advance(3, [replace(plain, bot="two", memory={"x": 1})])
    assert (muster.revision, member("two").revision) == (2, 1)


def test_what_cannot_be_written_fails_alone() -> None:
    written: list[str] = []

    def decide(decisions: list[Decision], _: datetime) -> Decided:
        if any(each.bot == "bad" for each in decisions):
            raise ValueError("not to be written")
        written.extend(each.bot for each in decisions)
        return Decided(bots=frozenset(each.bot for each in decisions), doorbells=())

    commits = Commits(decide)  # type: ignore[arg-type]
    several = [Decision(bot=name, sequence=1, seen_sequence=0) for name in ("a", "bad", "b")]
    done = commits.commit(several, datetime.now(UTC))
    assert sorted(done.bots) == written == ["a", "b"]
    assert [str(error) for error in done.unfit.values()] == ["not to be written"]
