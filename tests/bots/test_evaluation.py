"""Many bots in one pass: what is committed, what is not, and whose failure is whose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from botswarm.bots.brakes import brakes
from botswarm.bots.conclusion import ERRORS_MAX
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.floor import Floor
from botswarm.bots.muster import KEPT_ANEW_S, Muster
from botswarm.bots.registry import Registry
from botswarm.bots.scene import Pass, Scene
from botswarm.bots.spec import BotSpec
from botswarm.bots.strategies import Strategies
from botswarm.clock import SystemClock
from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderState, Side
from botswarm.domain.permission import Approved, Refused, TradingState
from botswarm.ledger.bots import BotState, Decided
from botswarm.ledger.halts import SWARM, account_scope, bot_scope, market_scope, place_of
from botswarm.ledger.models import PositionRow
from botswarm.ledger.stands import News
from botswarm.ledger.store import Ledger
from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Candles,
    Decision,
    Strategy,
    Trigger,
    View,
    Wish,
    parameter,
)
from botswarm.strategies.evaluate import Market
from botswarm.strategies.registry import BUILT_IN, Catalog, Found
from tests.strategies.values import NOW, SYMBOL, VENUE, a_market, a_quote, some_candles

LIFE = timedelta(seconds=10)


class Mute(Exception):
    """It fails again when it is asked what it is."""

    def __str__(self) -> str:
        raise RuntimeError("and again")


class Told(Strategy):
    """Does what its parameter says."""

    what: str = parameter(default="hold", words="what to do when asked")

    @property
    def history(self) -> int:
        return 2

    def objection(self) -> str | None:
        if self.what == "end":
            raise SystemExit(3)
        return None

    def decide(self, view: View) -> Decision:
        count = int(view.memory.get("count", 0)) + 1
        match self.what:
            case "raise":
                raise ZeroDivisionError("a bug in a plugin")
            case "leave":
                return Decision(verdict="out", indicators={}, target=NOTHING)
            case "count":
                return Decision(verdict="counts", indicators={}, memory={"count": count})
            case "huge":
                raise ValueError("x" * 1_000_000)
            case "half":
                raise ValueError("half a character: \ud800, and nothing: \x00")
            case "mute":
                raise Mute
            case "nul":
                return Decision(verdict="nothing: \x00")
            case "surrogate":
                return Decision(verdict="half a character: \ud800")
            case "object":
                return Decision(verdict="odd", indicators={}, memory={"x": object()})
            case "fat":
                return Decision(verdict="fat", indicators={}, memory={"x": "x" * 20_000})
            case "number":
                return Decision(verdict=str(count), indicators={"x": view.candles})  # type: ignore[dict-item]
            case _:
                return Decision(verdict="in", indicators={"count": count}, target=ALL)


class Once(Strategy):
    """Orders whenever it is asked, and asks for that once per candle."""

    @property
    def history(self) -> int:
        return 2

    def trigger(self) -> Trigger:
        return Trigger.on_candle()

    def decide(self, view: View) -> Decision:
        count = int(view.memory.get("count", 0)) + 1
        wish = Wish(side=Side.BUY, quantity=Decimal(1))
        return Decision(verdict="buys one", orders=[wish], memory={"count": count})


class Quoted(Once):
    """The same once per quote."""

    def trigger(self) -> Trigger:
        return Trigger.on_quote()


KINDS: list[type[Strategy]] = [*BUILT_IN, Told, Once, Quoted]
CATALOG = Catalog(
    found={each.name: Found(strategy=each, source="test") for each in KINDS}, broken={}
)


def a_bot(
    ledger: Ledger, name: str, what: str | None = "hold", *, strategy: str | None = None
) -> None:
    """Without a ``what`` it is one that orders once per candle."""
    spec = BotSpec.of(
        CATALOG,
        name=name,
        strategy=strategy or ("told" if what else "once"),
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        budget=1000,
        parameters={"what": what} if what else {},
    )
    bots = Registry(ledger)
    bots.create(spec, NOW - timedelta(minutes=1), actor="test")
    bots.start(name, NOW - timedelta(minutes=1), actor="test")


def a_muster(ledger: Ledger, catalog: Catalog = CATALOG) -> Muster:
    muster = Muster(VENUE, SYMBOL, Strategies(catalog))
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    return muster


def a_scene(market: Market | None = None, candles: Mapping[str, Candles] | None = None) -> Scene:
    shown = {"1m": some_candles([100.0, 100.0])} if candles is None else candles
    return Scene(market=market or a_market(), candles=shown)


def a_pass(
    ledger: Ledger,
    market: Market | None = None,
    now: datetime = NOW,
    candles: Mapping[str, Candles] | None = None,
) -> tuple[Decided, Mapping[str, str]]:
    """As a worker makes it that has just started."""
    done = Evaluator(LIFE).evaluate(
        a_muster(ledger),
        a_scene(market, candles),
        now,
        brakes=lambda bots: brakes(ledger, bots, now),
    )
    return ledger.bots.decide_many(done.decisions, now), done.pauses


def last(ledger: Ledger, name: str) -> Mapping[str, Any]:
    evaluation = ledger.bots.get(name).last_evaluation
    assert evaluation is not None
    return evaluation


def test_a_decision_becomes_a_ready_order_with_its_reasons_and_its_doorbell(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha")
    decided, _ = a_pass(ledger)
    (order,) = ledger.orders.list(bot="alpha")
    assert order.state is OrderState.READY
    assert (order.side, order.quantity) == (Side.BUY, Decimal(10))
    story = ledger.orders.story(order.id)
    assert story.evaluation is not None
    assert story.evaluation["verdict"] == "in"
    assert [bell.kwargs for bell in decided.doorbells] == [
        {"order_id": order.id, "venue": "simulated", "account": "paper"}
    ]
    assert last(ledger, "alpha")["orders"][0]["id"] == order.id


def test_the_same_sequence_is_not_decided_twice(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    a_pass(ledger)
    again, _ = a_pass(ledger)
    assert again.doorbells == ()
    assert len(ledger.orders.list(bot="alpha")) == 1


def test_what_is_ready_counts_in_the_next_evaluation(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    a_pass(ledger)
    a_pass(ledger, a_market(sequence=8))
    assert len(ledger.orders.list(bot="alpha")) == 1


def test_workers_that_race_on_one_sequence_write_once(ledger: Ledger) -> None:
    for name in ("alpha", "beta", "gamma"):
        a_bot(ledger, name)
    start = threading.Barrier(4)
    answers: list[Decided] = []

    def race(sequence: int) -> None:
        scene = a_scene(a_market(sequence=sequence))
        done = Evaluator(LIFE).evaluate(a_muster(ledger), scene, NOW)
        start.wait()
        answers.append(ledger.bots.decide_many(done.decisions, NOW))

    threads = [threading.Thread(target=race, args=(number,)) for number in (7, 7, 8, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert sorted(bot for each in answers for bot in each.bots) == ["alpha", "beta", "gamma"]
    assert len(ledger.orders.list(limit=100)) == 3
    assert len(ledger.outbox.pending()) == 3


def test_an_unchanged_evaluation_writes_nothing_until_it_is_time_to_be_seen_alive(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha", "leave")
    a_pass(ledger)
    first = ledger.bots.get("alpha")
    a_pass(ledger, a_market(sequence=8), NOW + timedelta(seconds=1))
    assert ledger.bots.get("alpha") == first
    later = NOW + timedelta(seconds=KEPT_ANEW_S)
    moved = a_market(sequence=9, exchange_ms=int(later.timestamp() * 1000))
    a_pass(ledger, moved, later)
    assert last(ledger, "alpha")["sequence"] == 9


def test_a_bot_that_stops_acting_says_so_at_once(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", "leave")
    a_pass(ledger)
    a_pass(ledger, a_market(sequence=8, quote=a_quote(102, 101)), NOW + timedelta(seconds=1))
    assert last(ledger, "alpha")["stopped"]["gate"] == "crossed"


def test_a_digest_that_comes_a_moment_late_is_not_news_and_one_that_stays_away_is(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha", "leave")
    a_pass(ledger)
    muster, evaluator = a_muster(ledger), Evaluator(LIFE)

    def behind_after(seconds: float) -> Pass:
        market = a_market(sequence=8, wanted_sequence=9)
        return evaluator.evaluate(muster, a_scene(market), NOW + timedelta(seconds=seconds))

    assert behind_after(0.1).decisions == []
    evaluator.evaluate(muster, a_scene(a_market(sequence=9)), NOW + timedelta(seconds=1))
    assert behind_after(2).decisions == []
    (said,) = behind_after(3.1).decisions
    assert said.evaluation is not None
    assert said.evaluation["stopped"]["gate"] == "behind"


def test_memory_reaches_the_next_evaluation(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", "count")
    for sequence in (7, 8, 9):
        a_pass(ledger, a_market(sequence=sequence))
    assert ledger.bots.get("alpha").memory == {"count": 3}


@pytest.mark.parametrize("what", ["raise", "object", "fat", "number"])
def test_a_bot_that_fails_leaves_the_others_and_is_paused_in_the_end(
    ledger: Ledger, what: str
) -> None:
    a_bot(ledger, "bad", what)
    a_bot(ledger, "good", "count")
    for sequence in range(1, ERRORS_MAX + 1):
        _, pauses = a_pass(ledger, a_market(sequence=sequence))
        assert ledger.bots.get("good").memory == {"count": sequence}
        assert last(ledger, "bad")["errors"] == sequence
        assert last(ledger, "bad")["stopped"]["gate"] == "error"
        assert bool(pauses) == (sequence == ERRORS_MAX)
    assert list(pauses) == ["bad"]
    assert pauses["bad"].startswith(f"{ERRORS_MAX} evaluations in a row failed: ")
    assert ledger.orders.list(bot="bad") == []


def test_who_starts_a_failed_bot_again_gives_it_all_its_chances_back(ledger: Ledger) -> None:
    a_bot(ledger, "bad", "raise")
    for sequence in range(1, ERRORS_MAX + 1):
        a_pass(ledger, a_market(sequence=sequence))
    bots = Registry(ledger)
    bots.pause("bad", NOW + timedelta(seconds=1), actor="test", reason="errors")
    bots.start("bad", NOW + timedelta(seconds=2), actor="test")
    _, pauses = a_pass(ledger, a_market(sequence=20), NOW + timedelta(seconds=3))
    assert pauses == {}
    assert last(ledger, "bad")["errors"] == 1


def test_one_good_evaluation_forgives_the_errors_before(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", "leave")
    for sequence in (1, 2):
        broken = {"1m": "no candles"}
        a_pass(ledger, a_market(sequence=sequence), candles=broken)  # type: ignore[arg-type]
    assert last(ledger, "alpha")["errors"] == 2
    a_pass(ledger, a_market(sequence=3))
    assert last(ledger, "alpha").get("errors") is None


def test_a_strategy_that_is_not_there_disables_its_own_bots_only(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", "count")
    a_bot(ledger, "orphan")
    without = Catalog(found=CATALOG.found, broken={"mine.py": "SyntaxError"})
    stands = [
        replace(each, bot=replace(each.bot, strategy="mine")) if each.bot.name == "orphan" else each
        for each in ledger.bots.stands(VENUE, SYMBOL)
    ]
    muster = Muster(VENUE, SYMBOL, Strategies(without))
    muster.take(News(revision=9, stands=stands, ended=frozenset(), is_all=True))
    assert muster.wanted == {"1m": 2}
    done = Evaluator(LIFE).evaluate(muster, a_scene(), NOW)
    ledger.bots.decide_many(done.decisions, NOW)
    words = last(ledger, "orphan")["stopped"]["words"]
    assert words == "there is no strategy 'mine'; mine.py could not be loaded: SyntaxError"
    assert ledger.bots.get("alpha").memory == {"count": 1}


def test_a_bot_whose_orders_are_refused_tries_again_ever_more_seldom(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    tried: list[int] = []
    for second in range(200):
        now = NOW + timedelta(seconds=second)
        at_ms = int(now.timestamp() * 1000)
        shown = {"1m": Candles(**_shifted(second))}
        decided, _ = a_pass(ledger, a_market(sequence=second, exchange_ms=at_ms), now, shown)
        for bell in decided.doorbells:
            tried.append(second)
            ledger.books.judge(bell.kwargs["order_id"], lambda each, _: Refused(each, "no"), now)
    assert tried == [0, 2, 6, 14, 30, 62, 122, 182]
    assert last(ledger, "alpha")["stopped"]["gate"] == "setback"
    assert "its last order was refused: no" in last(ledger, "alpha")["stopped"]["words"]


def _shifted(seconds: int) -> dict[str, Any]:
    candles = some_candles([100.0, 100.0])
    names = ("open_ms", "open", "high", "low", "close", "volume")
    moved = {name: getattr(candles, name) for name in names}
    return moved | {"open_ms": candles.open_ms + 1000 * seconds}


def test_a_bot_orders_nothing_while_trading_is_halted_and_at_once_thereafter(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha")
    scopes = [SWARM, account_scope(VENUE, "paper"), market_scope(VENUE, SYMBOL)]
    for number, scope in enumerate([*scopes, bot_scope("alpha")]):
        _say(ledger, scope, TradingState.HALTED)
        now = NOW + number * timedelta(seconds=KEPT_ANEW_S)
        at_ms = int(now.timestamp() * 1000)
        shown = {"1m": Candles(**_shifted(int(number * KEPT_ANEW_S)))}
        a_pass(ledger, a_market(sequence=number, exchange_ms=at_ms), now, shown)
        assert last(ledger, "alpha")["stopped"] == {
            "gate": "halted",
            "words": f"trading of {scope} is halted: a drill",
        }
        assert ledger.orders.list() == []
        _say(ledger, scope, TradingState.ACTIVE)
    a_pass(ledger, a_market(sequence=50))
    assert len(ledger.orders.list()) == 1


def test_a_halt_of_a_further_market_holds_a_bot_back_and_others_do_not(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    _say(ledger, SWARM, TradingState.ACTIVE)
    _say(ledger, market_scope(VENUE, "ETH-USDT"), TradingState.HALTED)
    own = ledger.bots.get("alpha")
    assert brakes(ledger, [own], NOW) == {}
    both = replace(own, others=("LTC-USDT", "ETH-USDT"))
    assert brakes(ledger, [both], NOW)["alpha"].gate == "halted"


def test_a_bot_that_may_only_reduce_and_holds_nothing_is_not_refused_again_and_again(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha")
    own = ledger.bots.get("alpha")
    for scope in (SWARM, market_scope(VENUE, SYMBOL), bot_scope("alpha")):
        _say(ledger, scope, TradingState.REDUCING)
        stop = brakes(ledger, [own], NOW)["alpha"]
        assert stop.gate == "reducing"
        assert f"trading of {scope} is reducing, and it holds nothing: a drill" in stop.words
        _say(ledger, scope, TradingState.ACTIVE)
    assert brakes(ledger, [own], NOW) == {}


def test_a_bot_beyond_the_share_is_held_back_until_it_holds_something(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    own, place = ledger.bots.get("alpha"), place_of("alpha")
    _open(ledger, place + 1)
    assert brakes(ledger, [own], NOW) == {}
    _open(ledger, place)
    assert "it is none of them" in brakes(ledger, [own], NOW)["alpha"].words
    amounts = dict.fromkeys(("quantity", "cash", "cost", "realised"), Decimal(1))
    where = {"bot": "alpha", "venue": VENUE, "account": "paper", "symbol": SYMBOL}
    row = PositionRow(**where, **amounts, last_trade_id=1, updated_at=NOW)
    ledger.database.write(lambda session: session.add(row))
    assert brakes(ledger, [own], NOW) == {}


def _open(ledger: Ledger, share: int) -> None:
    given = {"reason": "a drill", "actor": "test", "now": NOW, "is_human": True}
    ledger.halts.set(SWARM, TradingState.ACTIVE, share=share, **given)  # type: ignore[arg-type]


def _say(ledger: Ledger, scope: str, state: TradingState) -> None:
    ledger.halts.set(scope, state, reason="a drill", actor="test", now=NOW, is_human=True)


def test_bots_that_do_not_run_are_not_asked(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    Registry(ledger).stop("alpha", NOW, actor="test")
    decided, _ = a_pass(ledger)
    assert decided.bots == frozenset()
    assert ledger.orders.list() == []


def test_a_position_and_the_order_that_made_it_are_never_both_counted(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    a_pass(ledger)
    (order,) = ledger.orders.list(bot="alpha")
    ledger.books.judge(order.id, lambda order, _: Approved(order), NOW)
    (stand,) = ledger.bots.stands(VENUE, SYMBOL)
    assert [each.id for each in stand.orders] == [order.id]
    assert stand.position == 0
    fill = Fill(
        venue=VENUE,
        symbol=SYMBOL,
        trade_id=1,
        client_order_id=order.client_order_id,
        side=Side.BUY,
        price=Decimal(100),
        quantity=Decimal(4),
        commission=Decimal(0),
        commission_asset="USDT",
        at=NOW,
    )
    ledger.books.book([fill], NOW)
    (stand,) = ledger.bots.stands(VENUE, SYMBOL)
    assert stand.position == 4
    assert stand.orders[0].open_quantity == 6
    assert stand.bot.state is BotState.RUNNING


def test_bots_share_an_indicator_and_never_each_others_history(ledger: Ledger) -> None:
    seen: dict[str, Candles] = {}

    class Looks(Strategy):
        """Remembers what it was shown, for the test only."""

        me: str = parameter(default="a", words="its name")
        length: int = parameter(default=2, words="how many candles")

        @property
        def history(self) -> int:
            return self.length

        def decide(self, view: View) -> Decision:
            seen[self.me] = view.candles
            view.candles.rsi(2)
            return Decision(verdict="looked", indicators={})

    catalog = Catalog(found={"looks": Found(strategy=Looks, source="test")}, broken={})
    for name, length in (("a", 3), ("b", 3), ("c", 5)):
        spec = BotSpec.of(
            catalog,
            name=name,
            strategy="looks",
            venue=VENUE,
            symbol=SYMBOL,
            account="paper",
            parameters={"me": name, "length": length},
        )
        Registry(ledger).create(spec, NOW, actor="test")
        Registry(ledger).start(name, NOW, actor="test")
    muster = a_muster(ledger, catalog)
    assert muster.wanted == {"1m": 5}
    shown = {"1m": some_candles([1.0, 2.0, 3.0, 4.0, 5.0])}
    Evaluator(LIFE).evaluate(muster, a_scene(candles=shown), NOW)
    assert seen["a"] is seen["b"]
    assert seen["a"].close.tolist() == [3.0, 4.0, 5.0]
    assert seen["c"].close.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("huge", "ValueError: xxx"),
        ("half", "ValueError: half a character:  , and nothing:  "),
        ("mute", "Mute"),
        ("end", "RuntimeError: it wants to end the process: SystemExit(3)"),
        ("nul", "ValueError: what it wants to be kept holds the character NUL"),
        ("surrogate", "UnicodeEncodeError: 'utf-8' codec can't encode"),
    ],
)
def test_whatever_an_error_says_it_is_told_shortly_and_pauses_its_own_bot(
    ledger: Ledger, what: str, words: str
) -> None:
    a_bot(ledger, "bad", "hold")
    kept = ledger.bots.get("bad")
    changed = [replace(kept, parameters={**kept.parameters, "what": what})]
    ledger.changes.save(NOW - timedelta(seconds=1), edited=changed, actor="test", reason="test")
    a_bot(ledger, "good", "count")
    floor = a_floor(ledger)
    for number in range(ERRORS_MAX):
        floor.pass_market(VENUE, SYMBOL, a_look(10 + number))
    bad = ledger.bots.get("bad")
    assert bad.state is BotState.PAUSED
    assert (bad.reason or "").startswith(f"{ERRORS_MAX} evaluations in a row failed: {words}")
    assert len(bad.reason or "") < 1100
    assert ledger.bots.get("good").memory == {"count": ERRORS_MAX}


def test_a_bot_that_was_stopped_and_deleted_between_two_passes_is_known_no_more(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "gone", "leave")
    a_bot(ledger, "stays", "count")
    floor = a_floor(ledger)
    muster = floor.muster(VENUE, SYMBOL)
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    bots = Registry(ledger)
    bots.stop("gone", NOW, actor="test")
    bots.delete("gone", NOW, actor="test")
    floor.pass_market(VENUE, SYMBOL, a_look(10))
    assert set(muster.members) == {"stays"}
    assert ledger.bots.get("stays").memory == {"count": 1}


def test_what_changes_while_a_market_is_read_is_read_the_next_time(ledger: Ledger) -> None:
    a_bot(ledger, "alpha")
    muster = Muster(VENUE, SYMBOL, Strategies(CATALOG))
    news = ledger.stands.since(VENUE, SYMBOL, muster.seen())
    muster.forget()  # as another thread does that finds a changed file
    muster.take(news)
    before = muster.members["alpha"]
    muster.take(ledger.stands.since(VENUE, SYMBOL, muster.seen()))
    assert muster.members["alpha"] is not before
    after = muster.members["alpha"]
    muster.take(ledger.stands.since(VENUE, SYMBOL, muster.seen()))
    assert muster.members["alpha"] is after


def test_who_waits_for_a_candle_orders_once_whoever_asks_and_however_long_it_lasts(
    ledger: Ledger,
) -> None:
    a_bot(ledger, "alpha", None)
    _say(ledger, SWARM, TradingState.ACTIVE)
    floors = [a_floor(ledger), a_floor(ledger)]
    for number in range(4):
        floors[number % 2].pass_market(VENUE, SYMBOL, a_look(10 + number))
    late = NOW + timedelta(seconds=2 * KEPT_ANEW_S)
    at_ms = int(late.timestamp() * 1000)
    market = a_market(sequence=20, exchange_ms=at_ms)
    a_pass(ledger, market, late)  # by a process that has just started
    assert len(ledger.orders.list()) == 1
    shown = {"1m": Candles(**_shifted(60))}
    a_pass(ledger, replace(market, sequence=21), late, shown)
    assert len(ledger.orders.list()) == 2


def test_who_waits_for_a_quote_orders_once_for_it_whoever_asks(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", None, strategy="quoted")
    _say(ledger, SWARM, TradingState.ACTIVE)
    for number in range(3):
        a_floor(ledger).pass_market(VENUE, SYMBOL, a_look(10 + number))
    assert len(ledger.orders.list()) == 1
    market = a_market(sequence=20, quote=a_quote("99.98", 100))
    a_floor(ledger).pass_market(VENUE, SYMBOL, lambda _: a_scene(market))
    assert len(ledger.orders.list()) == 2


def test_what_was_not_ordered_is_not_remembered_as_if_it_were(ledger: Ledger) -> None:
    a_bot(ledger, "alpha", None)
    _say(ledger, SWARM, TradingState.HALTED)
    floor = a_floor(ledger)
    floor.pass_market(VENUE, SYMBOL, a_look(10))
    assert last(ledger, "alpha")["stopped"]["gate"] == "halted"
    assert ledger.bots.get("alpha").memory == {}
    _say(ledger, SWARM, TradingState.ACTIVE)
    floor.pass_market(VENUE, SYMBOL, a_look(11))
    assert len(ledger.orders.list()) == 1
    assert ledger.bots.get("alpha").memory == {"count": 1}


def a_floor(ledger: Ledger) -> Floor:
    return Floor(ledger, Strategies(CATALOG), Evaluator(LIFE), Still(), lambda *_: None)


def a_look(sequence: int) -> Callable[[Muster], Scene]:
    return lambda _: a_scene(a_market(sequence=sequence))


class Still(SystemClock):
    def now(self) -> datetime:
        return NOW
