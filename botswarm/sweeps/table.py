"""Every sweep there is: its name, what it looks for, how often, and the function that looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from botswarm.errors import NotFound
from botswarm.ledger.findings import SweepDone
from botswarm.sweeps import guards, positions, protections, watching
from botswarm.sweeps.sweep import Look, Tools, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    name: str
    words: str
    look: Look


SWEEPS: tuple[Sweep, ...] = (
    Sweep(
        name="positions",
        words="positions at the market; losses and exposures against limits",
        look=positions.sweep,
    ),
    Sweep(
        name="protections",
        words="losses after which trading pauses for a while",
        look=protections.sweep,
    ),
    Sweep(name="guards", words="positions and the stops that belong to them", look=guards.sweep),
    Sweep(name="feeds", words="markets whose price is old", look=watching.feeds),
    Sweep(name="orders", words="orders that do not move on", look=watching.orders),
    Sweep(
        name="accounts", words="accounts that do not agree with their venue", look=watching.accounts
    ),
    Sweep(
        name="processes", words="processes that are not made of the same", look=watching.processes
    ),
    Sweep(name="patterns", words="bots that trade unlike themselves", look=watching.habits),
)
BY_NAME: Mapping[str, Sweep] = {each.name: each for each in SWEEPS}


def sweep(name: str, tools: Tools) -> SweepDone:
    """Raises NotFound."""
    found = BY_NAME.get(name)
    if found is None:
        raise NotFound(f"there is no sweep {name!r}", cure=f"it is one of {', '.join(BY_NAME)}")
    return run(name, found.look, tools)
