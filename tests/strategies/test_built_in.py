"""The built-in strategies on series whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Side
from botswarm.strategies.api import ALL, NOTHING, Decision, Other, Strategy, View
from botswarm.strategies.grid import Grid
from botswarm.strategies.registry import BUILT_IN
from botswarm.strategies.rsi_reversion import RsiReversion
from botswarm.strategies.sma_cross import SmaCross
from tests.strategies.values import a_quote, a_trade, a_view, an_open_order, some_candles

# --- moving averages ------------------------------------------------------------------------------


def test_sma_cross_is_in_while_the_fast_average_is_above_the_slow_one() -> None:
    decision = SmaCross(fast=2, slow=4).decide(a_view([10, 10, 12, 14]))
    assert decision.target == ALL
    assert decision.verdict.startswith("in:")
    assert decision.indicators == {"fast": 13.0, "slow": 11.5, "above": 1.5}
    assert decision.nearest == "to leave: fast 13 is 1.5 above slow 11.5"


def test_sma_cross_is_out_while_it_is_below() -> None:
    decision = SmaCross(fast=2, slow=4).decide(a_view([14, 12, 10, 10]))
    assert decision.target == NOTHING
    assert decision.nearest == "to enter: fast 10 is 1.5 below slow 11.5"


def test_sma_cross_lets_all_stay_where_the_averages_meet() -> None:
    decision = SmaCross(fast=2, slow=4).decide(a_view([10, 10, 10, 10]))
    assert decision.target is None
    near = SmaCross(fast=2, slow=4, margin_percent=Decimal(10))
    assert near.decide(a_view([100, 100, 101, 102])).target is None


def test_sma_cross_turns_exactly_where_the_series_turns() -> None:
    strategy = SmaCross(fast=1, slow=3)
    closes = [5.0, 6.0, 7.0, 8.0, 7.0, 6.0, 5.0, 6.0, 8.0]
    targets = [strategy.decide(a_view(closes[:end])).target for end in range(3, len(closes) + 1)]
    assert targets == [ALL, ALL, NOTHING, NOTHING, NOTHING, ALL, ALL]


# --- strength -------------------------------------------------------------------------------------


def test_rsi_reversion_buys_what_fell_and_sells_what_rose() -> None:
    strategy = RsiReversion(length=3)
    falling = [float(100 - n) for n in range(strategy.history)]
    rising = [float(100 + n) for n in range(strategy.history)]
    assert strategy.decide(a_view(falling)).target == ALL
    assert strategy.decide(a_view(rising)).target == NOTHING


def test_rsi_reversion_says_what_it_waits_for() -> None:
    strategy = RsiReversion(length=2, enter_below=Decimal(30), leave_above=Decimal(70))
    quiet = [100.0, 101.0] * 6
    waiting = strategy.decide(a_view(quiet[: strategy.history]))
    assert waiting.target is None
    assert waiting.nearest is not None
    assert waiting.nearest.startswith("to enter: RSI ")
    assert waiting.nearest.endswith("needs < 30")
    holding = strategy.decide(a_view(quiet[: strategy.history], position=1))
    assert holding.nearest is not None
    assert holding.nearest.endswith("needs > 70")


# --- grid -----------------------------------------------------------------------------------------

GRID = Grid(levels=3, step_percent=Decimal(1))


def shown(decision: Decision) -> list[tuple[str, int]]:
    return [(wish.side.value, int(wish.limit_price or 0)) for wish in decision.orders]


def test_an_empty_grid_rests_a_buy_on_every_level() -> None:
    decision = GRID.decide(a_view(price=100))
    assert shown(decision) == [("buy", 99), ("buy", 98), ("buy", 97)]
    assert decision.memory == {"anchor": "100"}
    worth = sum(wish.quantity * (wish.limit_price or 0) for wish in decision.orders)
    assert Decimal(990) < worth <= Decimal(1000)


def test_a_grid_whose_orders_rest_wants_nothing_more() -> None:
    resting = [an_open_order(Side.BUY, 3, price) for price in (99, 98, 97)]
    decision = GRID.decide(a_view(price="99.5", orders=resting, memory={"anchor": "100"}))
    assert decision.orders == []
    assert decision.memory is None


def test_what_a_level_bought_is_offered_one_level_above() -> None:
    resting = [an_open_order(Side.BUY, "3.3", price) for price in (98, 97)]
    decision = GRID.decide(
        a_view(price="98.9", position="3.36", orders=resting, memory={"anchor": "100"})
    )
    assert shown(decision) == [("sell", 100)]
    assert decision.orders[0].quantity <= Decimal("3.36")


def test_what_was_sold_is_bought_back_on_its_level() -> None:
    resting = [an_open_order(Side.BUY, "3.3", price) for price in (98, 97)]
    decision = GRID.decide(a_view(price="100.1", orders=resting, memory={"anchor": "100"}))
    assert shown(decision) == [("buy", 99)]


def test_a_grid_never_offers_the_same_coins_twice() -> None:
    orders = [
        an_open_order(Side.SELL, "3.3", 100),
        *(an_open_order(Side.BUY, "3.3", price) for price in (98, 97)),
    ]
    decision = GRID.decide(
        a_view(price=99, position="3.3", orders=orders, memory={"anchor": "100"})
    )
    assert decision.orders == []


def test_a_grid_does_not_buy_above_the_market() -> None:
    decision = GRID.decide(a_view(price=90, memory={"anchor": "100"}))
    assert decision.orders == []
    assert decision.verdict == "waits: the price is under the lowest level"


# --- all ------------------------------------------------------------------------------------------


each_kind = pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.name)


def a_whole_view(strategy: Strategy, seed: int, **changes: Any) -> View:
    """With everything that the strategy needs, on a random walk."""
    random = numpy.random.default_rng(seed)
    count = max(strategy.history, 1) + 5
    closes = numpy.round(100 + numpy.cumsum(random.normal(0, 0.7, count)), 2).clip(20)
    view = a_view(closes.tolist(), price=str(closes[-1]), **changes)
    needs = strategy.needs()
    others = {}
    for symbol in needs.others:
        walk = numpy.round(50 + numpy.cumsum(random.normal(0, 0.4, count)), 2).clip(10)
        price = Decimal(str(walk[-1]))
        others[symbol] = Other(
            symbol=symbol,
            candles=some_candles(walk.tolist()).latest(strategy.history),
            trade=replace(a_trade(price), symbol=symbol),
            quote=replace(a_quote(price - 1, price + 1), symbol=symbol),
        )
    return replace(view, candles=view.candles.latest(strategy.history), others=others)


@each_kind
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_the_same_view_gives_the_same_decision_and_is_left_as_it_was(
    kind: type[Strategy], seed: int
) -> None:
    view = a_whole_view(kind(), seed, position="1.5")
    closes, memory = view.candles.close.tolist(), dict(view.memory)
    first = kind().decide(view)
    # Another instance and other arrays: nothing may be remembered in between.
    again = kind().decide(a_whole_view(kind(), seed, position="1.5"))
    assert first == again
    assert dict(view.memory) == memory
    assert view.candles.close.tolist() == closes


@each_kind
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), position=st.sampled_from(["0", "1.5"]))
def test_a_decision_says_what_it_waits_for_in_words_without_numbers(
    kind: type[Strategy], seed: int, position: str
) -> None:
    decision = kind().decide(a_whole_view(kind(), seed, position=position))
    assert not any(letter.isdigit() for letter in decision.verdict)
    assert decision.nearest_words
    for value in decision.indicators.values():
        assert math.isfinite(value)


@each_kind
def test_every_parameter_of_a_built_in_strategy_is_bounded_and_explained(
    kind: type[Strategy],
) -> None:
    assert kind.parameters()
    for each in kind.parameters():
        assert len(each.words) > 10
        if not isinstance(each.default, (bool, str)):
            assert each.at_least is not None
            assert each.at_most is not None
        assert each.read(each.default) == each.default
