"""What the order path relies on: judged once, sent once, booked once, under any race."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from botswarm.domain.order import IllegalTransition, Order, OrderState, Side
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.errors import NotFound
from botswarm.ledger.store import Ledger
from botswarm.testing.books import begin_attempt
from botswarm.trading.books import Books
from tests.ledger.conftest import (
    ACCOUNT,
    BTC,
    NOW,
    SYMBOL,
    VENUE,
    Request,
    a_fill,
    an_order,
    let_pass,
    sent,
)
from tests.standing import reconciled

S = OrderState
T = TypeVar("T")


def together(count: int, work: Callable[[int], T]) -> list[T]:
    """Run it in many threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


def test_the_ledger_is_what_trading_asks_for(ledger: Ledger) -> None:
    books: Books = ledger.books  # mypy holds the signatures to each other
    assert books.unsettled(VENUE, ACCOUNT) == []


def test_instruments_come_back_as_they_were_saved(ledger: Ledger) -> None:
    ledger.books.save_instruments([BTC])
    changed = replace(BTC, tick_size=Decimal("0.1"), is_trading=False)
    ledger.books.save_instruments([changed])
    assert ledger.books.instrument(VENUE, SYMBOL) == changed
    with pytest.raises(NotFound, match="simulated:XRP-USDT"):
        ledger.books.instrument(VENUE, "XRP-USDT")


def test_many_may_save_the_same_markets_at_the_same_moment(ledger: Ledger) -> None:
    together = threading.Barrier(6)

    def save(_: int) -> None:
        together.wait()
        ledger.books.save_instruments([BTC])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, range(6)))
    assert ledger.books.instruments() == [BTC]


# --- judging ------------------------------------------------------------------------------------


def test_an_approved_order_is_as_it_was_but_for_its_state(ledger: Ledger) -> None:
    order = an_order(limit_price=Decimal("99.5"), quantity=Decimal("0.123456789012345678"))
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert verdict == Approved(replace(order, state=S.APPROVED))
    assert ledger.books.approved(VENUE, ACCOUNT) == [replace(order, state=S.APPROVED)]
    assert ledger.books.unsettled(VENUE, ACCOUNT) == []


def test_a_refused_order_keeps_its_reason_and_weighs_nothing(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, lambda o, _: Refused(o, "too big"), NOW)
    assert verdict == Refused(replace(order, state=S.REFUSED, reason="too big"), "too big")
    assert exposure_of_next(ledger).open_orders == 0


def test_an_order_whose_signal_has_expired_is_not_even_judged(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)

    def judge(_: Order, __: Exposure) -> Verdict:
        raise AssertionError("judged")

    verdict = ledger.books.judge(order.id, judge, order.signal_expires_at)
    assert isinstance(verdict, Refused)
    assert verdict.order.state is S.STALE


def test_an_order_is_judged_once_and_an_unknown_one_never(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)
    answers = together(8, lambda _: ledger.books.judge(order.id, let_pass, NOW))
    assert sum(answer is not None for answer in answers) == 1
    assert ledger.books.judge("no such order", let_pass, NOW) is None


def test_a_judge_that_raises_changes_nothing(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)

    def judge(_: Order, __: Exposure) -> Verdict:
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError):
        ledger.books.judge(order.id, judge, NOW)
    assert ledger.orders.get(order.id).state is S.READY


def exposure_of_next(ledger: Ledger, **changes: object) -> Exposure:
    """What a further order of the same bot would be judged by."""
    seen: list[Exposure] = []

    def judge(order: Order, exposure: Exposure) -> Verdict:
        seen.append(exposure)
        return Refused(order, "only asking")

    order = an_order(**changes)
    ledger.orders.add(order, NOW)
    ledger.books.judge(order.id, judge, NOW)
    return seen[0]


def test_exposure_counts_everything_that_may_be_live(ledger: Ledger) -> None:
    sent(ledger, quantity=Decimal("2"))
    unknown = sent(ledger, side=Side.SELL, limit_price=Decimal("90"))
    ledger.books.record(unknown.id, S.UNKNOWN, NOW)
    sent(ledger, bot="beta", quantity=Decimal("5"))
    reconciled(ledger, NOW, account="other")
    sent(ledger, account="other", quantity=Decimal("7"))
    sent(ledger, symbol="ETH-BTC", quantity=Decimal("11"))
    canceled = sent(ledger, quantity=Decimal("13"))
    ledger.books.record(canceled.id, S.CANCELED, NOW)
    exposure = exposure_of_next(ledger)
    assert exposure == Exposure(
        trading_state=TradingState.ACTIVE,
        account_open_notional=Decimal("200") + Decimal("90") + Decimal("500"),
        position=Decimal(0),
        open_buy_quantity=Decimal(2),
        open_sell_quantity=Decimal(1),
        open_orders=4,
        orders_last_minute=5,
        loss_today=Decimal(0),
    )


def test_fills_move_weight_from_the_open_order_to_the_position(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1), a_fill(order, 2)], NOW)
    exposure = exposure_of_next(ledger)
    assert exposure.position == Decimal("0.1998")
    assert exposure.open_buy_quantity == Decimal("0.8")


def test_a_filled_order_weighs_until_its_last_fill_is_booked(ledger: Ledger) -> None:
    order = sent(ledger, quantity=Decimal("0.2"))
    ledger.books.book([a_fill(order, 1)], NOW)
    ledger.books.record(order.id, S.FILLED, NOW)
    assert exposure_of_next(ledger).open_buy_quantity == Decimal("0.1")
    assert [each.id for each, _ in ledger.books.unsettled(VENUE, ACCOUNT)] == [order.id]
    ledger.books.book([a_fill(order, 2)], NOW)
    assert exposure_of_next(ledger).open_buy_quantity == 0
    assert ledger.books.unsettled(VENUE, ACCOUNT) == []


def test_orders_of_the_last_minute_are_counted_by_the_gate(ledger: Ledger) -> None:
    for _ in range(3):
        sent(ledger)
    later = NOW + timedelta(seconds=60)
    order = an_order(signal_expires_at=later + timedelta(seconds=10))
    ledger.orders.add(order, NOW)
    counts: list[int] = []

    def judge(order: Order, exposure: Exposure) -> Verdict:
        counts.append(exposure.orders_last_minute)
        return Refused(order, "only asking")

    assert exposure_of_next(ledger).orders_last_minute == 3
    ledger.books.judge(order.id, judge, later)
    assert counts == [0]


def test_racing_workers_cannot_exceed_a_limit_together(ledger: Ledger) -> None:
    limit = Decimal("500")
    orders = [an_order(bot=f"bot{number % 4}") for number in range(20)]
    for order in orders:
        ledger.orders.add(order, NOW)

    def judge(order: Order, exposure: Exposure) -> Verdict:
        if exposure.account_open_notional + order.notional > limit:
            return Refused(order, "full")
        return Approved(order)

    verdicts = together(20, lambda n: ledger.books.judge(orders[n].id, judge, NOW))
    assert sum(isinstance(verdict, Approved) for verdict in verdicts) == 5
    assert all(verdict is not None for verdict in verdicts)


# --- sending ------------------------------------------------------------------------------------


def test_an_attempt_is_begun_once_and_its_bytes_are_kept(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    answers = together(
        8, lambda n: begin_attempt(ledger.books, verdict.order, Request(b"%d" % n), NOW)
    )
    begun = [answer for answer in answers if answer is not None]
    assert [answer.state for answer in begun] == [S.SENDING]
    assert len(ledger.orders.story(order.id).attempts) == 1
    assert ledger.books.unsettled(VENUE, ACCOUNT) == [(begun[0], Request().fence_at)]


def test_the_fence_is_that_of_the_last_attempt(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.record(order.id, S.UNKNOWN, NOW)
    proven = ledger.books.record(order.id, S.APPROVED, NOW, reason="nothing was placed")
    later = Request(fence_at=NOW + timedelta(minutes=1))
    assert begin_attempt(ledger.books, proven, later, NOW) is not None
    ((_, fence),) = ledger.books.unsettled(VENUE, ACCOUNT)
    assert fence == later.fence_at


def test_what_was_rounded_down_is_what_the_ledger_keeps(ledger: Ledger) -> None:
    order = an_order(quantity=Decimal("1.00009"))
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    rounded = replace(verdict.order, quantity=Decimal(1))
    begun = begin_attempt(ledger.books, rounded, Request(), NOW)
    assert begun == ledger.orders.get(order.id)
    assert begun is not None
    assert begun.quantity == 1


def test_more_than_was_judged_is_never_sent(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    with pytest.raises(AssertionError):
        begin_attempt(ledger.books, replace(order, quantity=Decimal(2)), Request(), NOW)
    assert ledger.orders.get(order.id).state is S.APPROVED


def test_a_halt_stops_what_was_judged_before_it(ledger: Ledger) -> None:
    order = an_order()
    ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    ledger.halts.set("bot:alpha", TradingState.HALTED, reason="test", actor="test", now=NOW)
    assert begin_attempt(ledger.books, verdict.order, Request(), NOW) is None
    assert ledger.orders.get(order.id).state is S.APPROVED


def test_a_proof_is_worth_nothing_for_another_attempt(ledger: Ledger) -> None:
    order = sent(ledger)
    first, second = Request(), Request(fence_at=NOW + timedelta(minutes=1))
    ledger.books.record(order.id, S.UNKNOWN, NOW)
    reopened = ledger.books.reopen(order.id, first.fence_at, NOW)
    assert reopened is not None
    assert begin_attempt(ledger.books, reopened, second, NOW) is not None
    ledger.books.record(order.id, S.UNKNOWN, NOW)
    assert ledger.books.reopen(order.id, first.fence_at, NOW) is None
    assert ledger.books.decline(order.id, first.fence_at, NOW, reason="late") is None
    declined = ledger.books.decline(order.id, second.fence_at, NOW, reason="-1013")
    assert declined is not None
    assert (declined.state, declined.reason) == (S.REJECTED, "-1013")
    assert ledger.books.decline(order.id, second.fence_at, NOW, reason="-1013") is None


# --- recording ----------------------------------------------------------------------------------


def test_every_move_leaves_an_event_and_the_same_state_none(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.record(order.id, S.LIVE, NOW, venue_order_id="77")
    ledger.books.record(order.id, S.LIVE, NOW, venue_order_id="77")
    done = ledger.books.record(order.id, S.CANCELED, NOW, reason="by hand")
    assert (done.venue_order_id, done.reason) == ("77", "by hand")
    states = [(each.before, each.after) for each in ledger.orders.story(order.id).events]
    assert states == [
        (None, S.READY),
        (S.READY, S.APPROVED),
        (S.APPROVED, S.SENDING),
        (S.SENDING, S.LIVE),
        (S.LIVE, S.CANCELED),
    ]


def test_a_move_that_the_table_does_not_have_is_refused(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.record(order.id, S.REJECTED, NOW, reason="-2010")
    with pytest.raises(IllegalTransition):
        ledger.books.record(order.id, S.LIVE, NOW)
    assert ledger.orders.get(order.id).state is S.REJECTED


# --- which fills to ask for -----------------------------------------------------------------------


def test_a_late_fill_is_not_passed_over_because_a_later_one_is_known(ledger: Ledger) -> None:
    old = sent(ledger)
    ledger.books.book([a_fill(old, 5, quantity=Decimal(1))], NOW)
    ledger.books.record(old.id, S.FILLED, NOW)
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) == 5
    # Trades 6 and 7 happen; the fill of the second becomes known first.
    first, second = sent(ledger), sent(ledger)
    ledger.books.book([a_fill(second, 7, quantity=Decimal(1))], NOW)
    ledger.books.record(second.id, S.FILLED, NOW)
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) == 5
    ledger.books.book([a_fill(first, 6, quantity=Decimal(1))], NOW)
    ledger.books.record(first.id, S.FILLED, NOW)
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) == 7


def test_nothing_is_known_of_an_account_that_never_traded(ledger: Ledger) -> None:
    order = sent(ledger)
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) is None
    ledger.books.book([a_fill(order, 5)], NOW)
    # It was sent when nothing was known: what is below 5 may be its own.
    assert ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL) is None
    assert ledger.books.last_trade_id(VENUE, "other", SYMBOL) is None
