"""The built-in strategies beyond the first three, on markets whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy
import pytest

from botswarm.domain.order import Order, Side
from botswarm.strategies.api import ALL, NOTHING, Columns, Decision, Many, OfBudget, Other, View
from botswarm.strategies.bollinger import BollingerReversion
from botswarm.strategies.breakout import Breakout
from botswarm.strategies.dca import Dca
from botswarm.strategies.macd_trend import MacdTrend
from botswarm.strategies.market_maker import MarketMaker
from botswarm.strategies.pairs import Pairs
from botswarm.strategies.rebalance import Rebalance
from botswarm.strategies.sma_cross import SmaCross
from botswarm.strategies.supertrend import Supertrend
from tests.strategies.values import NOW_MS, a_quote, a_trade, a_view, an_open_order, some_candles

MINUTE_MS = 60_000

# --- trend and breakout ---------------------------------------------------------------------------


def test_breakout_buys_over_the_range_and_sells_under_the_nearer_one() -> None:
    strategy = Breakout(enter_length=4, leave_length=2)
    closes = [90.0, 110.0, 100.0, 104.0]
    for price, target in ((111, ALL), (110, None), (100, None), (99, NOTHING)):
        assert strategy.decide(a_view(closes, price=price)).target == target
    assert strategy.decide(a_view(closes, price=105)).nearest_words == "price 105, needs > 110"
    held = strategy.decide(a_view(closes, price=105, position=1))
    assert held.nearest_words == "price 105, needs < 100"


def test_bollinger_buys_far_below_the_average_and_leaves_at_it() -> None:
    strategy = BollingerReversion(length=4, width=Decimal(1))
    closes = [98.0, 102.0, 98.0, 102.0]  # average 100, deviation 2
    for price, target in ((97, ALL), (98, None), (100, None), (101, NOTHING)):
        assert strategy.decide(a_view(closes, price=price)).target == target


def test_trend_followers_are_in_while_it_rises_and_out_while_it_falls() -> None:
    for strategy in (Supertrend(length=3), MacdTrend(fast=3, slow=6, signal=3)):
        count = strategy.history
        rising = [100.0 * 1.01 ** (n * n / count) for n in range(count)]
        falling = [100.0 * 0.99 ** (n * n / count) for n in range(count)]
        assert strategy.decide(a_view(rising)).target == ALL
        assert strategy.decide(a_view(falling)).target == NOTHING


@pytest.mark.parametrize("price", [0.1, 100.0, 0.00001234])
def test_supertrend_follows_no_trend_where_nothing_has_ever_moved(price: float) -> None:
    strategy = Supertrend()
    shown = a_view([price] * strategy.history, price=f"{price:.8f}")
    assert strategy.decide(shown).target == NOTHING
    many = Many(
        columns=Columns.of([strategy], [Decimal(0)], [1000]),
        symbol=shown.symbol,
        candles=shown.candles,
        trade=shown.trade,
        quote=shown.quote,
        now_ms=0,
    )
    outcomes = Supertrend.decide_many(many)
    assert outcomes.target.tolist() == [0.0]
    assert outcomes.verdicts[outcomes.verdict[0]] == strategy.decide(shown).verdict


@pytest.mark.parametrize("price", [0.1, 0.3, 97.31, 0.00001234, 61_234.57, 3.3333])
def test_where_nothing_moves_nobody_trades_on_how_averages_are_rounded(price: float) -> None:
    for strategy in (SmaCross(), BollingerReversion(), BollingerReversion(length=33)):
        shown = a_view([price] * strategy.history, price=f"{price:.8f}")
        assert strategy.decide(shown).target is None


def test_a_macd_may_wait_until_it_is_over_zero() -> None:
    strategy = MacdTrend(fast=3, slow=6, signal=3)
    count = strategy.history
    turning = [100.0 - n for n in range(count - 3)] + [101.0 - count + n for n in (3, 4, 5)]
    assert strategy.decide(a_view(turning)).target == ALL
    waits = MacdTrend(fast=3, slow=6, signal=3, over_zero=True).decide(a_view(turning))
    assert waits.target == NOTHING
    assert waits.nearest_words is not None
    assert waits.nearest_words.endswith("needs > 0")


def test_what_commissions_left_over_is_not_held() -> None:
    strategy = Breakout(enter_length=4, leave_length=2)
    closes = [90.0, 110.0, 100.0, 104.0]
    dust = strategy.decide(a_view(closes, price=105, position="0.0004"))
    assert dust.nearest_words == "price 105, needs > 110"
    pair = PAIR.decide(with_other(a_pair("101.5"), [50.0] * 11, position=Decimal("0.001")))
    assert pair.nearest_words is not None
    assert pair.nearest_words.endswith("needs > 2")
    held = PAIR.decide(with_other(a_pair("101.5"), [50.0] * 11, position=Decimal(10)))
    assert held.nearest_words is not None
    assert held.nearest_words.endswith("needs < 0.5")


# --- cost averaging -------------------------------------------------------------------------------


def later(view: View, minutes: float, decision: Decision | None = None) -> View:
    memory = view.memory if decision is None or decision.memory is None else decision.memory
    return replace(view, now_ms=view.now_ms + int(minutes * MINUTE_MS), memory=memory)


def test_dca_buys_at_once_and_then_at_its_intervals() -> None:
    strategy = Dca(amount=Decimal(50), every_minutes=10)
    view = replace(a_view(price=100), now_ms=NOW_MS)
    first = strategy.decide(view)
    assert [(wish.side, round(wish.quantity, 3)) for wish in first.orders] == [
        (Side.BUY, Decimal("0.500"))
    ]
    early = strategy.decide(later(view, 9.9, first))
    assert (early.orders, early.nearest) == ((), "the next purchase is in 0.100 minutes")
    assert len(strategy.decide(later(view, 10, first)).orders) == 1


def test_dca_does_not_make_up_for_what_it_missed() -> None:
    strategy = Dca(amount=Decimal(50), every_minutes=10)
    view = replace(a_view(price=100), now_ms=NOW_MS)
    first = strategy.decide(view)
    after_hours = later(view, 300, first)
    second = strategy.decide(after_hours)
    assert len(second.orders) == 1
    assert strategy.decide(later(after_hours, 1, second)).orders == ()


def test_dca_ends_when_its_budget_is_spent_and_waits_for_its_own_order() -> None:
    strategy = Dca(amount=Decimal(50))
    spent = strategy.decide(a_view(price=100, position="9.6"))
    assert (spent.verdict, spent.orders) == ("done: its budget is spent", ())
    waiting = strategy.decide(a_view(price=100, orders=[an_open_order(Side.BUY, 1)]))
    assert (waiting.verdict, waiting.orders) == ("waits for its order", ())


def test_dca_waits_for_a_lower_price_and_sells_at_its_profit() -> None:
    strategy = Dca(amount=Decimal(50), under_average_percent=Decimal(5), profit_percent=Decimal(10))
    held = replace(a_view(price=100, position=1), average_price=Decimal(100))
    assert strategy.decide(held).verdict == "waits for its price"
    cheap = replace(a_view(price=94, position=1), average_price=Decimal(100))
    assert len(strategy.decide(cheap).orders) == 1
    dear = replace(a_view(price=111, position=1), average_price=Decimal(100))
    assert strategy.decide(dear).target == NOTHING
    dust = replace(a_view(price=111, position="0.001"), average_price=Decimal(100))
    assert strategy.decide(dust).verdict == "buys: its time has come"


# --- market making --------------------------------------------------------------------------------


def quotes(
    strategy: MarketMaker, position: Decimal | int | str, orders: Sequence[Order] = ()
) -> dict[Side, Decimal]:
    decision = strategy.decide(a_view(price=100, position=position, orders=orders))
    assert all(wish.post_only for wish in decision.orders)
    return {wish.side: wish.limit_price for wish in decision.orders if wish.limit_price}


MAKER = MarketMaker(half_spread_percent=Decimal(1), size_percent=Decimal(10), quotes=2)


def test_a_market_maker_at_its_goal_quotes_evenly_around_the_middle() -> None:
    assert quotes(MAKER, 5) == {Side.BUY: Decimal(99), Side.SELL: Decimal(101)}


def test_a_market_maker_leans_against_what_it_holds() -> None:
    much, little = quotes(MAKER, "7.5"), quotes(MAKER, "2.5")
    assert much[Side.BUY] < 99 < little[Side.BUY]
    assert much[Side.SELL] < 101 < little[Side.SELL]


def test_a_market_maker_never_quotes_through_the_market() -> None:
    steep = MarketMaker(half_spread_percent=Decimal("0.1"), skew=Decimal(10))
    assert quotes(steep, 1)[Side.BUY] <= Decimal("99.99")
    assert quotes(steep, 10)[Side.SELL] >= Decimal("100.01")


def test_a_market_maker_offers_nothing_it_does_not_hold() -> None:
    assert set(quotes(MAKER, 0)) == {Side.BUY}
    selling = [an_open_order(Side.SELL, 5, 105)]
    assert Side.SELL not in quotes(MAKER, 5, selling)


def test_a_market_maker_leaves_what_rests_near_its_price() -> None:
    assert Side.BUY not in quotes(MAKER, 5, [an_open_order(Side.BUY, 1, "99.2")])
    assert Side.BUY in quotes(MAKER, 5, [an_open_order(Side.BUY, 1, 95)])


def test_a_market_maker_replaces_the_quote_that_the_price_left_farthest_behind() -> None:
    left_behind = [
        replace(an_open_order(Side.BUY, 1, price), id=f"at-{price}") for price in (95, 94)
    ]
    (buy, _) = MAKER.decide(a_view(price=100, position=5, orders=left_behind)).orders
    assert (buy.side, buy.replaces, buy.limit_price) == (Side.BUY, "at-94", Decimal(99))
    # While it is being replaced there is room for no other, and what comes is near.
    ending = [left_behind[0], replace(left_behind[1], is_ending=True)]
    coming = replace(an_open_order(Side.BUY, 1, 99), id="new", replaces="at-94")
    assert Side.BUY not in quotes(MAKER, 5, [*ending, coming])


def test_a_market_maker_sells_what_the_replaced_quote_would_have_sold() -> None:
    selling = [
        replace(an_open_order(Side.SELL, "0.6", price), id=f"at-{price}") for price in (105, 106)
    ]
    decision = MAKER.decide(a_view(price=100, position="1.2", orders=selling))
    (sell,) = [wish for wish in decision.orders if wish.side is Side.SELL]
    assert sell.replaces == "at-106"
    assert sell.quantity == Decimal("0.6")


# --- several markets ------------------------------------------------------------------------------

ETH = "ETH-USDT"


def with_other(view: View, closes: Sequence[float], **changes: Any) -> View:
    price = changes.pop("price", closes[-1])
    other = Other(
        symbol=ETH,
        candles=some_candles(closes),
        trade=replace(a_trade(str(price)), symbol=ETH),
        quote=replace(a_quote(Decimal(str(price)) - 1, str(price)), symbol=ETH),
        **changes,
    )
    return replace(view, others={ETH: other})


PAIR = Pairs(length=10, enter_at=Decimal(2), leave_at=Decimal("0.5"))


def a_pair(price: Decimal | int | str, position: int = 0) -> View:
    closes = [99.0, 101.0] * 5 + [99.0]
    return with_other(a_view(closes, price=price, position=position), [50.0] * 11)


@pytest.mark.parametrize(
    ("price", "targets"),
    [
        (95, {ETH: NOTHING, "BTC-USDT": ALL}),
        (105, {ETH: ALL, "BTC-USDT": NOTHING}),
        (100, {ETH: NOTHING, "BTC-USDT": NOTHING}),
        ("101.5", {}),
    ],
)
def test_pairs_hold_the_cheap_one_of_two_until_they_are_close(
    price: Decimal | int | str, targets: dict[str, OfBudget]
) -> None:
    assert PAIR.decide(a_pair(price)).targets == targets


def test_pairs_say_what_they_wait_for() -> None:
    waits = PAIR.decide(a_pair("101.5")).nearest_words
    holds = PAIR.decide(a_pair("101.5", position=1)).nearest_words
    assert waits is not None
    assert waits.endswith("needs > 2")
    assert holds is not None
    assert holds.endswith("needs < 0.5")


def test_pairs_compare_candles_of_the_same_moments() -> None:
    view = a_pair(100)
    other = view.others[ETH]
    behind = replace(other.candles, open_ms=other.candles.open_ms - MINUTE_MS)
    # Its newest candle has not come yet: one fewer is in common, which is still enough.
    shifted = replace(view, others={ETH: replace(other, candles=behind)})
    assert PAIR.decide(shifted).indicators["mean"] == pytest.approx(numpy.log(2), abs=0.01)
    far = replace(other.candles, open_ms=other.candles.open_ms - 5 * MINUTE_MS)
    apart = replace(view, others={ETH: replace(other, candles=far)})
    assert PAIR.decide(apart).verdict == "stays: too few candles are of the same moments"


def test_a_pair_with_itself_and_one_that_never_moves_stay_out() -> None:
    assert replace(PAIR, other="BTC-USDT").decide(a_pair(95)).targets == {}
    still = with_other(a_view([100.0] * 11, price=95), [50.0] * 11)
    assert PAIR.decide(still).targets == {}


SHARES = Rebalance(weight=Decimal(40), others="ETH-USDT=30", drift_percent=Decimal(10))


def test_a_portfolio_within_its_drift_is_left_alone() -> None:
    # Of 1000: 400 in one, 30 % in the other, each a little off.
    view = with_other(a_view(price=100, position="4.3"), [50.0], position=Decimal("5.7"))
    decision = SHARES.decide(view)
    assert (decision.targets, decision.verdict[:5]) == ({}, "stays")
    assert decision.nearest_words == "drift of BTC-USDT % 7.5, needs > 10"


def test_a_portfolio_that_drifted_is_put_right_as_a_whole() -> None:
    view = with_other(a_view(price=100, position="4.5"), [50.0], position=Decimal(6))
    assert SHARES.decide(view).targets == {
        "BTC-USDT": OfBudget(Decimal("0.4")),
        ETH: OfBudget(Decimal("0.3")),
    }


def test_a_portfolio_whose_orders_are_open_waits_for_them() -> None:
    order = an_open_order(Side.BUY, 1)
    assert SHARES.decide(with_other(a_view(orders=[order]), [50.0])).targets == {}
    assert SHARES.decide(with_other(a_view(), [50.0], orders=(order,))).targets == {}


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ("ETH", "makes no sense"),
        ("ETH-USDT=x", "makes no sense"),
        ("ETH-USDT=70", "over 100"),
        ("ETH-USDT=10,ETH-USDT=20", "twice"),
    ],
)
def test_weights_that_make_no_sense_are_refused(others: str, complaint: str) -> None:
    refused = replace(SHARES, others=others).objection()
    assert refused is not None
    assert complaint in refused


def test_a_macd_over_zero_leaves_where_it_falls_under_zero_first() -> None:
    strategy = MacdTrend(fast=3, slow=6, signal=3, over_zero=True)
    closes = [100.0] * 30 + [90.0] * 4 + [93.0, 96.0]
    decision = strategy.decide(a_view(closes))
    line, signal = (float(decision.indicators[name]) for name in ("macd", "signal"))
    assert 0 < line < line - signal
    assert [rule.needs for rule in decision.rules] == [f"< {signal:.7g}", "< 0"]
    assert (decision.nearest_words or "").endswith("needs < 0")
