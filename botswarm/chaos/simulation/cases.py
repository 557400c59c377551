"""Every point at which a process can die, every answer it can hear, every venue: one by one."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from botswarm.chaos.simulation.links import Outcome, Trouble
from botswarm.chaos.simulation.play import Play, Result, an_order
from botswarm.chaos.simulation.world import Process
from botswarm.testing.venue import BINANCE, COINBASE, KRAKEN, Fate, Semantics

VENUES = {each.name: each for each in (BINANCE, KRAKEN, COINBASE)}
LONGEST_S = 120.0
TIMES_EACH = 3
"""A loop comes to the same point very often; the first few times are different, then it waits."""
MARKETS = ((Fate.FILLS, 0.0), (Fate.FILLS_HALF, 0.0), (Fate.FILLS, 15.0))
"""What the market does with the order, and for how long the venue's questions do not find it."""
PATIENCES_S = (10.0, 3600.0)

Make = Callable[..., Play]


class Accident(StrEnum):
    """What happens at the point."""

    DEATH = "death"
    FREEZE = "freeze"  # for longer than any fence
    NOT_COMMITTED = "not committed"  # the question or transaction never arrived
    NOT_TOLD = "not told"  # it was done, and its answer was lost


@dataclass(frozen=True, slots=True)
class Case:
    venue: str
    outcome: Outcome
    fate: Fate
    lag_s: float
    patience_s: float
    accident: Accident
    point: int

    def __str__(self) -> str:
        return (
            f"{self.venue}, {self.outcome}, {self.fate.name.lower()}, found after "
            f"{self.lag_s:g} s, signal of {self.patience_s:g} s, "
            f"{self.accident} at point {self.point}"
        )


def all_cases(
    venue: str,
    *,
    outcomes: Sequence[Outcome] = tuple(Outcome),
    patiences_s: Sequence[float] = PATIENCES_S,
    accidents: Sequence[Accident] = tuple(Accident),
    make: Make = Play,
) -> Iterator[tuple[Case, Result]]:
    """Each combination is played at every point, until one is not come to any more."""
    for outcome, (fate, lag_s), patience_s, accident in itertools.product(
        outcomes, MARKETS, patiences_s, accidents
    ):
        for point in itertools.count(1):
            case = Case(venue, outcome, fate, lag_s, patience_s, accident, point)
            result, was_reached = play_case(case, make=make)
            yield case, result
            if not was_reached:
                break


def play_case(case: Case, *, make: Make = Play) -> tuple[Result, bool]:
    """Its result, and whether the point was come to."""
    play = make(seed=1, semantics=_semantics(case.venue))
    happened = _arrange(play, case)
    order = an_order(1, random.Random(1), patience_s=case.patience_s, sells=False)  # noqa: S311
    play.raise_worker("worker-1")
    play.raise_settler("settler-1")
    play.raise_sweeper()
    play.decide(order)
    play.world.run(LONGEST_S, lambda: play.books.orders[order.id].state.is_final)
    return play.finish(), bool(happened)


def _semantics(venue: str) -> Semantics:
    return VENUES[venue]


def _arrange(play: Play, case: Case) -> list[str]:
    """The answer to the first request, and the accident at its point; the rest goes well."""
    happened: list[str] = []
    answers = iter([case.outcome])
    times = Counter[str]()
    counted = 0

    def comes_to_the_point(what: str) -> bool:
        nonlocal counted
        times[what] += 1
        if times[what] > TIMES_EACH or play.is_healed:
            return False
        counted += 1
        if counted != case.point:
            return False
        happened.append(what)
        return True

    def on_step(process: Process, what: str) -> None:
        if process.name == "sweeper" or not comes_to_the_point(what):
            return
        if case.accident is Accident.DEATH:
            play.world.after(1.0, lambda: play.raise_again(process))
            play.world.die()
        process.frozen_until = play.world.now_s + 60.0

    def trouble(what: str) -> Trouble:
        if not comes_to_the_point(what):
            return Trouble.NONE
        return Trouble.BEFORE if case.accident is Accident.NOT_COMMITTED else Trouble.AFTER

    play.weather.outcome = lambda: next(answers, Outcome.ANSWERED)
    play.weather.fate = lambda: case.fate
    # As late as it can be, and found as late as it can be.
    play.weather.hold_s = lambda low, high: high
    play.weather.lag_s = lambda: case.lag_s
    if case.accident in (Accident.DEATH, Accident.FREEZE):
        play.world.on_step = on_step
    else:
        play.weather.trouble = trouble
    return happened
