"""Fills are booked once, and what they add up to does not depend on how they arrived."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from botswarm.domain.fill import Fill, Position
from botswarm.domain.order import Order, OrderState, Side
from botswarm.ledger.fold import Assets, Holding, fold
from botswarm.ledger.models import EntryRow, PostingRow
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from tests.ledger.conftest import ACCOUNT, NOW, SYMBOL, VENUE, a_fill, an_order, sent

BTC_USDT = Assets("BTC", "USDT")
D = Decimal

steps = st.tuples(
    st.sampled_from(list(Side)),
    st.integers(1, 10**7).map(lambda n: D(n).scaleb(-2)),  # price
    st.integers(1, 10**7).map(lambda n: D(n).scaleb(-5)),  # quantity
    st.integers(0, 10**6).map(lambda n: D(n).scaleb(-8)),  # commission
    st.sampled_from(["BTC", "USDT", "BNB"]),
    st.integers(0, 3 * 86_400),  # seconds later
)
histories = st.lists(steps, min_size=1, max_size=12)


def fills_of(order: Order, history: list[tuple[Side, D, D, D, str, int]]) -> list[Fill]:
    return [
        a_fill(
            order,
            trade_id,
            side=side,
            price=price,
            quantity=quantity,
            commission=commission,
            commission_asset=asset,
            at=NOW + timedelta(seconds=seconds),
        )
        for trade_id, (side, price, quantity, commission, asset, seconds) in enumerate(history, 1)
    ]


def books(ledger: Ledger, bot: str) -> tuple[object, ...]:
    (held,) = ledger.orders.positions(bot=bot)
    return held.quantity, held.cash, held.cost, held.realised


@given(history=histories, data=st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_and_any_repetition_give_the_same_books(
    ledger: Ledger, history: list[tuple[Side, D, D, D, str, int]], data: st.DataObject
) -> None:
    bot = f"bot{uuid.uuid4().hex}"
    order = sent(ledger, bot=bot, account=bot, quantity=D(10**9))
    fills = fills_of(order, history)
    arrived = data.draw(st.permutations(fills + data.draw(st.lists(st.sampled_from(fills)))))
    while arrived:
        count = data.draw(st.integers(1, len(arrived)))
        batch, arrived = arrived[:count], arrived[count:]
        if data.draw(st.booleans()):
            ledger.books.book(batch, NOW)
        else:
            ledger.books.record(order.id, OrderState.PARTIAL, NOW, fills=batch)
    straight = fold(fills, BTC_USDT).holding
    assert books(ledger, bot) == (
        straight.quantity,
        straight.cash,
        straight.cost,
        straight.realised,
    )
    assert (straight.quantity, straight.cash) == _of_domain(fills)
    assert ledger.orders.get(order.id).filled_quantity == sum(fill.quantity for fill in fills)
    assert verify(ledger.database).findings == []


def _of_domain(fills: list[Fill]) -> tuple[Decimal, Decimal]:
    position = Position.of(fills, base="BTC", quote="USDT")
    return position.quantity, position.cash


@given(history=histories)
def test_what_is_realised_and_what_is_held_is_all_the_cash(
    history: list[tuple[Side, D, D, D, str, int]],
) -> None:
    """Nothing is gained or lost in the fold: cash = realised - cost of what is held."""
    holding = fold(fills_of(an_order(), history), BTC_USDT).holding
    assert holding.cash == holding.realised - holding.cost
    if holding.quantity == 0:
        assert holding.cost == 0


def trade(
    side: Side, price: str, quantity: str, commission: str = "0", asset: str = "USDT"
) -> Fill:
    return a_fill(
        an_order(),
        0,
        side=side,
        price=D(price),
        quantity=D(quantity),
        commission=D(commission),
        commission_asset=asset,
    )


@pytest.mark.parametrize(
    ("fills", "quantity", "cost", "realised"),
    [
        ([trade(Side.BUY, "100", "1"), trade(Side.SELL, "110", "1")], "0", "0", "10"),
        ([trade(Side.BUY, "100", "2"), trade(Side.SELL, "90", "1")], "1", "100", "-10"),
        ([trade(Side.SELL, "100", "1"), trade(Side.BUY, "90", "1")], "0", "0", "10"),
        ([trade(Side.BUY, "100", "1"), trade(Side.SELL, "110", "3")], "-2", "-220", "10"),
        ([trade(Side.BUY, "100", "1"), trade(Side.BUY, "200", "1")], "2", "300", "0"),
        ([trade(Side.BUY, "100", "1", "1"), trade(Side.SELL, "100", "1", "1")], "0", "0", "-2"),
        ([trade(Side.BUY, "100", "1", "0.5", "BTC")], "0.5", "100", "0"),
        ([trade(Side.BUY, "100", "1", "9", "BNB")], "1", "100", "0"),
    ],
)
def test_results_by_average_cost(
    fills: list[Fill], quantity: str, cost: str, realised: str
) -> None:
    numbered = [replace(fill, trade_id=number) for number, fill in enumerate(fills)]
    holding = fold(numbered, BTC_USDT).holding
    assert (holding.quantity, holding.cost, holding.realised) == (D(quantity), D(cost), D(realised))


def test_amounts_of_many_digits_are_not_rounded_on_the_way() -> None:
    large = trade(Side.BUY, "12345678901234.123456789", "98765.123456789")
    holding = fold([large], BTC_USDT, Holding(cash=D("0.000000000000000001")))
    # 12345678901234123456789 * 98765123456789, in units of 1e-18, less the unit there was.
    assert holding.holding.cash == D("-1219322500838263374.622784789750190520")


def test_many_workers_that_book_the_same_fills_book_each_once(ledger: Ledger) -> None:
    order = sent(ledger)
    fills = [a_fill(order, number) for number in range(1, 9)]
    barrier = threading.Barrier(6)

    def start(number: int) -> int:
        barrier.wait()
        return sum(ledger.books.book([fill], NOW) for fill in fills[number:] + fills[:number])

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(start, range(6))) == len(fills)
    assert ledger.orders.get(order.id).filled_quantity == D("0.8")
    assert verify(ledger.database).findings == []


def test_many_accounts_are_booked_at_once_and_the_chain_has_no_gap(ledger: Ledger) -> None:
    orders = [sent(ledger, bot=f"bot{n}", account=f"account{n}") for n in range(6)]
    barrier = threading.Barrier(6)

    def start(number: int) -> None:
        barrier.wait()
        for trade_id in range(1, 6):
            ledger.books.book([a_fill(orders[number], trade_id)], NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    done = verify(ledger.database)
    assert done.findings == []
    assert (done.head_sequence, done.counts["entries"]) == (30, 30)


def test_every_entry_sums_to_zero_and_the_bot_has_what_it_traded(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1)], NOW)
    legs = ledger.database.read(lambda session: list(session.scalars(select(PostingRow))))
    assert [(leg.ledger_account, leg.asset, leg.amount) for leg in legs] == [
        ("bot:alpha", "BTC", D("0.1")),
        ("clearing:simulated:paper", "BTC", D("-0.1")),
        ("bot:alpha", "USDT", D("-10")),
        ("clearing:simulated:paper", "USDT", D("10")),
        ("bot:alpha", "BTC", D("-0.0001")),
        ("fees:simulated:paper", "BTC", D("0.0001")),
    ]


def test_a_fill_of_nobodys_order_is_kept_and_is_nobodys_position(ledger: Ledger) -> None:
    stranger = a_fill(an_order(), 7)
    assert ledger.books.book([stranger], NOW, account=ACCOUNT) == 1
    assert ledger.books.book([stranger], NOW, account=ACCOUNT) == 0
    assert ledger.orders.positions() == []
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) == 7
    done = verify(ledger.database)
    assert done.findings == []
    assert done.counts["external_fills"] == 1


def test_an_order_of_another_market_is_not_adopted(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1, symbol="ETH-USDT", commission_asset="ETH")], NOW)
    assert ledger.orders.get(order.id).filled_quantity == 0
    assert verify(ledger.database).counts["external_fills"] == 1


def test_another_story_about_a_booked_trade_changes_nothing(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1)], NOW)
    assert ledger.books.book([a_fill(order, 1, price=D(1))], NOW) == 0
    assert "trade 1 of BTC-USDT simulated came with other contents" in caplog.text
    assert ledger.orders.story(order.id).fills == [a_fill(order, 1)]


def test_a_failed_booking_leaves_no_trace(ledger: Ledger) -> None:
    order = sent(ledger)
    good, bad = a_fill(order, 1), a_fill(order, 2, quantity=D("1e-30"))
    with pytest.raises(Exception, match="more than 18 decimals"):
        ledger.books.book([good, bad], NOW)
    assert ledger.orders.get(order.id).filled_quantity == 0
    entries = ledger.database.read(lambda s: s.scalar(select(func.count()).select_from(EntryRow)))
    assert entries == 0


def test_the_days_loss_is_the_accounts_and_counts_late_fills(ledger: Ledger) -> None:
    buy = sent(ledger, quantity=D(2))
    sell = sent(ledger, side=Side.SELL, quantity=D(2))
    free = {"commission": D(0), "at": NOW, "quantity": D(1)}
    ledger.books.book([a_fill(buy, 1, price=D(100), **free)], NOW)
    ledger.books.book([a_fill(sell, 3, price=D(90), **free)], NOW)
    assert loss(ledger) == 10
    # It happened before the sale and was told after it: the average cost was 110.
    ledger.books.book([a_fill(buy, 2, price=D(120), **free)], NOW)
    assert loss(ledger) == 20
    assert verify(ledger.database).findings == []


def loss(ledger: Ledger) -> Decimal:
    from tests.ledger.test_books import exposure_of_next

    return exposure_of_next(ledger, bot="another").loss_today
