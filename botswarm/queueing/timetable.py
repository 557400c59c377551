"""Which slot of an entry is due, and which were passed over: pure, for clocks to be played with.

An entry that comes every so many seconds counts its slots on a clock that nobody sets, so a jump
of the clock on the wall neither doubles nor starves it. An entry of moments names its slots by
the moment, and remembers which it has sent: a clock that is set back meets them again, and they
are not sent again.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from botswarm.schedule import Entry

MOMENTS_KEPT = 64
LEDGER_LATE_S = 60.0
ROUNDING = 1e-9
SPREAD_S = 5.0
"""Within so long the first slots of all entries come, one after the other, and so on for ever."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment."""

    wall: float
    """Seconds since 1970; it may jump."""
    steady: float
    """Seconds since the machine started; it never does."""
    boot: str
    """Which start of the machine ``steady`` counts from."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Where an entry of seconds is: its last slot, sent or given up, and when that was due."""

    slot: int
    wall: float
    steady: float
    boot: str

    def here(self, now: Reading) -> Counted:
        """On the clock of ``now``, which may be another machine's: then only the wall can tell how
        long ago it was, and a wall that says it is still to come is not believed.
        """
        if self.boot == now.boot:
            return self
        since = max(0.0, now.wall - self.wall)
        return Counted(self.slot, now.wall - since, now.steady - since, now.boot)


@dataclass(frozen=True, slots=True)
class Moments:
    """Where an entry of moments is: those it sent, the latest last, and how far it has looked."""

    sent: tuple[int, ...]
    seen: int
    since: int
    """All up to here lie before the first look, and are nobody's duty."""


Place = Counted | Moments


@dataclass(frozen=True, slots=True)
class Gap:
    """Slots that were passed over."""

    first_slot: int
    last_slot: int
    slots: int
    from_wall: float
    to_wall: float


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at the clock found out about an entry."""

    place: Place
    """With all that was passed over counted."""
    due: int | None = None
    """The slot to send now."""
    due_wall: float = 0.0
    """When it was, or is next, due."""
    gaps: tuple[Gap, ...] = ()
    withdrawn_from: int | None = None
    """The clock went back: what was given up from this slot on is still to come."""


def look(entry: Entry, place: Place | None, now: Reading, known: Sequence[int] = ()) -> Look:
    """``known`` are slots the ledger remembers, for where the broker remembers nothing."""
    if entry.at_s is None:
        return _look_at_seconds(entry, place, now, known)
    return _look_at_moments(entry, place, now, known)


def sent(entry: Entry, found: Look, now: Reading) -> Place:
    """The place once the slot that was due has been sent, or was given up for good."""
    assert found.due is not None
    if isinstance(found.place, Moments):
        # The oldest stay out of reach below: what is older than all that are known is not sent.
        known = sorted({*found.place.sent, found.due})[-MOMENTS_KEPT:]
        return replace(found.place, sent=tuple(known), seen=max(found.place.seen, found.due))
    due_steady = now.steady - (now.wall - found.due_wall)
    return Counted(found.due, found.due_wall, due_steady, now.boot)


def next_wall(entry: Entry, place: Place, now: Reading) -> float:
    """When the next slot is due, should the clock go on as it does."""
    if isinstance(place, Counted):
        return now.wall + place.here(now).steady + entry.every_s - now.steady
    coming = _moment(entry, now.wall) + int(entry.every_s)
    while coming in place.sent:  # the clock was set back
        coming += int(entry.every_s)
    return coming


# --- seconds --------------------------------------------------------------------------------------


def _look_at_seconds(entry: Entry, place: Place | None, now: Reading, known: Sequence[int]) -> Look:
    if not isinstance(place, Counted):
        place = _first_count(entry, now, known)
    place = place.here(now)
    since = now.steady - place.steady
    passed = math.floor(since / entry.every_s + ROUNDING)
    if passed < 1:
        return Look(place, due_wall=now.wall + entry.every_s - since)
    due_wall = now.wall - (since - passed * entry.every_s)
    if passed == 1:
        return Look(place, due=place.slot + 1, due_wall=due_wall)
    slots = passed - 1
    last = due_wall - entry.every_s
    first = last - (slots - 1) * entry.every_s
    gap = Gap(place.slot + 1, place.slot + slots, slots, first, last)
    there = Counted(place.slot + slots, last, now.steady - (now.wall - last), now.boot)
    return Look(there, due=place.slot + slots + 1, due_wall=due_wall, gaps=(gap,))


def _first_count(entry: Entry, now: Reading, known: Sequence[int]) -> Counted:
    """So that the first slot is due soon, but not those of all entries at the same moment.

    Its number is that of the periods since 1970, so that a broker that lost all it knew goes on
    with higher ones; and higher than those the ledger knows, which is told a little late.
    """
    late = math.ceil(LEDGER_LATE_S / entry.every_s)
    slot = max([int(now.wall // entry.every_s), *(each + late for each in known)])
    share = zlib.crc32(entry.name.encode()) / 2**32
    since = entry.every_s - min(entry.every_s, SPREAD_S) * share
    return Counted(slot, now.wall - since, now.steady - since, now.boot)


# --- moments --------------------------------------------------------------------------------------


def _moment(entry: Entry, wall: float) -> int:
    """The last one that has been."""
    at = entry.at_s or 0.0
    return int(math.floor((wall - at) / entry.every_s) * entry.every_s + at)


def _look_at_moments(entry: Entry, place: Place | None, now: Reading, known: Sequence[int]) -> Look:
    moment = _moment(entry, now.wall)
    if not isinstance(place, Moments):
        # What lies before the first look is nobody's duty, unless the ledger knows of earlier ones.
        kept = sorted(known)[-MOMENTS_KEPT:]
        seen = min(kept[-1], moment) if kept else moment
        place = Moments(tuple(kept), seen, seen)
    withdrawn = None
    if (back := max(moment, place.since)) < place.seen:
        withdrawn = back + 1
        place = replace(place, seen=back)
    gaps, place = _passed_over(entry, place, moment, now)
    if moment > place.seen and not _was_sent(place, moment):
        return Look(place, moment, moment, gaps, withdrawn)
    return Look(place, None, moment + entry.every_s, gaps, withdrawn)


def _was_sent(place: Moments, moment: int) -> bool:
    if len(place.sent) == MOMENTS_KEPT and moment < place.sent[0]:
        return True  # so long ago that it is no longer known: never twice
    return moment in place.sent


def _passed_over(
    entry: Entry, place: Moments, moment: int, now: Reading
) -> tuple[tuple[Gap, ...], Moments]:
    """All before ``moment``, and ``moment`` itself where it is too late for it."""
    every = int(entry.every_s)
    last = moment if now.wall - moment > entry.worth_s else moment - every
    first = _moment(entry, place.seen) + every
    if last < first:
        return (), place
    # One by one, because a clock that goes back may withdraw some of them; not too many.
    near = max(first, last - (MOMENTS_KEPT - 1) * every)
    gaps = _stretches(place, first, near, every)
    gaps += [
        Gap(slot, slot, 1, slot, slot)
        for slot in range(near, last + 1, every)
        if not _was_sent(place, slot)
    ]
    return tuple(gaps), replace(place, seen=last)


def _stretches(place: Moments, first: int, end: int, every: int) -> list[Gap]:
    """What was not sent from ``first`` to before ``end``: at most one more than was sent."""
    gaps = []
    for sent in (*(each for each in place.sent if first <= each < end), end):
        if sent > first:
            last = sent - every
            gaps.append(Gap(first, last, (last - first) // every + 1, first, last))
        first = sent + every
    return gaps


# --- as the broker keeps them ---------------------------------------------------------------------


def to_kept(place: Place) -> list[Any]:
    if isinstance(place, Counted):
        return [place.slot, place.wall, place.steady, place.boot]
    return [place.seen, place.since, list(place.sent)]


def from_kept(kept: Any) -> Place | None:
    """None for what another version kept."""
    try:
        if len(kept) == 4:
            slot, wall, steady, boot = kept
            return Counted(int(slot), float(wall), float(steady), str(boot))
        seen, since, moments = kept
        return Moments(tuple(int(moment) for moment in moments), int(seen), int(since))
    except (TypeError, ValueError):
        return None


def places(kept: Mapping[str, Any]) -> dict[str, Place]:
    found = {name: from_kept(each) for name, each in kept.items()}
    return {name: place for name, place in found.items() if place is not None}
