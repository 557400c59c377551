"""When a bot acts, and how much it may order: gates, sizes and reasons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Order, OrderKind, Side
from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Decision,
    OfBudget,
    Quantity,
    Strategy,
    Target,
    View,
    Wish,
    Worth,
)
from botswarm.strategies.evaluate import (
    TOLERANCE,
    Evaluation,
    Market,
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

LIFE = timedelta(seconds=10)


class Told(Strategy):
    """Decides what a test tells it to."""

    decision: Any = None
    seen: Any = None

    @property
    def history(self) -> int:
        return 3

    def decide(self, view: View) -> Decision:
        if self.seen is not None:
            self.seen.append(view)
        return cast("Decision", self.decision)


def wants(target: Target | None = None, orders: Sequence[Wish] = ()) -> Decision:
    return Decision(verdict="told so", indicators={"x": 1.5}, target=target, orders=orders)


def decided(
    decision: Decision, market: Market | None = None, *, candles: int = 3, **subject: Any
) -> Evaluation:
    return evaluate(
        Subject(
            bot="alpha",
            account="paper",
            strategy=Told(decision=decision),
            timeframe="1m",
            budget=subject.pop("budget", Decimal(1000)),
            **subject,
        ),
        market or a_market(),
        some_candles([100.0] * candles),
        NOW,
        signal_life=LIFE,
    )


# --- gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "market"),
    [
        ("no data", a_market(trade=None)),
        ("no data", a_market(quote=None)),
        ("stale", a_market(exchange_ms=NOW_MS - 5001)),
        ("clock", a_market(exchange_ms=NOW_MS + 5001)),
        ("crossed", a_market(quote=a_quote("100.01", 100))),
        ("crossed", a_market(quote=a_quote(100, 100))),
        ("crossed", a_market(quote=a_quote(0, 100))),
        ("behind", a_market(wanted_sequence=8)),
        ("not trading", a_market(instrument=replace(BTC, is_trading=False))),
    ],
)
def test_a_bot_does_not_act_on_bad_data_and_says_why(gate: str, market: Market) -> None:
    views: list[View] = []
    strategy = Told(decision=wants(ALL), seen=views)
    subject = Subject(
        bot="alpha", account="paper", strategy=strategy, timeframe="1m", budget=Decimal(1000)
    )
    found = evaluate(subject, market, some_candles([1.0] * 3), NOW, signal_life=LIFE)
    assert found.stopped is not None
    assert found.stopped.gate == gate
    assert found.stopped.words
    assert found.orders == ()
    assert views == [], "the strategy was asked all the same"
    kept = record(found, subject, market, NOW)
    assert kept["stopped"] == {"gate": gate, "words": found.stopped.words}


def test_a_bot_acts_on_data_that_is_just_fresh_enough() -> None:
    assert decided(wants(ALL), a_market(exchange_ms=NOW_MS - 5000)).orders


def test_a_bot_with_too_short_a_history_waits() -> None:
    found = decided(wants(ALL), candles=2)
    assert found.stopped is not None
    assert found.stopped.gate == "history"
    assert found.stopped.words == "2 of the 3 closed candles it needs are known"


def test_a_bot_whose_history_has_a_hole_waits_and_a_hole_further_back_does_not_matter() -> None:
    whole = some_candles([100.0] * 5)
    for hole_before, gate in ((2, None), (3, "gapped")):
        moments = whole.open_ms.copy()
        moments[:hole_before] -= 60_000
        candles = replace(whole, open_ms=moments)
        subject = _subject(Decimal(1000), Decimal(0), [], Told(decision=wants(ALL)))
        found = evaluate(subject, a_market(), candles, NOW, signal_life=LIFE)
        assert (found.stopped and found.stopped.gate) == gate
        assert bool(found.orders) == (gate is None)


def test_a_bot_whose_latest_candles_are_missing_waits() -> None:
    subject = _subject(Decimal(1000), Decimal(0), [], Told(decision=wants(ALL)))
    candles = some_candles([100.0] * 3)
    late = {"exchange_ms": NOW_MS + 63_000, "trade": a_trade(), "quote": a_quote(99, 100)}
    now = NOW + timedelta(seconds=63)
    found = evaluate(subject, a_market(**late), candles, now, signal_life=LIFE)
    assert found.stopped is not None
    assert found.stopped.gate == "gapped"
    just = evaluate(
        subject, a_market(**late | {"exchange_ms": NOW_MS + 62_999}), candles, now, signal_life=LIFE
    )
    assert just.orders


# --- sizes ----------------------------------------------------------------------------------------


def test_a_target_becomes_one_market_order_at_the_price_it_would_be_charged() -> None:
    (order,) = decided(wants(ALL)).orders
    assert (order.side, order.kind, order.quantity) == (Side.BUY, OrderKind.MARKET, Decimal(10))
    assert order.reference_price == Decimal(100)
    assert order.signal_expires_at == NOW + LIFE
    assert order.id == order_id("alpha", "simulated:BTC-USDT", 7, 0)


@pytest.mark.parametrize(
    ("target", "quantity"),
    [(Quantity(Decimal(2)), 2), (Worth(Decimal(250)), "2.5"), (OfBudget(Decimal("0.1")), 1)],
)
def test_every_kind_of_target_says_how_much_to_hold(target: Target, quantity: int | str) -> None:
    (order,) = decided(wants(target)).orders
    assert order.quantity == Decimal(quantity)
    assert decided(wants(target), position=Decimal(quantity)).orders == ()


def test_open_orders_count_as_filled() -> None:
    buying = [an_open_order(Side.BUY, 10)]
    assert decided(wants(ALL), orders=buying).orders == ()
    half = [an_open_order(Side.BUY, 10, filled=6)]
    assert decided(wants(ALL), orders=half, position=Decimal(6)).orders == ()
    (rest,) = decided(wants(ALL), orders=half, position=Decimal(2)).orders
    assert rest.quantity == Decimal(4)


def test_what_is_being_sold_is_not_sold_again() -> None:
    selling = [an_open_order(Side.SELL, 4)]
    assert decided(wants(NOTHING), orders=selling, position=Decimal(4)).orders == ()
    (rest,) = decided(wants(NOTHING), orders=selling, position=Decimal(10)).orders
    assert (rest.side, rest.quantity) == (Side.SELL, Decimal(6))


def test_a_buy_in_doubt_is_not_sold_before_it_is_held() -> None:
    unknown = [an_open_order(Side.BUY, 10)]
    found = decided(wants(NOTHING), orders=unknown)
    assert found.orders == ()


def test_what_prices_do_by_themselves_moves_no_order() -> None:
    near = Decimal(10) * (1 - TOLERANCE)
    assert decided(wants(ALL), position=near).orders == ()
    assert decided(wants(ALL), position=near - Decimal("0.01")).orders != ()


def test_dust_that_cannot_be_sold_is_left_in_peace() -> None:
    found = decided(wants(NOTHING), position=Decimal("0.0004"))
    assert found.orders == ()
    assert found.stopped is None


def test_a_spot_market_is_not_sold_short() -> None:
    found = decided(wants(Quantity(Decimal(-3))), position=Decimal(2))
    assert [(order.side, order.quantity) for order in found.orders] == [(Side.SELL, Decimal(2))]
    assert found.stopped is not None
    assert found.stopped.gate == "short"


def test_an_order_under_the_markets_minimum_is_not_sent_and_explained() -> None:
    found = decided(wants(ALL), budget=Decimal(4))
    assert found.orders == ()
    assert found.stopped is not None
    assert found.stopped.gate == "too small"
    assert "5 USDT or more" in found.stopped.words


def test_an_order_over_the_markets_maximum_is_cut_to_it() -> None:
    small = a_market(instrument=replace(BTC, quantity_max=Decimal(3)))
    (order,) = decided(wants(ALL), small).orders
    assert order.quantity == Decimal(3)


def test_wishes_share_the_budget_in_their_order() -> None:
    wishes = [Wish(side=Side.BUY, quantity=Decimal(6), limit_price=Decimal("99.999"))] * 3
    orders = decided(wants(orders=wishes)).orders
    assert [order.quantity for order in orders[:1]] == [Decimal(6)]
    assert orders[0].limit_price == Decimal("99.99"), "a buyer never pays more than asked for"
    assert len(orders) == 2
    assert sum(order.quantity * Decimal("99.999") for order in orders) <= 1000
    assert len({order.id for order in orders}) == 2


@pytest.mark.parametrize("quantity", ["NaN", "Infinity", "-1", "0"])
def test_a_mad_quantity_orders_nothing(quantity: str) -> None:
    wish = Wish(side=Side.BUY, quantity=Decimal(quantity))
    found = decided(wants(orders=[wish]))
    assert found.orders == ()
    assert found.stopped is not None


def test_a_strategy_that_wants_hundreds_of_orders_gets_none() -> None:
    found = decided(wants(orders=[Wish(side=Side.BUY, quantity=Decimal("0.1"))] * 51))
    assert found.orders == ()
    assert found.stopped is not None


# --- properties of sizes --------------------------------------------------------------------------

amounts = st.integers(0, 10**7).map(lambda n: Decimal(n) / 1000)
prices = st.integers(100, 10**6).map(lambda n: Decimal(n) / 100)
sides = st.sampled_from(Side)
targets = st.one_of(
    st.integers(-2000, 3000).map(lambda n: OfBudget(Decimal(n) / 1000)),
    amounts.map(Worth),
    amounts.map(Quantity),
)
open_orders = st.lists(
    st.builds(an_open_order, sides, amounts.filter(bool), st.none() | prices), max_size=4
)
wished = st.lists(
    st.builds(Wish, side=sides, quantity=amounts, limit_price=st.none() | prices), max_size=5
)


@settings(max_examples=300)
@given(
    budget=amounts.filter(lambda n: n > 0),
    position=amounts,
    orders=open_orders,
    target=st.none() | targets,
    wishes=wished,
    ask=prices,
)
def test_nothing_is_bought_over_the_budget_and_nothing_sold_that_is_not_held(
    budget: Decimal,
    position: Decimal,
    orders: list[Order],
    target: Target | None,
    wishes: list[Wish],
    ask: Decimal,
) -> None:
    market = a_market(quote=a_quote(ask - Decimal("0.01"), ask), trade=a_trade(ask))
    found = decided(wants(target, wishes), market, budget=budget, position=position, orders=orders)
    bought = sum(order.notional for order in found.orders if order.side is Side.BUY)
    open_buys = sum(_worth(order) for order in orders if order.side is Side.BUY)
    if bought:
        assert position * ask + open_buys + bought <= budget
    sold = sum(order.quantity for order in found.orders if order.side is Side.SELL)
    open_sells = sum(order.open_quantity for order in orders if order.side is Side.SELL)
    if sold:
        assert sold + open_sells <= position
    for order in found.orders:
        assert order.quantity % BTC.lot_size == 0
        assert order.quantity >= BTC.quantity_min
        assert order.quantity * (order.limit_price or order.reference_price) >= BTC.notional_min
    json.dumps(record(found, _subject(budget, position, orders), market, NOW), allow_nan=False)


@settings(max_examples=300)
@given(
    budget=amounts.filter(lambda n: n > 0),
    position=amounts,
    orders=open_orders,
    target=targets,
    ask=prices,
)
def test_an_order_never_leads_beyond_the_target_from_where_all_open_ones_lead(
    budget: Decimal, position: Decimal, orders: list[Order], target: Target, ask: Decimal
) -> None:
    market = a_market(quote=a_quote(ask - Decimal("0.01"), ask), trade=a_trade(ask))
    found = decided(wants(target), market, budget=budget, position=position, orders=orders)
    assert len(found.orders) <= 1
    coming = position + sum(order.side.sign * order.open_quantity for order in orders)
    wanted = _wanted(target, budget, ask)
    for order in found.orders:
        after = coming + order.side.sign * order.quantity
        assert (wanted - coming) * order.side.sign > 0
        # Down to the precision of a division of two amounts.
        assert (wanted - after) * order.side.sign >= Decimal("-1e-20")


def _worth(order: Order) -> Decimal:
    return order.open_quantity * max(order.limit_price or Decimal(0), order.reference_price)


def _wanted(target: Target, budget: Decimal, ask: Decimal) -> Decimal:
    match target:
        case Quantity(quantity=quantity):
            return max(Decimal(0), quantity)
        case Worth(notional=notional):
            return max(Decimal(0), notional / ask)
        case OfBudget(fraction=fraction):
            return max(Decimal(0), fraction * budget / ask)


def _subject(
    budget: Decimal, position: Decimal, orders: list[Order], strategy: Strategy | None = None
) -> Subject:
    return Subject(
        bot="alpha",
        account="paper",
        strategy=strategy or Told(),
        timeframe="1m",
        budget=budget,
        position=position,
        orders=orders,
    )


# --- reasons --------------------------------------------------------------------------------------


def test_the_record_keeps_what_was_seen_and_what_came_of_it() -> None:
    found = decided(wants(ALL))
    subject = _subject(Decimal(1000), Decimal(0), [])
    kept = record(found, subject, a_market(), NOW)
    assert kept["verdict"] == "told so"
    assert kept["indicators"] == {"x": 1.5}
    assert (kept["price"], kept["bid"], kept["ask"]) == ("100", "99.99", "100")
    assert kept["data_age_ms"] == 0
    assert kept["sequence"] == 7
    assert [order["id"] for order in kept["orders"]] == [found.orders[0].id]


def test_an_indicator_that_is_no_number_is_kept_as_unknown() -> None:
    odd = Decision(verdict="odd", indicators={"nan": float("nan"), "inf": float("inf")})
    kept = record(decided(odd), _subject(Decimal(1), Decimal(0), []), a_market(), NOW)
    assert kept["indicators"] == {"nan": None, "inf": None}


def test_the_same_evaluation_makes_the_same_order_ids() -> None:
    first, again = decided(wants(ALL)).orders, decided(wants(ALL)).orders
    assert [order.id for order in first] == [order.id for order in again]
    later = decided(wants(ALL), a_market(sequence=8)).orders
    assert first[0].id != later[0].id


def test_what_a_bot_changes_in_its_memory_looks_changed() -> None:
    seen: list[Any] = []
    made = _subject(Decimal(1000), Decimal(0), [], Told(decision=wants(), seen=seen))
    subject = replace(made, memory={"seen": [1]})
    evaluate(subject, a_market(), some_candles([1.0] * 3), NOW, signal_life=LIFE)
    seen[0].memory["seen"].append(2)
    assert subject.memory == {"seen": [1]}


# --- ending and replacing orders ------------------------------------------------------------------


def test_a_bot_ends_its_own_orders_whatever_else_is_in_its_way() -> None:
    resting = an_open_order(Side.BUY, 1, 90)
    going = replace(an_open_order(Side.BUY, 1, 91), is_ending=True)
    decision = replace(wants(orders=[Wish(side=Side.BUY, quantity=Decimal(10**6))]), cancels=())
    decision = replace(decision, cancels=[resting.id, going.id])
    done = decided(decision, orders=[resting, going], budget=Decimal(1))
    assert done.cancels == (resting.id,)
    assert done.orders == ()
    said = record(done, Subject(
        bot="alpha", account="paper", strategy=Told(), timeframe="1m", budget=Decimal(1)
    ), a_market(), NOW)  # fmt: skip
    assert said["cancels"] == [resting.id]


@pytest.mark.parametrize(
    "decision",
    [
        replace(wants(), cancels=["somebody-elses"]),
        wants(orders=[Wish(side=Side.BUY, quantity=Decimal(1), replaces="somebody-elses")]),
    ],
)
def test_a_bot_that_names_an_order_which_is_not_its_own_orders_nothing(decision: Decision) -> None:
    done = decided(decision)
    assert done.stopped is not None
    assert (done.stopped.gate, done.orders, done.cancels) == ("no such order", (), ())


def test_what_is_replaced_leaves_its_room_to_what_replaces_it() -> None:
    old = an_open_order(Side.BUY, 10, 100, filled=4)
    wish = Wish(side=Side.BUY, quantity=Decimal(5), limit_price=Decimal(99), replaces=old.id)
    subject: dict[str, Any] = {"budget": Decimal(1000), "position": Decimal(4), "orders": [old]}
    (order,) = decided(wants(orders=[wish]), **subject).orders
    # All that the old one filled is taken off again: what it wants besides is 5.
    assert (order.replaces, order.quantity) == (old.id, Decimal(9))
    other = replace(wish, side=Side.SELL)
    done = decided(wants(orders=[other]), **subject)
    assert done.stopped is not None
    assert done.stopped.gate == "contradiction"


def test_an_order_that_is_ending_already_is_not_replaced_again() -> None:
    old = replace(an_open_order(Side.BUY, 1, 90), is_ending=True)
    wish = Wish(side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(99), replaces=old.id)
    assert decided(wants(orders=[wish]), orders=[old]).orders == ()
