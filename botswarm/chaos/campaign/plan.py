"""Which fault strikes when: a schedule that follows from the seed and fits the time there is."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botswarm.chaos.campaign.stage import Stage

LANES = 2
"""So many faults at once, where they do not touch the same thing."""
WARM_UP_S = 4.0
REST_S = 1.0
"""Between two faults of one thing, so that it works now and then."""
ROUNDS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    code: str
    """Its number in the list of faults."""
    words: str
    strike: Callable[[Stage, random.Random], str]
    """Do it and undo it; answers what exactly was done. Raises where it could not be done."""
    about_s: float
    holds: tuple[str, ...]
    """What no other fault may touch meanwhile."""
    lasts: Callable[[random.Random], float] | None = None
    """Where that differs much from strike to strike: from the dice that it will be given."""
    needs: str = ""
    """What the machine must let us do for it: ``mount``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    fault: Fault
    round: int
    at_s: float
    lasts_s: float

    def dice(self, seed: int) -> random.Random:
        return _dice(seed, self.fault, self.round)


def plan(
    faults: Sequence[Fault], *, rounds: int, seconds: float, seed: int, lanes: int = LANES
) -> list[Strike]:
    """In the order of their times; spread over ``seconds`` where they need less."""
    tight = _tight(faults, rounds, seed, lanes)
    last = max((each.at_s + each.lasts_s for each in tight), default=0.0)
    stretch = max(1.0, (seconds - WARM_UP_S) / last) if last else 1.0
    return [replace(each, at_s=round(WARM_UP_S + each.at_s * stretch, 1)) for each in tight]


def rounds_within(faults: Sequence[Fault], seconds: float, seed: int, lanes: int = LANES) -> int:
    """How often each can strike in that time; at least once."""
    many = 1
    while many < ROUNDS_MAX:
        tight = _tight(faults, many + 1, seed, lanes)
        if max(each.at_s + each.lasts_s for each in tight) > seconds - WARM_UP_S:
            break
        many += 1
    return many


def _tight(faults: Sequence[Fault], rounds: int, seed: int, lanes: int) -> list[Strike]:
    """Each as soon as a lane and all that it touches are free."""
    waiting = [(fault, number) for number in range(rounds) for fault in faults]
    # Each round is shuffled by itself: a run that is cut short has met every fault as often.
    dice = random.Random(f"{seed}/plan")  # noqa: S311 - a seed is the point of it
    shuffled = []
    for start in range(0, len(waiting), max(1, len(faults))):
        block = waiting[start : start + len(faults)]
        dice.shuffle(block)
        shuffled += block
    free: dict[str, float] = {}
    ends = [0.0] * lanes
    found = []
    for fault, number in shuffled:
        lasts_s = fault.about_s
        if fault.lasts is not None:
            lasts_s = fault.lasts(_dice(seed, fault, number))
        at = max([min(ends), *(free.get(name, 0.0) for name in fault.holds)])
        ends[ends.index(min(ends))] = at + lasts_s
        for name in fault.holds:
            free[name] = at + lasts_s + REST_S
        found.append(Strike(fault=fault, round=number, at_s=at, lasts_s=lasts_s))
    return sorted(found, key=lambda each: each.at_s)


def _dice(seed: int, fault: Fault, number: int) -> random.Random:
    return random.Random(f"{seed}/{fault.code}/{number}")  # noqa: S311 - replayable


def counted(strikes: Sequence[Strike]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for strike in strikes:
        counts[strike.fault.code] = counts.get(strike.fault.code, 0) + 1
    return counts
