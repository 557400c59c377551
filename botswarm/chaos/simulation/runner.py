"""Many histories side by side, and what they add up to."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from botswarm.chaos.simulation.cases import VENUES, all_cases
from botswarm.chaos.simulation.play import Play, Result
from botswarm.chaos.simulation.seeds import INTENTS, play_seed

FAILURES_SHOWN_MAX = 20
SEEDS_AT_ONCE = 50

Progress = Callable[[str], object]
Part = TypeVar("Part")


@dataclass(slots=True)
class Tally:
    """Counts of many histories; a failure says how to see it again."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, result: Result) -> None:
        self.counts.update(
            histories=1,
            intents=result.intents,
            executed=result.executed,
            attempts=result.attempts,
            deaths=result.deaths,
            refused_late=result.refused_late,
            steps=result.steps,
            violations=len(result.violations),
        )
        if result.violations and len(self.failures) < FAILURES_SHOWN_MAX:
            self.failures.append(f"{name}: {result.violations[0]}")

    def merge(self, other: Tally) -> None:
        self.counts.update(other.counts)
        room = FAILURES_SHOWN_MAX - len(self.failures)
        self.failures += other.failures[:room]


def simulate_cases(processes: int, progress: Progress) -> Tally:
    """Every venue on a processor of its own."""
    return _all(_cases_of, sorted(VENUES), processes, progress)


def simulate_seeds(seeds: Iterable[int], intents: int, processes: int, progress: Progress) -> Tally:
    chunks = [(chunk, intents) for chunk in _chunks(seeds)]
    return _all(_seeds_of, chunks, processes, progress)


def trace(seed: int, intents: int = INTENTS) -> tuple[Result, Sequence[str]]:
    """One history, and each step of it in words."""
    told: list[str] = []

    def make(**arguments: object) -> Play:
        play = Play(**arguments)  # type: ignore[arg-type]  # the same that Play takes
        play.world.on_told = told.append
        return play

    with _silence():
        return play_seed(seed, intents=intents, make=make), told


def _all(
    work: Callable[[Part], Tally], parts: Sequence[Part], processes: int, progress: Progress
) -> Tally:
    total = Tally()
    with ProcessPoolExecutor(max_workers=min(processes, len(parts)) or 1) as pool:
        for done, tally in enumerate(pool.map(work, parts), start=1):
            total.merge(tally)
            if done == len(parts) or done % 20 == 0:
                progress(
                    f"{total.counts['histories']} histories, "
                    f"{total.counts['intents']} intents, "
                    f"{total.counts['violations']} violations"
                )
    return total


def _cases_of(venue: str) -> Tally:
    tally = Tally()
    with _silence():
        for case, result in all_cases(venue):
            tally.add(f"case ({case})", result)
    return tally


def _seeds_of(part: tuple[Sequence[int], int]) -> Tally:
    seeds, intents = part
    tally = Tally()
    with _silence():
        for seed in seeds:
            tally.add(f"seed {seed}", play_seed(seed, intents=intents))
    return tally


def _chunks(seeds: Iterable[int]) -> Iterator[list[int]]:
    left = iter(seeds)
    while chunk := list(islice(left, SEEDS_AT_ONCE)):
        yield chunk


@contextmanager
def _silence() -> Iterator[None]:
    """The order path logs every mishap; a million of them help nobody."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def processors() -> int:
    return len(os.sched_getaffinity(0))
