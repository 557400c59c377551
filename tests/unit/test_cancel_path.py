"""Wishes that orders end: carried until they have, whoever dies and whatever fills meanwhile."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Order, OrderState
from botswarm.exchanges.base import Answer, Unclear
from botswarm.testing.venue import Fate, Fault
from botswarm.trading import executor, settle
from botswarm.trading.resolve import Step, resolve
from botswarm.trading.settle import Watch
from tests.unit.test_order_path import (
    LIMITS,
    ORDER,
    PATIENT,
    Died,
    Life,
    World,
    points_of,
    world,
)

S = OrderState
D = Decimal
ENDED = {S.FILLED, S.CANCELED, S.EXPIRED, S.REFUSED, S.STALE, S.REJECTED}


def wished(made: World) -> World:
    made.place()
    made.books.wish_cancel(ORDER.id)
    return made


def cancel(made: World, watch: Watch | None = None) -> settle.Settled:
    return settle.cancel(ORDER.id, made.books, made.venue, made.clock, watch or Watch())


def rounds(made: World, count: int = 60) -> Watch:
    watch = Watch()
    for _ in range(count):
        if made.state().is_final:
            break
        made.settle(watch)
        made.clock.advance(1)
    return watch


def test_a_resting_order_ends_when_its_end_is_wished_for() -> None:
    made = wished(world(Fault.NONE, Fate.RESTS))
    assert cancel(made).cancels == 1
    assert made.state() is S.CANCELED
    assert made.venue.orders[0].state is S.CANCELED
    assert cancel(made).cancels == 0


def test_nobody_is_asked_for_an_end_that_nobody_wished_for() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.place()
    assert cancel(made).cancels == 0
    rounds(made, 10)
    assert made.state() is S.LIVE


def test_an_order_that_was_not_sent_ends_with_the_wish() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    made.books.wish_cancel(ORDER.id)
    assert made.state() is S.REFUSED
    made.place()
    assert made.venue.orders == []


def test_what_filled_before_its_cancel_came_is_booked() -> None:
    made = wished(world(Fault.NONE, Fate.RESTS))
    made.venue.fill(made.venue.orders[0], D("0.25"))
    cancel(made)
    assert made.state() is S.CANCELED
    assert made.books.orders[ORDER.id].filled_quantity == D("0.25")
    made.check_the_end()


def test_an_order_that_filled_whole_before_its_cancel_came_is_filled() -> None:
    made = wished(world(Fault.NONE, Fate.RESTS))
    made.venue.fill(made.venue.orders[0], made.venue.orders[0].quantity)
    cancel(made)
    assert made.state() is S.FILLED
    made.check_the_end()


def test_a_cancel_that_the_venue_does_not_hear_is_asked_again_by_the_rounds() -> None:
    made = wished(world(Fault.NONE, Fate.RESTS))
    really = made.venue.cancel
    unheard = iter(range(3))

    def deaf(order: Order) -> Answer:
        return really(order) if next(unheard, None) is None else Unclear("the reply was lost")

    made.venue.cancel = deaf  # type: ignore[method-assign]
    rounds(made, 3)
    assert made.state() is S.LIVE
    rounds(made)
    assert made.state() is S.CANCELED


def test_what_is_proven_not_placed_is_not_sent_again_once_its_end_is_wished_for() -> None:
    made = wished(world(Fault.LOSE_REQUEST, Fate.FILLS, PATIENT))
    assert made.state() is S.UNKNOWN
    rounds(made)
    assert made.state() is S.REFUSED
    assert made.venue.orders == []


def test_an_order_that_arrives_after_its_cancel_is_cancelled_by_a_later_round() -> None:
    made = world(Fault.HOLD, Fate.RESTS)
    made.venue.hold_s = 1.5
    wished(made)
    cancel(made)
    assert made.state() is S.UNKNOWN
    rounds(made)
    assert made.state() is S.CANCELED
    assert made.venue.orders[0].state is S.CANCELED


def test_many_are_cancelled_together_only_where_nothing_else_rests() -> None:
    made, asked = world(Fault.NONE, Fate.RESTS), []
    limits = dataclasses.replace(LIMITS, position_notional_max=D(10**6), open_notional_max=D(10**6))
    ids = [f"{number:08d}-89ab-cdef-0123-456789abcdef" for number in range(12)]
    for each in ids:
        made.books.add(dataclasses.replace(ORDER, id=each))
        executor.place(each, made.books, made.venue, limits, made.clock)
    really = made.venue.cancel_all

    def note(symbol: str) -> None:
        asked.append(symbol)
        really(symbol)

    made.venue.cancel_all = note  # type: ignore[method-assign]
    for each in ids[1:]:
        made.books.wish_cancel(each)
    made.settle(Watch())
    assert asked == []
    states = [made.books.orders[each].state for each in ids]
    assert states == [S.LIVE] + [S.CANCELED] * 11
    # And now all of those that are there.
    more = [f"{number:08d}-99ab-cdef-0123-456789abcdef" for number in range(12)]
    for each in more:
        made.books.add(dataclasses.replace(ORDER, id=each))
        executor.place(each, made.books, made.venue, limits, made.clock)
    for each in (ids[0], *more):
        made.books.wish_cancel(each)
    watch = Watch()
    made.settle(watch)
    assert asked == ["BTC-USDT"]
    assert all(each.state.is_final for each in made.venue.orders)
    made.clock.advance(settle.TOLD_WITHIN_S)
    made.settle(watch)
    assert {made.books.orders[each].state for each in (ids[0], *more)} == {S.CANCELED}


# --- in place of another --------------------------------------------------------------------------

NEW = dataclasses.replace(
    ORDER,
    id="11234567-89ab-cdef-0123-456789abcdef",
    replaces=ORDER.id,
    limit_price=D(90),
    quantity=D(1),
)


def replaced(made: World) -> World:
    made.place()
    made.books.wish_cancel(ORDER.id)
    made.books.add(NEW)
    return made


def place_new(made: World) -> None:
    executor.place(NEW.id, made.books, made.venue, LIMITS, made.clock)


def test_a_replacement_is_not_judged_before_the_end_of_what_it_replaces() -> None:
    made = replaced(world(Fault.NONE, Fate.RESTS))
    place_new(made)
    assert made.books.orders[NEW.id].state is S.READY
    done = cancel(made)
    assert done.freed == [NEW.id]
    place_new(made)
    assert made.books.orders[NEW.id].state is S.LIVE
    assert [each.quantity for each in made.venue.orders] == [D(1), D(1)]


def test_what_the_other_filled_is_taken_off() -> None:
    made = replaced(world(Fault.NONE, Fate.RESTS))
    made.venue.fill(made.venue.orders[0], D("0.25"))
    cancel(made)
    place_new(made)
    assert made.venue.orders[1].quantity == D("0.75")


def test_nothing_replaces_what_was_filled_whole() -> None:
    made = replaced(world(Fault.NONE, Fate.RESTS))
    made.venue.fill(made.venue.orders[0], D(1))
    cancel(made)
    place_new(made)
    assert made.books.orders[NEW.id].state is S.REFUSED
    assert "filled first" in (made.books.orders[NEW.id].reason or "")


def test_a_replacement_waits_no_longer_than_its_signal_is_fresh() -> None:
    made = replaced(world(Fault.NONE, Fate.RESTS))
    made.clock.advance(11)
    place_new(made)
    assert made.books.orders[NEW.id].state is S.STALE


# --- whoever dies ---------------------------------------------------------------------------------


class Ending(World):
    """A life that places an order, wants its end, and sees it through."""

    fills_at: int | None = None

    def _live(self, rounds: int) -> None:
        watch = Watch()
        self.place()
        self.books.wish_cancel(self.order.id)
        for number in range(rounds):
            if self.state().is_final:
                return
            for there in self.venue.orders if number == self.fills_at else ():
                if not there.state.is_final:
                    self.venue.fill(there, there.quantity / 4)
            settle.cancel(self.order.id, self.books, self.venue, self.clock, watch)
            self.settle(watch)
            self.clock.advance(1)


def ending(fault: Fault, fate: Fate, fills_at: int | None = None) -> Ending:
    made = Ending(PATIENT)
    made.venue.faults.append(fault)
    made.venue.fate = fate
    made.fills_at = fills_at
    return made


SCENARIOS = [
    (Fault.NONE, Fate.RESTS),
    (Fault.NONE, Fate.FILLS_HALF),
    (Fault.LOSE_REPLY, Fate.RESTS),
    (Fault.LOSE_REPLY, Fate.FILLS_HALF),
    (Fault.LOSE_REQUEST, Fate.RESTS),
    (Fault.HOLD, Fate.RESTS),
]


@pytest.mark.parametrize(("fault", "fate"), SCENARIOS, ids=lambda each: each.name.lower())
def test_dying_on_any_line_of_a_cancel_leaves_nothing_resting(fault: Fault, fate: Fate) -> None:
    for dies_at in points_of(ending(fault, fate).run([])):
        made = ending(fault, fate)
        made.run([dies_at])
        assert made.state() in ENDED
        assert all(each.state.is_final for each in made.venue.orders)
        made.check_the_end()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SCENARIOS),
    st.lists(st.integers(1, 250), max_size=4),
    st.one_of(st.none(), st.integers(0, 20)),
)
def test_a_cancel_racing_a_fill_leaves_the_fill_booked(
    scenario: tuple[Fault, Fate], deaths: list[int | None], fills_at: int | None
) -> None:
    made = ending(*scenario, fills_at=fills_at)
    made.run(deaths)
    made.check_the_end()
    assert made.state() in ENDED
    assert all(each.state.is_final for each in made.venue.orders)


def test_a_life_that_dies_is_a_life_that_died() -> None:
    """Else the tests above would show nothing."""
    with pytest.raises(Died), Life(3):
        wished(world(Fault.NONE, Fate.RESTS))


# --- the resolver's own words ---------------------------------------------------------------------


def resolved(made: World, wait_s: float = 60) -> list[str]:
    steps: list[Step] = []
    resolve(
        *(ORDER.id, made.books, made.venue, made.clock, steps.append),
        wait_s=wait_s,
        pause=lambda seconds: made.clock.advance(seconds),
    )
    return [f"{step.question}: {step.answer}" for step in steps]


def test_a_proof_of_absence_is_told_question_by_question() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.RESTS, PATIENT)
    made.place()
    told = resolved(made)
    assert any(words.startswith("waiting: the venue itself refuses") for words in told)
    assert sum("it is none of them" in words for words in told) in range(2, 5)
    assert sum(words.startswith("the fills of BTC-USDT") for words in told) in range(2, 5)
    first_look = next(n for n, words in enumerate(told) if "none of them" in words)
    assert any("not found" in words for words in told[first_look:])
    # Proven, and left to a worker: nothing is sent by whoever looks.
    assert made.state() is S.APPROVED
    assert made.venue.orders == []


def test_who_asks_about_an_order_that_is_there_is_told_so_once() -> None:
    made = world(Fault.LOSE_REPLY, Fate.RESTS)
    made.place()
    told = [words for words in resolved(made) if not words.startswith("its clock")]
    assert told == [f"the order {ORDER.client_order_id}: live, 0 filled"]
    assert made.state() is S.LIVE


def test_a_venue_that_does_not_answer_is_told_and_proves_nothing() -> None:
    made = world(Fault.LOSE_REQUEST, Fate.RESTS)
    made.place()
    made.venue.is_reachable = False
    told = resolved(made, wait_s=5)
    assert all("no answer" in words or words.startswith("waiting") for words in told)
    assert made.state() is S.UNKNOWN


# --- thousands that rest --------------------------------------------------------------------------


def test_a_round_over_thousands_of_resting_orders_asks_a_few_questions() -> None:
    made = world(Fault.NONE, Fate.RESTS)
    limits = dataclasses.replace(
        LIMITS,
        open_orders_max=10**6,
        orders_per_minute_max=10**6,
        position_notional_max=D(10**9),
        open_notional_max=D(10**9),
    )
    ids = [f"{number:08d}-89ab-cdef-0123-456789abcdef" for number in range(300)]
    for each in ids:
        made.books.add(dataclasses.replace(ORDER, id=each))
        executor.place(each, made.books, made.venue, limits, made.clock)
    asked: list[str] = []
    for name in ("query", "open_orders", "fills"):
        really = getattr(made.venue, name)

        def ask(*given: Any, _name: str = name, _really: Any = really, **more: Any) -> Any:
            asked.append(_name)
            return _really(*given, **more)

        setattr(made.venue, name, ask)
    watch = Watch()
    made.settle(watch)
    assert asked == ["open_orders"]
    # What changed and is still there needs no question of its own but for its fills.
    made.venue.fill(made.venue.orders[0], D("0.25"))
    made.clock.advance(settle.RESTING_EVERY_S)
    asked.clear()
    made.settle(watch)
    assert "query" not in asked
    assert made.books.orders[ids[0]].state is S.PARTIAL
