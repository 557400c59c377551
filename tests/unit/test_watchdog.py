"""Cancel on disconnect, with a clock that is told what time it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from botswarm.clock import StoppedClock, SystemClock
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import OrderState, Side
from botswarm.errors import Malformed, Unreachable
from botswarm.testing.venue import Accepting, FakeVenue
from botswarm.trading.watchdog import Charge, Watchdog, watch

LIMIT_S = 30.0
MARKET = Instrument(
    venue="simulated",
    symbol="BTC-USDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.0001"),
    quantity_min=Decimal("0.0001"),
    quantity_max=Decimal(100),
    notional_min=Decimal(5),
)


class Scene:
    def __init__(self) -> None:
        self.clock = StoppedClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.venue = FakeVenue(self.clock, [MARKET])
        self.order = Accepting(
            venue_order_id="1",
            client_order_id="a",
            symbol="BTC-USDT",
            side=Side.BUY,
            quantity=Decimal(1),
            price=Decimal(100),
            at=self.clock.now(),
        )
        self.venue.orders.append(self.order)
        self.dog = Watchdog(LIMIT_S, self.clock)
        self.charge = Charge(self.venue, frozenset({"BTC-USDT", "ETH-USDT"}))
        self.well()

    def well(self, has_open: bool = True) -> None:
        charge = Charge(self.venue, self.charge.markets, has_open)
        self.dog.well([charge], self.clock.monotonic())
        self.dog.look()

    def pass_s(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.dog.look()

    @property
    def is_cancelled(self) -> bool:
        return self.order.state is OrderState.CANCELED


@pytest.fixture
def scene() -> Scene:
    return Scene()


def without_switch(scene: Scene) -> None:
    rules = type(scene.venue.rules)(
        kinds=scene.venue.rules.kinds, times_in_force=scene.venue.rules.times_in_force
    )
    scene.venue.rules = rules


def test_everything_open_is_cancelled_when_the_time_has_run_out_and_not_before(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    without_switch(scene)
    scene.pass_s(LIMIT_S - 1)
    assert not scene.is_cancelled
    scene.pass_s(2)
    assert scene.is_cancelled
    loud = [each.getMessage() for each in caplog.records if each.levelno == logging.CRITICAL]
    assert len(loud) == 3, loud  # once that it begins, and once for each market


def test_it_is_said_once_and_done_once_until_all_is_well_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    without_switch(scene)
    scene.pass_s(2 * LIMIT_S)
    said = len(caplog.records)
    scene.order.state = OrderState.LIVE
    scene.pass_s(LIMIT_S)
    assert (len(caplog.records), scene.is_cancelled) == (said, False)
    scene.well()
    assert "are back" in caplog.records[-1].getMessage()
    scene.pass_s(LIMIT_S)
    assert scene.is_cancelled


def test_a_venue_that_does_not_answer_is_told_again(scene: Scene) -> None:
    without_switch(scene)
    scene.venue.is_reachable = False
    scene.pass_s(LIMIT_S + 5)
    assert not scene.is_cancelled
    scene.venue.is_reachable = True
    scene.pass_s(1)
    assert scene.is_cancelled


def test_a_defect_at_one_venue_leaves_nothing_open_at_the_others(scene: Scene) -> None:
    broken = FakeVenue(scene.clock, [MARKET])
    broken.account = "broken"
    broken.cancel_all = None  # type: ignore[assignment]
    charges = [Charge(broken, frozenset({"BTC-USDT"})), scene.charge]
    scene.dog.well(charges, scene.clock.monotonic())
    scene.pass_s(LIMIT_S)
    assert scene.is_cancelled


def test_a_switch_that_cannot_be_held_at_one_venue_is_held_at_the_others(scene: Scene) -> None:
    def malformed(timeout_s: float) -> None:
        raise Malformed("no word of it makes sense")

    strange = FakeVenue(scene.clock, [MARKET])
    strange.account = "strange"
    strange.hold_dead_man = malformed  # type: ignore[method-assign]
    charges = [Charge(strange, frozenset({"BTC-USDT"})), scene.charge]
    scene.pass_s(LIMIT_S / 3)
    held = scene.venue.dead_man_at
    scene.dog.well(charges, scene.clock.monotonic())
    scene.pass_s(LIMIT_S / 3)
    assert scene.venue.dead_man_at != held


def test_the_venues_own_switch_is_held_while_all_is_well_and_something_is_open(
    scene: Scene,
) -> None:
    first = scene.venue.dead_man_at
    assert first is not None
    assert (first - scene.clock.now()).total_seconds() == LIMIT_S
    for _ in range(11):
        scene.pass_s(1)
        scene.well()
    assert scene.venue.dead_man_at is not None
    assert scene.venue.dead_man_at > first
    scene.well(has_open=False)
    assert scene.venue.dead_man_at is None


def test_the_venues_switch_strikes_by_itself_when_we_are_gone(scene: Scene) -> None:
    scene.clock.advance(LIMIT_S)
    scene.venue.open_orders()
    assert scene.is_cancelled


def test_the_switch_is_not_held_by_one_who_knows_nothing_of_his_own_orders(scene: Scene) -> None:
    scene.pass_s(LIMIT_S / 2)
    held = scene.venue.dead_man_at
    scene.pass_s(LIMIT_S / 2 - 1)
    assert scene.venue.dead_man_at == held


def test_a_probe_that_hangs_stops_no_cancelling() -> None:
    venue = FakeVenue(SystemClock(), [MARKET])
    without = type(venue.rules)(kinds=venue.rules.kinds, times_in_force=venue.rules.times_in_force)
    venue.rules = without
    told, stop, asked = threading.Event(), threading.Event(), list[int]()
    venue.cancel_all = lambda symbol: told.set()  # type: ignore[method-assign]

    def probe() -> Sequence[Charge]:
        asked.append(1)
        if len(asked) == 1:
            return [Charge(venue, frozenset({"BTC-USDT"}))]
        stop.wait(60)
        raise Unreachable("gone")

    dog = Watchdog(0.5, SystemClock())
    thread = threading.Thread(target=watch, args=(dog, probe, stop), kwargs={"every_s": 0.1})
    thread.start()
    try:
        assert told.wait(30)
    finally:
        stop.set()
        thread.join()
