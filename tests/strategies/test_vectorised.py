"""Deciding for many bots at once gives the answers that each of them gives alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.strategies.api import Candles, Columns, Many, OfBudget, Parameter, Strategy, View
from botswarm.strategies.registry import BUILT_IN
from tests.strategies.values import SYMBOL, a_quote, a_trade, a_view

VECTORISED = [kind for kind in BUILT_IN if kind.is_vectorised()]
each_kind = pytest.mark.parametrize("kind", VECTORISED, ids=lambda kind: kind.name)


def a_market(random: numpy.random.Generator, count: int) -> Candles:
    """A walk with quiet stretches, in steps of a cent."""
    steps = random.normal(0, 0.6, count) * (random.random(count) < 0.8)
    close = numpy.round(100 + numpy.cumsum(steps), 2).clip(5)
    away = numpy.round(random.exponential(0.3, (2, count)), 2)
    return Candles(
        open_ms=numpy.arange(count, dtype=numpy.int64) * 60_000,
        open=close,
        high=numpy.round(close + away[0], 2),
        low=numpy.round(close - away[1], 2).clip(1),
        close=close,
        volume=random.exponential(5, count),
    )


def a_value(told: Parameter, random: numpy.random.Generator) -> Any:
    if isinstance(told.default, bool):
        return bool(random.integers(2))
    assert told.at_least is not None
    assert told.at_most is not None
    low, high = float(told.at_least), min(float(told.at_most), 20.0)
    if isinstance(told.default, int):
        return int(random.integers(int(low), int(high)))
    return Decimal(str(round(random.uniform(low, high), 2)))


def a_bot(kind: type[Strategy], random: numpy.random.Generator) -> Strategy:
    while True:
        made = kind(**{each.name: a_value(each, random) for each in kind.parameters()})
        if made.objection() is None:
            return made


@each_kind
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_many_decide_as_each_does_alone(kind: type[Strategy], seed: int) -> None:
    random = numpy.random.default_rng(seed)
    bots = [a_bot(kind, random) for _ in range(12)]
    candles = a_market(random, max(each.history for each in bots) + 3)
    # Often at the very edge of something: that is where comparisons differ.
    edges = [candles.high[-9:].max(), candles.low[-9:].min(), candles.close[-1] + 1.37]
    price = Decimal(str(round(float(random.choice(edges)), 2)))
    positions = [Decimal(int(random.integers(2))) for _ in bots]
    many = Many(
        columns=Columns.of(bots, positions, [1000] * len(bots)),
        symbol=SYMBOL,
        candles=candles,
        trade=a_trade(price),
        quote=a_quote(price - 1, price),
        now_ms=0,
    )
    outcomes = kind.decide_many(many)
    for place, (bot, position) in enumerate(zip(bots, positions, strict=True)):
        alone = bot.decide(shown(bot, candles, price, position))
        assert outcomes.verdicts[outcomes.verdict[place]] == alone.verdict
        assert isinstance(alone.target, OfBudget | None)
        target = outcomes.target[place]
        assert (None if numpy.isnan(target) else Decimal(target)) == (
            alone.target and alone.target.fraction
        )


def shown(bot: Strategy, candles: Candles, price: Decimal, position: Decimal) -> View:
    return View(
        symbol=SYMBOL,
        candles=candles.latest(bot.history),
        trade=a_trade(price),
        quote=a_quote(price - 1, price),
        budget=Decimal(1000),
        position=position,
        orders=(),
        memory={},
    )


def test_five_kinds_and_more_decide_for_many() -> None:
    assert len(VECTORISED) >= 5


class Counting(Candles):
    """Counts how often an indicator is asked for."""

    __slots__ = ()
    asked: int = 0

    def latest(self, count: int) -> Candles:
        Counting.asked += 1
        return Candles.latest(self, count)


def test_what_bots_share_is_looked_up_once_and_again_only_for_new_candles() -> None:
    [kind] = [each for each in VECTORISED if each.name == "rsi-reversion"]
    bots = [kind(length=5 + n % 3) for n in range(60)]  # type: ignore[call-arg]
    columns = Columns.of(bots, [0] * 60, [1] * 60)
    told = a_market(numpy.random.default_rng(1), 60)
    for count in (3, 3, 6):
        if count == 6 or Counting.asked == 0:
            names = ("open_ms", "open", "high", "low", "close", "volume")
            candles = Counting(**{name: getattr(told, name) for name in names})
        many = Many(
            columns=columns,
            symbol=SYMBOL,
            candles=candles,
            trade=a_trade(100),
            quote=a_quote(99, 100),
            now_ms=0,
        )
        assert len(many.last("rsi", "length")) == 60
        assert Counting.asked == count


def test_a_columns_parameters_are_numbers_words_and_truths() -> None:
    [kind] = [each for each in BUILT_IN if each.name == "macd-trend"]
    columns = Columns.of([kind(), kind(over_zero=True)], [0, 0], [1, 1])  # type: ignore[call-arg]
    assert columns.parameter("over_zero").tolist() == [False, True]
    assert columns.parameter("fast").tolist() == [12, 12]
    [pairs] = [each for each in BUILT_IN if each.name == "pairs"]
    words = Columns.of([pairs()], [0], [1])
    assert words.parameter("other").tolist() == ["ETH-USDT"]
    assert words.parameter("enter_at").tolist() == [2.0]


def test_a_position_is_told_as_a_share_of_its_budget() -> None:
    [kind] = [each for each in VECTORISED if each.name == "sma-cross"]
    view = a_view(price=100)
    many = Many(
        columns=Columns.of([kind()], [Decimal(5)], [Decimal(1000)]),
        symbol=SYMBOL,
        candles=view.candles,
        trade=a_trade(100),
        quote=a_quote(100, 101),
        now_ms=0,
    )
    assert many.position_worth_fraction.tolist() == [0.5]
