"""Die on any line, hear any answer: no order is at the venue twice, none is lost."""

from __future__ import annotations

import dataclasses
import decimal
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.clock import StoppedClock
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import TradingState
from botswarm.errors import Unreachable
from botswarm.exchanges.base import Answer, SignedRequest
from botswarm.risk.limits import Limits
from botswarm.testing.books import FakeBooks
from botswarm.testing.venue import FakeVenue, Fate, Fault
from botswarm.trading import executor, settle
from botswarm.trading.settle import Watch

D = Decimal
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MARKET = Instrument(
    venue="simulated",
    symbol="BTC-USDT",
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.0001"),
    quantity_min=D("0.0001"),
    quantity_max=D(100),
    notional_min=D(5),
)
LIMITS = Limits(
    order_notional_max=D(500),
    open_notional_max=D(5000),
    position_notional_max=D(1000),
    open_orders_max=100,
    orders_per_minute_max=60,
    daily_loss_max=D(500),
    signal_age_max_s=3600,
)
ORDER = Order(
    id="01234567-89ab-cdef-0123-456789abcdef",
    bot="turtle",
    venue="simulated",
    account="paper",
    symbol="BTC-USDT",
    side=Side.BUY,
    kind=OrderKind.LIMIT,
    quantity=D("1.00009"),
    limit_price=D("100.009"),
    time_in_force=TimeInForce.GTC,
    reference_price=D(100),
    state=OrderState.READY,
    created_at=START,
    signal_expires_at=START + timedelta(seconds=10),
)
PATIENT = dataclasses.replace(ORDER, signal_expires_at=START + timedelta(hours=1))
NOTHING_THERE = {OrderState.REFUSED, OrderState.STALE, OrderState.REJECTED}


class Died(BaseException):
    """kill -9: nothing in the code can catch it."""


class Life:
    """One process: it dies before the n-th line of the order path that it comes to."""

    def __init__(self, dies_at: int | None) -> None:
        self.lines: list[tuple[str, int]] = []
        self._dies_at = dies_at

    def __enter__(self) -> Life:
        self._before = sys.gettrace()
        self._context = decimal.getcontext()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        # Whoever dies on the last line of a `with` never leaves it; a process takes its decimal
        # context to the grave, this one lives on.
        decimal.setcontext(self._context)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if "/botswarm/trading/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(self.lines) == self._dies_at:
                raise Died
        return self._trace


class World:
    def __init__(self, order: Order = ORDER) -> None:
        self.clock = StoppedClock(START)
        self.books = FakeBooks([MARKET])
        self.venue = FakeVenue(self.clock, [MARKET])
        self.order = order
        self.books.add(order)

    def place(self) -> None:
        executor.place(self.order.id, self.books, self.venue, LIMITS, self.clock)

    def settle(self, watch: Watch) -> None:
        settle.settle(self.books, self.venue, self.clock, watch)

    def run(self, deaths: list[int | None], rounds: int = 90) -> Life:
        """A life for each death and a last one, the message delivered to each."""
        for dies_at in [*deaths, None]:
            life = Life(dies_at)
            try:
                with life:
                    self._live(rounds)
            except Died:
                continue
            finally:
                self.check()
        return life

    def _live(self, rounds: int) -> None:
        watch = Watch()
        self.place()
        for _ in range(rounds):
            if self.state().is_final:
                return
            self.settle(watch)
            self.clock.advance(1)

    def state(self) -> OrderState:
        return self.books.orders[self.order.id].state

    def check(self) -> None:
        """What must hold at every moment, whoever has just died."""
        assert len(self.venue.orders) <= 1, "two orders of one intent"
        if self.venue.orders:
            assert self.state() not in NOTHING_THERE, "an order nobody knows of"

    def check_the_end(self) -> None:
        self.check()
        if not self.venue.orders:
            assert self.state() in NOTHING_THERE, f"{self.state()}, but nothing is there"
            return
        taken = self.venue.orders[0]
        assert self.state() is taken.state
        known = [fill for _, fill in sorted(self.books.fills.items())]
        assert known == sorted(taken.fills, key=lambda fill: fill.trade_id)
        assert self.books.orders[self.order.id].filled_quantity == taken.filled


SCENARIOS = [
    (Fault.NONE, Fate.RESTS),
    (Fault.NONE, Fate.FILLS),
    (Fault.NONE, Fate.FILLS_HALF),
    (Fault.NONE, Fate.EXPIRES),
    (Fault.LOSE_REPLY, Fate.RESTS),
    (Fault.LOSE_REPLY, Fate.FILLS),
    (Fault.LOSE_REPLY, Fate.FILLS_HALF),
    (Fault.LOSE_REPLY, Fate.EXPIRES),
    (Fault.LOSE_REQUEST, Fate.FILLS),
    (Fault.DECLINE, Fate.FILLS),
    (Fault.HOLD, Fate.FILLS),
    (Fault.TWICE, Fate.RESTS),
]
each_scenario = pytest.mark.parametrize(
    ("fault", "fate"), SCENARIOS, ids=lambda each: each.name.lower()
)


def world(fault: Fault, fate: Fate, order: Order = ORDER, lag_s: float = 0) -> World:
    made = World(order)
    made.venue.faults.append(fault)
    made.venue.fate = fate
    made.venue.query_lag = timedelta(seconds=lag_s)
    return made


def points_of(life: Life) -> list[int]:
    """Where to die: before each line the first time it is come to, the second, and the last."""
    times: dict[tuple[str, int], list[int]] = {}
    for number, line in enumerate(life.lines, start=1):
        times.setdefault(line, []).append(number)
    return sorted({number for each in times.values() for number in (*each[:2], each[-1])})


@each_scenario
@pytest.mark.parametrize("order", [ORDER, PATIENT], ids=["brief", "patient"])
def test_dying_on_any_line_places_nothing_twice_and_loses_nothing(
    fault: Fault, fate: Fate, order: Order
) -> None:
    points = points_of(world(fault, fate, order).run([]))
    assert len(points) > 30
    for dies_at in points:
        made = world(fault, fate, order)
        made.run([dies_at])
        made.check_the_end()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SCENARIOS),
    st.sampled_from([ORDER, PATIENT]),
    st.lists(st.integers(1, 250), max_size=5),
    st.sampled_from([0.0, 3.0, 9.0, 15.0]),
    st.sampled_from([0.5, 1.9, 2.1, 30.0]),
)
def test_dying_many_times_in_a_row_with_late_answers_does_no_harm(
    scenario: tuple[Fault, Fate],
    order: Order,
    deaths: list[int | None],
    lag_s: float,
    hold_s: float,
) -> None:
    made = world(*scenario, order=order, lag_s=lag_s)
    made.venue.hold_s = hold_s
    made.run(deaths)
    made.check_the_end()


def test_an_order_is_rounded_in_its_own_favour_before_it_is_sent() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.place()
    sent = made.venue.orders[0]
    assert (sent.quantity, sent.price) == (D("1.0000"), D("100.00"))
    assert made.books.orders[ORDER.id].quantity == D("1.0000")


def test_what_a_market_cannot_take_is_refused_with_the_reason() -> None:
    made = World(dataclasses.replace(ORDER, quantity=D("0.04")))
    made.place()
    assert made.state() is OrderState.REFUSED
    assert "under the market's minimum of 5" in (made.books.orders[ORDER.id].reason or "")


@pytest.mark.parametrize(
    ("after", "level"), [(OrderState.LIVE, logging.ERROR), (OrderState.UNKNOWN, logging.INFO)]
)
def test_an_order_that_was_not_placed_and_is_there_is_an_error_in_the_log(
    after: OrderState, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = world(Fault.DECLINE, Fate.RESTS)
    made.place()
    assert made.state() is OrderState.REJECTED
    caplog.set_level(logging.INFO)
    executor.move(made.books, ORDER, after, made.clock.now())
    assert [each.levelno for each in caplog.records if "not moved" in each.message] == [level]


def test_a_redelivered_message_places_no_second_order() -> None:
    made = world(Fault.NONE, Fate.FILLS)
    made.place()
    made.place()
    assert len(made.venue.orders) == 1


def test_an_unknown_outcome_is_never_sent_again_before_the_fence_and_two_empty_rounds() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.FILLS, PATIENT)
    watch = Watch()
    made.place()
    for _ in range(24):
        made.settle(watch)
        assert made.state() is OrderState.UNKNOWN
        assert len(made.books.attempts[ORDER.id]) == 1
        made.clock.advance(1)
    for _ in range(8):
        made.settle(watch)
        made.clock.advance(1)
    assert made.state() is OrderState.FILLED
    assert len(made.books.attempts[ORDER.id]) == 2


def test_what_is_proven_not_placed_too_late_ends_stale() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.FILLS)
    made.run([])
    assert made.state() is OrderState.STALE
    assert made.venue.orders == []


def test_a_silent_venue_proves_nothing() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.FILLS)
    made.place()
    made.venue.is_reachable = False
    watch = Watch()
    for _ in range(120):
        made.settle(watch)
        made.clock.advance(1)
    assert made.state() is OrderState.UNKNOWN


def test_an_unknown_order_holds_its_exposure() -> None:
    made = world(Fault.LOSE_REPLY, Fate.RESTS)
    made.place()
    assert made.state() is OrderState.UNKNOWN
    tight = dataclasses.replace(LIMITS, open_notional_max=D(150))
    second = dataclasses.replace(ORDER, id="11234567-89ab-cdef-0123-456789abcdef")
    made.books.add(second)
    executor.place(second.id, made.books, made.venue, tight, made.clock)
    assert made.books.orders[second.id].state is OrderState.REFUSED
    assert "open notional" in (made.books.orders[second.id].reason or "")


@pytest.mark.parametrize("second", [Fault.NONE, Fault.LOSE_REPLY], ids=["live", "unknown"])
def test_a_sender_that_slept_through_its_fence_changes_nothing(second: Fault) -> None:
    """It is stopped between its commit and its send, and wakes when attempt 2 has been made."""
    made = world(second, Fate.RESTS, PATIENT)
    asleep: list[SignedRequest] = []
    really_send = made.venue.send

    def sleep(request: SignedRequest) -> Answer:
        asleep.append(request)
        raise Died

    made.venue.send = sleep  # type: ignore[method-assign]
    with pytest.raises(Died):
        made.place()
    made.venue.send = really_send  # type: ignore[method-assign]
    watch = Watch()
    while len(made.books.attempts[ORDER.id]) == 1:
        made.settle(watch)
        made.clock.advance(1)
    before = made.state()
    answer = made.venue.send(asleep[0])
    executor.take(answer, asleep[0], made.books.orders[ORDER.id], made.books, made.clock)
    assert made.venue.refused_late == 1
    assert made.state() is before
    made.run([])
    made.check_the_end()


def test_a_slow_prover_cannot_reopen_an_order_that_has_another_attempt() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.RESTS, PATIENT)
    made.venue.faults.append(Fault.LOSE_REPLY)
    made.place()
    first_fence = made.books.attempts[ORDER.id][0].request.fence_at
    watch = Watch()
    while len(made.books.attempts[ORDER.id]) == 1:
        made.settle(watch)
        made.clock.advance(1)
    assert made.state() is OrderState.UNKNOWN
    assert made.books.reopen(ORDER.id, first_fence, made.clock.now()) is None
    made.run([])
    made.check_the_end()


def test_a_halt_stops_what_was_approved_before_it() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.venue.is_reachable = False
    made.place()
    assert made.state() is OrderState.APPROVED
    made.venue.is_reachable = True
    made.books.trading_state = TradingState.HALTED
    made.run([])
    assert made.venue.orders == []
    assert made.state() is OrderState.STALE


class Sleepy(FakeBooks):
    """Its caller was frozen just after the bytes were committed, and others went on meanwhile."""

    def __init__(self, clock: StoppedClock, slept_s: float, meanwhile: TradingState) -> None:
        super().__init__([MARKET])
        self._clock, self._slept_s, self._meanwhile = clock, slept_s, meanwhile
        self.looks = 0

    def begin(self, *road: Any) -> Any:
        begun = super().begin(*road)
        self._clock.advance(self._slept_s)
        self.trading_state = self._meanwhile
        return begun

    def is_halted(self, order: Order, now: datetime) -> bool:
        self.looks += 1
        return super().is_halted(order, now)


@pytest.mark.parametrize(
    ("slept_s", "meanwhile", "is_sent"),
    [
        (executor.SENT_WITHIN_S + 0.1, TradingState.HALTED, False),
        (executor.SENT_WITHIN_S + 0.1, TradingState.ACTIVE, True),
        (0.0, TradingState.ACTIVE, True),
    ],
)
def test_who_wakes_up_with_signed_bytes_sends_them_only_where_trading_was_not_halted(
    slept_s: float, meanwhile: TradingState, is_sent: bool
) -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.books = books = Sleepy(made.clock, slept_s, meanwhile)
    books.add(ORDER)
    made.place()
    assert len(made.venue.orders) == is_sent
    assert made.state() is (OrderState.LIVE if is_sent else OrderState.REJECTED)
    assert books.looks == (slept_s > 0), "an order that leaves at once asks nobody"


def test_who_never_sends_in_time_does_not_send_at_all() -> None:
    made = world(Fault.NONE, Fate.RESTS)

    class Slow(Sleepy):
        def is_halted(self, order: Order, now: datetime) -> bool:
            made.clock.advance(1)
            return super().is_halted(order, now)

    made.books = books = Slow(made.clock, 1, TradingState.ACTIVE)
    books.add(ORDER)
    made.place()
    assert made.venue.orders == []
    assert "too slow" in (made.books.orders[ORDER.id].reason or "")


def test_what_was_approved_before_trading_only_reduces_is_refused_where_it_would_grow() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.venue.is_reachable = False
    made.place()
    assert made.state() is OrderState.APPROVED
    made.venue.is_reachable = True
    made.books.trading_state = TradingState.REDUCING
    made.settle(Watch())
    assert made.venue.orders == []
    assert made.state() is OrderState.REFUSED


def test_an_order_that_could_not_be_sent_is_sent_by_the_next_round() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.venue.is_reachable = False
    made.place()
    assert made.state() is OrderState.APPROVED
    made.venue.is_reachable = True
    made.settle(Watch())
    assert made.state() is OrderState.LIVE


def test_a_resting_orders_fills_are_booked_although_a_later_trade_was_booked_first() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.place()
    resting = made.venue.orders[0]
    made.venue.fill(resting, D("0.25"))
    made.venue.fate = Fate.FILLS
    second = dataclasses.replace(ORDER, id="11234567-89ab-cdef-0123-456789abcdef")
    made.books.add(second)
    executor.place(second.id, made.books, made.venue, LIMITS, made.clock)
    assert {key[2] for key in made.books.fills} == {2, 3}
    made.settle(Watch())
    assert made.state() is OrderState.PARTIAL
    assert {key[2] for key in made.books.fills} == {1, 2, 3}


def test_an_order_stays_open_until_every_fill_the_venue_counts_is_booked() -> None:
    made = world(Fault.LOSE_REPLY, Fate.FILLS)
    made.place()
    all_fills = made.venue.fills
    made.venue.fills = lambda *_, **__: []  # type: ignore[method-assign]
    watch = Watch()
    made.settle(watch)
    assert made.state() is OrderState.PARTIAL
    made.venue.fills = all_fills  # type: ignore[method-assign]
    made.clock.advance(settle.RESTING_EVERY_S)
    made.settle(watch)
    assert made.state() is OrderState.FILLED
    made.check_the_end()


def test_a_ledger_that_fails_after_the_send_is_not_taken_for_nothing_sent() -> None:
    made = world(Fault.NONE, Fate.FILLS)
    real_record = made.books.record

    def fail(*_: Any, **__: Any) -> Any:
        raise Unreachable("the ledger is gone")

    made.books.record = fail  # type: ignore[method-assign]
    with pytest.raises(Unreachable, match="the ledger is gone"):
        made.place()
    assert made.state() is OrderState.SENDING
    made.books.record = real_record  # type: ignore[method-assign]
    made.run([])
    made.check_the_end()


def test_an_order_for_another_venue_is_refused() -> None:
    made = World(dataclasses.replace(ORDER, account="somebody-elses"))
    made.place()
    assert made.state() is OrderState.REFUSED


def test_one_unanswerable_order_does_not_keep_the_others_from_being_settled() -> None:
    made = world(Fault.LOSE_REPLY, Fate.RESTS)
    ids = [f"{number:08d}-89ab-cdef-0123-456789abcdef" for number in range(6)]
    limits = dataclasses.replace(LIMITS, position_notional_max=D(10**6), open_notional_max=D(10**6))
    made.venue.faults.extend([Fault.LOSE_REPLY] * 6)
    for each in ids:
        made.books.add(dataclasses.replace(ORDER, id=each))
        executor.place(each, made.books, made.venue, limits, made.clock)
    real_query = made.venue.query
    broken = {each.replace("-", "") for each in ids[:4]}

    def query(order: Order) -> Any:
        if order.client_order_id in broken:
            raise Unreachable("no")
        return real_query(order)

    made.venue.query = query  # type: ignore[method-assign]
    watch = Watch()
    for _ in range(6):
        made.settle(watch)
        made.clock.advance(1)
    assert [made.books.orders[each].state for each in ids[4:]] == [OrderState.LIVE] * 2


def threads_placing(made: World, count: int) -> Iterator[threading.Thread]:
    for _ in range(count):
        yield threading.Thread(target=made.place)


def test_workers_that_race_for_one_order_place_it_once() -> None:
    for _ in range(20):
        made = world(Fault.NONE, Fate.FILLS)
        threads = list(threads_placing(made, 8))
        threads += [threading.Thread(target=made.settle, args=(Watch(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.run([], rounds=10)
        made.check_the_end()
