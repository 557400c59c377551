"""The order path in simulated time: every crash point and outcome, then random histories."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.errors import BotswarmError

if TYPE_CHECKING:
    from botswarm.chaos.simulation.runner import Tally

NEW_SEEDS_FROM, NEW_SEEDS_TO = 10**6, 2**53


class Violated(BotswarmError):
    """An invariant of the order path did not hold."""


@click.command("simulate", cls=Command)
@click.option("--seeds", type=click.IntRange(0), default=20_000, show_default=True)
@click.option("--intents", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option(
    "--from", "first", type=click.IntRange(0), help="The first seed.  [default: a new one]"
)
@click.option("--cases/--no-cases", default=True, help="Play every crash point and outcome first.")
@click.option("--processes", type=click.IntRange(1), help="[default: one a processor]")
@click.option("--seed", type=click.IntRange(0), help="Play this one only, and tell every step.")
@click.pass_obj
def simulate(
    session: Session,
    seeds: int,
    intents: int,
    first: int | None,
    cases: bool,
    processes: int | None,
    seed: int | None,
) -> Answer:
    """Run the order path in simulated time, and break everything around it.

    The code that places, settles and proves is the real one; clock, messages, ledger and venue
    are simulated. First one order for each point at which a process can die, freeze or lose an
    answer, with each thing the venue can do, at three kinds of venue. Then random histories of
    many orders by seed. Exit code 1 when an invariant was violated; the same seed replays the
    same history.
    """
    from botswarm.chaos.simulation import runner

    progress = session.progress
    if seed is not None:
        return _one(seed, intents)
    at_once = processes or runner.processors()
    began = time.monotonic()
    done: dict[str, Tally] = {}
    if cases:
        done["cases"] = runner.simulate_cases(at_once, progress)
    start = first if first is not None else random.randrange(NEW_SEEDS_FROM, NEW_SEEDS_TO)  # noqa: S311
    if seeds:
        histories = range(start, start + seeds)
        done["seeds"] = runner.simulate_seeds(histories, intents, at_once, progress)
    failures = [line for tally in done.values() for line in tally.failures]
    took_s = round(time.monotonic() - began, 1)
    counts = {name: dict(tally.counts) for name, tally in done.items()}
    return Answer(
        data={"first_seed": start, "took_s": took_s, **counts, "failures": failures},
        text="\n".join([*_lines(done), f"first seed {start}, {took_s} s", *failures]),
        failure=Violated(
            f"{len(failures)} histories violate an invariant, the first: {failures[0]}",
            cure="see each step: botswarm chaos simulate --seed N; and trade nothing until mended",
        )
        if failures
        else None,
    )


def _one(seed: int, intents: int) -> Answer:
    from botswarm.chaos.simulation import runner

    result, told = runner.trace(seed, intents)
    violations = [str(each) for each in result.violations]
    return Answer(
        data={"seed": seed, "steps": list(told), "violations": violations},
        text="\n".join([*told, *(violations or [f"seed {seed}: no violation"])]),
        failure=Violated(f"seed {seed}: {violations[0]}", cure="read the steps above from the end")
        if violations
        else None,
    )


def _lines(done: dict[str, Tally]) -> list[str]:
    return [
        f"{name}: {tally.counts['histories']} histories, {tally.counts['intents']} intents, "
        f"{tally.counts['executed']} executed in {tally.counts['attempts']} attempts, "
        f"{tally.counts['deaths']} deaths, {tally.counts['refused_late']} refused as late, "
        f"{tally.counts['violations']} violations"
        for name, tally in done.items()
    ]
