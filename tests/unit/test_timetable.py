"""Each slot of an entry comes once, or is counted as passed over, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.messages import Probe
from botswarm.queueing import timetable
from botswarm.queueing.timetable import Counted, Moments, Place, Reading
from botswarm.schedule import DAY_S, HOUR_S, SCHEDULE, Entry

SECONDS = Entry("often", Probe(), every_s=5)
NIGHTLY = Entry("nightly", Probe(), every_s=DAY_S, at_s=2 * HOUR_S, late_s=6 * HOUR_S)
HOURLY = Entry("hourly", Probe(), every_s=HOUR_S, at_s=600, late_s=1800)
MIDNIGHT = 1_790_000_000 // 86_400 * 86_400.0
START = Reading(MIDNIGHT + 12 * HOUR_S, 1000.0, "first")


@dataclass(slots=True)
class Beat:
    """A beat that keeps its place as the broker would, and everything it did."""

    entry: Entry
    now: Reading = START
    place: Place | None = None
    sent: list[int] = field(default_factory=list)
    missed: set[int] = field(default_factory=set)
    is_held: bool = False

    def pass_time(self, seconds: float) -> None:
        self.now = replace(self.now, wall=self.now.wall + seconds, steady=self.now.steady + seconds)

    def jump(self, seconds: float) -> None:
        self.now = replace(self.now, wall=self.now.wall + seconds)

    def restart_machine(self, seconds: float) -> None:
        self.now = Reading(self.now.wall + seconds, 5.0, self.now.boot + "'")

    def lose_place(self) -> None:
        """The last look was never sent, so the next leader does not know of it."""
        assert self.place is not None
        self.place = timetable.from_kept(timetable.to_kept(self.place))

    def tick(self) -> None:
        found = timetable.look(self.entry, self.place, self.now)
        self.place = found.place
        if found.withdrawn_from is not None:
            self.missed = {slot for slot in self.missed if slot < found.withdrawn_from}
        for gap in found.gaps:
            step = 1 if self.entry.at_s is None else int(self.entry.every_s)
            slots = set(range(gap.first_slot, gap.last_slot + 1, step))
            assert len(slots) == gap.slots
            assert not slots & self.missed
            self.missed |= slots
        if found.due is not None and not self.is_held:
            self.sent.append(found.due)
            self.place = timetable.sent(self.entry, found, self.now)

    def run(self, seconds: float, step: float) -> Beat:
        for _ in range(round(seconds / step)):
            self.tick()
            self.pass_time(step)
        return self


def night(days: int) -> int:
    return int(MIDNIGHT + days * DAY_S + 2 * HOUR_S)


# --- seconds --------------------------------------------------------------------------------------


def test_an_entry_of_seconds_comes_soon_and_then_each_period() -> None:
    beat = Beat(SECONDS).run(5.25, 0.25)
    assert len(beat.sent) == 1
    beat.run(55, 0.25)
    assert beat.sent == list(range(beat.sent[0], beat.sent[0] + 12))
    assert beat.missed == set()


def test_entries_of_one_period_do_not_all_come_at_the_same_moment() -> None:
    entries = [replace(SECONDS, name=f"entry-{number}") for number in range(20)]
    first = {round(timetable.look(entry, None, START).due_wall - START.wall) for entry in entries}
    assert first <= set(range(6))
    assert len(first) > 3


@pytest.mark.parametrize("jump", [3600.0, -3600.0, DAY_S, -DAY_S])
def test_a_jump_of_the_clock_neither_doubles_nor_starves_an_entry_of_seconds(jump: float) -> None:
    beat = Beat(SECONDS).run(60, 0.25)
    beat.jump(jump)
    beat.run(60, 0.25)
    assert beat.sent == list(range(beat.sent[0], beat.sent[0] + 24)), len(beat.sent)
    assert beat.missed == set()


def test_after_an_outage_one_slot_comes_and_the_others_are_missed() -> None:
    beat = Beat(SECONDS).run(15, 0.25)
    last, count = beat.sent[-1], len(beat.sent)
    beat.pass_time(100)
    beat.tick()
    assert len(beat.sent) == count + 1
    assert beat.missed == set(range(last + 1, beat.sent[-1]))
    assert 19 <= len(beat.missed) <= 20


def test_a_held_slot_comes_as_soon_as_it_may_within_its_period() -> None:
    beat = Beat(SECONDS)
    while timetable.look(SECONDS, beat.place, beat.now).due is None:
        beat.run(0.25, 0.25)
    beat.is_held = True
    beat.run(4, 0.25)
    beat.is_held = False
    beat.tick()
    assert len(beat.sent) == 1
    assert beat.missed == set()


def test_another_machine_goes_on_by_the_wall_and_never_backwards() -> None:
    beat = Beat(SECONDS).run(60, 0.25)
    last = beat.sent[-1]
    beat.restart_machine(-2 * DAY_S)
    beat.run(5.5, 0.25)
    assert beat.sent[-1] == last + 1
    beat.restart_machine(52.5)
    beat.tick()
    assert beat.sent[-1] > last + 10
    assert set(range(beat.sent[0], beat.sent[-1] + 1)) == set(beat.sent) | beat.missed


def test_a_broker_that_forgot_all_goes_on_above_what_the_ledger_knows() -> None:
    ahead = int(START.wall // SECONDS.every_s) + 17_000
    place = timetable.look(SECONDS, None, START, [ahead - 3, ahead]).place
    assert isinstance(place, Counted)
    assert place.slot > ahead


# --- moments --------------------------------------------------------------------------------------


def test_an_entry_of_moments_waits_for_its_first_one() -> None:
    beat = Beat(NIGHTLY).run(13 * HOUR_S, 600)
    assert beat.sent == []
    beat.run(2 * HOUR_S, 600)
    assert beat.sent == [night(1)]


def test_a_moment_is_made_up_for_while_it_is_worth_it() -> None:
    beat = Beat(NIGHTLY).run(HOUR_S, 600)
    beat.pass_time(18 * HOUR_S)
    beat.tick()
    assert (beat.sent, beat.missed) == ([night(1)], set())


def test_a_moment_that_is_too_long_ago_is_missed() -> None:
    beat = Beat(NIGHTLY).run(HOUR_S, 600)
    beat.pass_time(23 * HOUR_S)
    beat.tick()
    assert (beat.sent, beat.missed) == ([], {night(1)})


def test_after_days_away_only_the_last_moment_comes() -> None:
    beat = Beat(NIGHTLY).run(HOUR_S, 600)
    beat.pass_time(3 * DAY_S + 14 * HOUR_S)
    beat.tick()
    assert beat.sent == [night(4)]
    assert beat.missed == {night(1), night(2), night(3)}


def test_a_clock_set_back_meets_its_moments_again_and_sends_none_twice() -> None:
    beat = Beat(HOURLY).run(10 * HOUR_S, 300)
    assert len(beat.sent) == 10
    beat.jump(-6 * HOUR_S)
    beat.run(10 * HOUR_S, 300)
    assert len(beat.sent) == len(set(beat.sent)) == 14
    assert beat.missed == set()


def test_a_clock_that_jumps_ahead_and_back_misses_nothing_in_the_end() -> None:
    beat = Beat(NIGHTLY).run(HOUR_S, 600)
    beat.jump(DAY_S)
    beat.tick()
    assert (beat.sent, beat.missed) == ([], {night(1)})
    beat.jump(-DAY_S)
    beat.tick()
    assert beat.missed == set()
    beat.run(DAY_S, 600)
    assert (beat.sent, beat.missed) == ([night(1)], set())


def test_what_lies_before_the_first_look_is_nobodys_duty() -> None:
    beat = Beat(HOURLY).run(1800, 300)
    beat.jump(-DAY_S)
    beat.run(1800, 300)
    beat.jump(DAY_S)
    beat.run(1800, 300)
    assert beat.missed == set()
    assert len(beat.sent) == 2


def test_what_is_too_old_to_be_known_is_not_sent_again() -> None:
    kept = timetable.MOMENTS_KEPT
    beat = Beat(HOURLY).run((kept + 10) * HOUR_S, 600)
    count = len(beat.sent)
    beat.jump(-(kept + 5) * HOUR_S)
    beat.run((kept + 5) * HOUR_S, 600)
    assert len(beat.sent) == count


def test_what_was_sent_ahead_is_not_missed_when_many_moments_pass() -> None:
    beat = Beat(HOURLY).run(1800, 300)
    for ahead in (HOUR_S, 5 * HOUR_S):
        beat.jump(ahead)
        beat.tick()
        beat.jump(-ahead)
        beat.tick()
    sent = set(beat.sent)
    assert len(sent) == 3
    beat.pass_time(100 * HOUR_S)
    beat.tick()
    assert not beat.missed & set(beat.sent)
    assert len(beat.missed) + len(beat.sent) == 101


def test_years_of_absence_are_a_few_stretches_and_not_a_million_slots() -> None:
    place = timetable.look(HOURLY, None, Reading(0.0, 1.0, "first")).place
    found = timetable.look(HOURLY, place, START)
    assert len(found.gaps) <= timetable.MOMENTS_KEPT + 1
    assert sum(gap.slots for gap in found.gaps) == (START.wall - 600) // HOUR_S + 1 - 1 * (
        found.due is not None
    )


# --- any history ----------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.1, 400)),
    st.tuples(st.just("away"), st.floats(1, 500_000)),
    st.tuples(st.just("jump"), st.sampled_from([3600.0, -3600.0, DAY_S, -DAY_S, 40.0, -40.0])),
    st.tuples(st.just("reboot"), st.floats(-90_000, 90_000)),
    st.tuples(st.just("hold"), st.floats(0, 1)),
    st.tuples(st.just("leader"), st.floats(0, 1)),
)


@pytest.mark.parametrize("entry", [SECONDS, NIGHTLY, HOURLY], ids=lambda each: each.name)
@settings(deadline=None, max_examples=60)
@given(events=st.lists(EVENTS, max_size=40))
def test_in_any_history_a_slot_is_sent_once_or_missed_and_never_both(
    entry: Entry, events: list[tuple[str, float]]
) -> None:
    beat = Beat(entry)
    for kind, amount in events:
        if kind == "pass":
            beat.run(amount, max(0.25, amount / 40))
        elif kind == "away":
            beat.pass_time(amount)
        elif kind == "jump":
            beat.jump(amount)
        elif kind == "reboot":
            beat.restart_machine(amount)
        elif kind == "hold":
            beat.is_held = not beat.is_held
        elif beat.place is not None:
            beat.lose_place()
        beat.tick()
    assert len(beat.sent) == len(set(beat.sent))
    assert not beat.missed & set(beat.sent)
    if entry.at_s is None and beat.sent:
        first, last = min({*beat.sent, *beat.missed}), max({*beat.sent, *beat.missed})
        assert set(range(first, last + 1)) == set(beat.sent) | beat.missed
        count, beat.is_held = len(beat.sent), False
        assert len(beat.run(3 * entry.every_s, 0.5).sent) >= count + 2


@pytest.mark.parametrize(
    "place", [Counted(7, 1.5, 2.25, "boot"), Moments((3, 5), 5, 1), Moments((), 9, 9)]
)
def test_a_place_is_read_back_as_it_was_kept(place: Place) -> None:
    assert timetable.from_kept(timetable.to_kept(place)) == place


@pytest.mark.parametrize("kept", [None, 7, [], ["a", "b", "c"], [1, 2, 3], {"slot": 1}])
def test_what_another_version_kept_is_no_place(kept: object) -> None:
    assert timetable.from_kept(kept) is None


@pytest.mark.parametrize("entry", SCHEDULE, ids=lambda entry: entry.name)
def test_the_next_slot_lies_ahead_and_within_a_period(entry: Entry) -> None:
    place = timetable.look(entry, None, START).place
    coming = timetable.next_wall(entry, place, START)
    assert START.wall <= coming <= START.wall + entry.every_s
