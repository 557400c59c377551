"""Bots of several markets, timeframes and kinds of orders: what they see, order and are told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import OrderKind, Side, TimeInForce
from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Candles,
    Decision,
    Needs,
    OfBudget,
    Quantity,
    Strategy,
    Trigger,
    View,
    Wish,
    above,
    below,
    wanted_history,
)
from botswarm.strategies.evaluate import (
    Evaluation,
    Holding,
    Market,
    Neighbour,
    Subject,
    evaluate,
    order_id,
    record,
)
from tests.strategies.values import (
    BTC,
    NOW,
    NOW_MS,
    a_market,
    a_quote,
    a_trade,
    an_open_order,
    some_candles,
)

ETH = replace(BTC, symbol="ETH-USDT", base="ETH")
LIFE = timedelta(seconds=10)


class Both(Strategy):
    """Sees two markets and an hour's candles, and decides what a test tells it to."""

    decision: Any = None
    seen: Any = None

    @property
    def history(self) -> int:
        return 3

    def needs(self) -> Needs:
        return Needs(history={"1h": 2}, others=("ETH-USDT",))

    def decide(self, view: View) -> Decision:
        if self.seen is not None:
            self.seen.append(view)
        return cast("Decision", self.decision)


def eth_market(**changes: Any) -> Market:
    return a_market(
        instrument=ETH, trade=a_trade(10), quote=a_quote("9.99", 10), sequence=5, **changes
    )


def hours(count: int) -> Candles:
    candles = some_candles([100.0] * count)
    open_ms = NOW_MS - 3_600_000 * numpy.arange(count, 0, -1, dtype=numpy.int64)
    return replace(candles, open_ms=open_ms)


def decided(decision: object, seen: list[View] | None = None, **changes: Any) -> Evaluation:
    neighbour = Neighbour(market=eth_market(), candles=some_candles([10.0] * 4))
    given: dict[str, Any] = {
        "others": {"ETH-USDT": neighbour},
        "series": {"1h": hours(3)},
        "market": a_market(),
    } | {name: changes.pop(name) for name in ("others", "series", "market") if name in changes}
    subject = Subject(
        bot="alpha",
        account="paper",
        strategy=Both(decision=decision, seen=seen),
        timeframe="1m",
        budget=changes.pop("budget", Decimal(1000)),
        others=changes.pop("held", {}),
        **changes,
    )
    candles = some_candles([100.0] * 5)
    return evaluate(subject, given.pop("market"), candles, NOW, signal_life=LIFE, **given)


def wants(**answer: Any) -> Decision:
    return Decision(verdict="told so", indicators={}, **answer)


# --- what is seen ---------------------------------------------------------------------------------


def test_a_view_shows_each_market_and_timeframe_as_far_back_as_asked_for() -> None:
    seen: list[View] = []
    orders = [an_open_order(Side.BUY, 1), replace(an_open_order(Side.SELL, 2), symbol="ETH-USDT")]
    decided(
        wants(),
        seen,
        orders=orders,
        others={"ETH-USDT": Neighbour(market=eth_market(), candles=some_candles([10.0] * 9))},
    )
    (view,) = seen
    assert {name: len(each) for name, each in view.series.items()} == {"1m": 3, "1h": 2}
    assert view.candles is view.series["1m"]
    assert len(view.others["ETH-USDT"].candles) == 3
    assert view.others["ETH-USDT"].price == 10
    assert [order.side for order in view.orders] == [Side.BUY]
    assert [order.side for order in view.others["ETH-USDT"].orders] == [Side.SELL]
    assert view.now_ms == NOW_MS


@pytest.mark.parametrize(
    ("gate", "words", "changes"),
    [
        ("no data", "nothing of simulated:ETH-USDT", {"others": {}}),
        (
            "stale",
            "ETH-USDT: the data is",
            {
                "others": {
                    "ETH-USDT": Neighbour(
                        market=eth_market(exchange_ms=NOW_MS - 9000), candles=some_candles([1.0])
                    )
                }
            },
        ),
        (
            "history",
            "ETH-USDT: 2 of the 3",
            {
                "others": {
                    "ETH-USDT": Neighbour(market=eth_market(), candles=some_candles([1.0] * 2))
                }
            },
        ),
        ("history", "1h: 0 of the 2", {"series": {}}),
        ("history", "1h: 1 of the 2", {"series": {"1h": hours(1)}}),
    ],
)
def test_a_bot_of_two_markets_waits_for_the_worse_of_them(
    gate: str, words: str, changes: dict[str, Any]
) -> None:
    seen: list[View] = []
    found = decided(wants(target=ALL), seen, **changes)
    assert found.stopped is not None
    assert (found.stopped.gate, seen, found.orders) == (gate, [], ())
    assert found.stopped.words.startswith(words)


# --- what is ordered ------------------------------------------------------------------------------


def test_targets_in_two_markets_become_orders_with_their_own_symbols_and_ids() -> None:
    half = OfBudget(Decimal("0.5"))
    found = decided(wants(targets={"BTC-USDT": half, "ETH-USDT": half}))
    assert [(each.symbol, each.quantity) for each in found.orders] == [
        ("BTC-USDT", Decimal(5)),
        ("ETH-USDT", Decimal(50)),
    ]
    ids = [order_id("alpha", "simulated:BTC-USDT", 7, leg) for leg in (0, 1)]
    assert [each.id for each in found.orders] == ids
    assert found.orders[1].reference_price == 10


def test_the_budget_is_shared_by_all_markets_of_a_bot() -> None:
    wish = Wish(side=Side.BUY, quantity=Decimal(100), symbol="ETH-USDT")
    assert decided(wants(orders=[wish])).orders[0].quantity == 100
    held = decided(wants(orders=[wish]), position=Decimal(4))
    assert held.orders[0].quantity == 60
    full = decided(wants(target=ALL), held={"ETH-USDT": Holding(position=Decimal(60))})
    assert full.orders[0].quantity == 4, "400 of 1000 are left"


def test_a_market_that_was_not_named_is_not_traded() -> None:
    found = decided(wants(targets={"SOL-USDT": ALL}))
    assert found.stopped is not None
    assert (found.stopped.gate, found.orders) == ("foreign market", ())


@pytest.mark.parametrize(
    ("wish", "kind", "limit", "stop"),
    [
        ({}, OrderKind.MARKET, None, None),
        ({"limit_price": "99.999"}, OrderKind.LIMIT, "99.99", None),
        ({"limit_price": "99.999", "post_only": True}, OrderKind.POST_ONLY, "99.99", None),
        ({"stop_price": "100.001"}, OrderKind.STOP, None, "100.01"),
        (
            {"stop_price": "100.001", "limit_price": "101"},
            OrderKind.STOP_LIMIT,
            "101",
            "100.01",
        ),
    ],
)
def test_a_wish_becomes_the_order_of_its_kind_in_the_venues_steps(
    wish: dict[str, Any], kind: OrderKind, limit: str | None, stop: str | None
) -> None:
    given: dict[str, Any] = {
        name: Decimal(each) if isinstance(each, str) else each for name, each in wish.items()
    }
    (order,) = decided(wants(orders=[Wish(side=Side.BUY, quantity=Decimal(1), **given)])).orders
    assert order.kind is kind
    assert order.limit_price == (limit and Decimal(limit))
    assert order.stop_price == (stop and Decimal(stop))


def test_a_limit_order_may_be_for_now_or_never() -> None:
    wish = Wish(
        side=Side.BUY,
        quantity=Decimal(1),
        limit_price=Decimal(101),
        time_in_force=TimeInForce.IOC,
    )
    assert decided(wants(orders=[wish])).orders[0].time_in_force is TimeInForce.IOC


@pytest.mark.parametrize(
    "wish",
    [
        {"post_only": True},
        {"post_only": True, "limit_price": Decimal(9), "stop_price": Decimal(9)},
        {"post_only": True, "limit_price": Decimal(9), "time_in_force": TimeInForce.IOC},
        {"time_in_force": TimeInForce.FOK},
    ],
)
def test_a_wish_that_contradicts_itself_is_refused_with_its_reason(wish: dict[str, Any]) -> None:
    found = decided(wants(orders=[Wish(side=Side.BUY, quantity=Decimal(1), **wish)]))
    assert found.stopped is not None
    assert (found.stopped.gate, found.orders) == ("contradiction", ())


def test_a_stop_to_buy_is_paid_from_the_budget_at_its_price() -> None:
    wish = Wish(side=Side.BUY, quantity=Decimal(100), stop_price=Decimal(200))
    (order,) = decided(wants(orders=[wish])).orders
    assert order.quantity == 5


def test_a_stop_that_sleeps_neither_counts_as_sold_nor_is_sold_twice() -> None:
    stop = replace(an_open_order(Side.SELL, 10), kind=OrderKind.STOP, stop_price=Decimal(90))
    kept = decided(wants(target=ALL), position=Decimal(10), orders=[stop])
    assert (kept.orders, kept.stopped) == ((), None)
    leaving = decided(wants(target=NOTHING), position=Decimal(10), orders=[stop])
    assert leaving.stopped is not None
    assert (leaving.orders, leaving.stopped.gate) == ((), "nothing to sell")


def test_a_timeframe_or_a_timer_that_cannot_be_is_named() -> None:
    class Odd(Both):
        """Needs what there is not."""

        def needs(self) -> Needs:
            return Needs(history={"7m": 3})

    with pytest.raises(ValueError, match="'7m', which is none of 1s, 1m"):
        wanted_history(Odd(), "1m")
    with pytest.raises(ValueError, match="never comes"):
        Trigger.every(0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "decide answered NoneType, not a Decision"),
        (wants(target="all"), "its target is 'all'"),
        (wants(target=OfBudget(cast("Decimal", 0.5))), "0.5 is no Decimal"),
        (wants(target=Quantity(cast("Decimal", "1"))), "'1' is no Decimal"),
    ],
)
def test_nonsense_is_an_error_that_says_what_was_answered(answer: object, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        decided(answer)


def test_a_target_that_is_no_number_orders_nothing() -> None:
    found = decided(wants(target=OfBudget(Decimal("NaN"))))
    assert found.stopped is not None
    assert (found.stopped.gate, found.orders) == ("no number", ())


amounts = st.integers(0, 10**6).map(lambda n: Decimal(n) / 1000)
prices = st.none() | st.integers(100, 30_000).map(lambda n: Decimal(n) / 100)
wished = st.lists(
    st.builds(
        Wish,
        side=st.sampled_from(Side),
        quantity=amounts,
        limit_price=prices,
        stop_price=prices,
        symbol=st.sampled_from([None, "ETH-USDT"]),
    ),
    max_size=6,
)
fractions = st.integers(-200, 1500).map(lambda n: OfBudget(Decimal(n) / 1000))


@settings(max_examples=150)
@given(
    budget=amounts.filter(bool),
    position=amounts,
    held=amounts,
    wishes=wished,
    targets=st.dictionaries(st.sampled_from(["BTC-USDT", "ETH-USDT"]), fractions),
)
def test_nothing_is_bought_over_the_shared_budget_and_nothing_sold_that_is_not_held(
    budget: Decimal,
    position: Decimal,
    held: Decimal,
    wishes: list[Wish],
    targets: dict[str, OfBudget],
) -> None:
    found = decided(
        wants(orders=wishes, targets=targets),
        budget=budget,
        position=position,
        held={"ETH-USDT": Holding(position=held)},
    )
    spent = position * 100 + held * 10
    bought = sum(each.notional for each in found.orders if each.side is Side.BUY)
    assert not bought or spent + bought <= budget
    for symbol, has in (("BTC-USDT", position), ("ETH-USDT", held)):
        sold = sum(
            each.quantity
            for each in found.orders
            if (each.symbol, each.side) == (symbol, Side.SELL)
        )
        assert sold <= has
    assert len({each.id for each in found.orders}) == len(found.orders)


# --- why ------------------------------------------------------------------------------------------


def told(found: Evaluation, market: Market | None = None) -> dict[str, Any]:
    subject = Subject(
        bot="alpha",
        account="paper",
        strategy=Both(),
        timeframe="1m",
        budget=Decimal(1000),
        others={"ETH-USDT": Holding(position=Decimal(3))},
    )
    neighbours = {"ETH-USDT": Neighbour(market=eth_market(), candles=None)}
    kept = record(found, subject, market or a_market(), NOW, neighbours)
    json.dumps(kept, allow_nan=False)
    return kept


def test_the_nearest_miss_is_the_failed_rule_with_the_smallest_relative_distance() -> None:
    rules = [below("RSI", 31.2, 30), above("volume", 50.0, 100), above("price", 101, 100)]
    kept = told(decided(wants(rules=rules)))
    assert kept["nearest"] == "RSI 31.2, needs < 30"
    assert [(each["words"], each["passed"]) for each in kept["rules"]] == [
        ("RSI", False),
        ("volume", False),
        ("price", True),
    ]
    assert kept["rules"][0]["distance"] == pytest.approx(0.04)


def test_a_rule_over_nothing_is_kept_and_never_the_nearest() -> None:
    rules = [below("RSI", float("nan"), 30), above("volume", 50.0, 100)]
    kept = told(decided(wants(rules=rules)))
    assert kept["nearest"] == "volume 50, needs > 100"
    assert kept["rules"][0]["value"] is None


def test_the_record_says_of_each_gate_whether_it_was_passed() -> None:
    passed = told(decided(wants(target=ALL)))["gates"]
    assert [each["gate"] for each in passed if each["passed"]] == [
        *("no data", "behind", "stale", "clock", "crossed", "not trading", "history", "gapped")
    ]
    market = a_market(exchange_ms=NOW_MS - 9000)
    gates = told(decided(wants(), market=market), market)["gates"]
    assert [(each["gate"], each["passed"]) for each in gates] == [
        *(("no data", True), ("behind", True), ("stale", False))
    ]
    assert gates[-1]["words"] == "the data is 9.0 s old, over 5 s"


def test_the_record_keeps_what_was_seen_of_the_other_markets() -> None:
    kept = told(decided(wants()))
    assert kept["others"]["ETH-USDT"]["price"] == "10"
    assert kept["others"]["ETH-USDT"]["position"] == "3"
    assert (kept["exchange_ms"], kept["received_ms"]) == (NOW_MS, NOW_MS)
