"""The processes of the swarm, of what each is made, and which of them differ from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SEEN_FOR = timedelta(seconds=30)
"""A process that has not been heard of for so long is none any more."""
STRATEGIES_SETTLE = timedelta(seconds=30)
"""Files of strategies are taken in while processes run, and not by all in the same moment."""
BUILD, STRATEGIES = "build", "strategies"
UNKNOWN = "(not known there)"
SHOWN_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What must be the same in all processes that trade together."""

    version: str
    build: str
    """A hash over the program's own files."""
    strategies: str | None
    """One over the folder of strategies; None where the process runs none."""
    settings: Mapping[str, str]
    """By name, in words; of what is secret a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    id: str
    name: str
    role: str
    host: str
    pid: int
    made: Made
    started_at: datetime
    changed_at: datetime
    """Since when it has been made so."""
    seen_at: datetime

    @property
    def title(self) -> str:
        return f"{self.name} (pid {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One process, and what is otherwise about it."""

    process: str
    process_id: str
    what: str
    """``build``, ``strategies`` or the name of a setting."""
    value: str
    others: str
    """What most of the others have; with as many on either side, what the elder have."""
    since: datetime

    @property
    def words(self) -> str:
        if self.what == BUILD:
            return f"{self.process} runs build {self.value}, the others {self.others}"
        if self.what == STRATEGIES:
            return f"{self.process} has other files of strategies than the others"
        return f"{self.process} has {self.what} = {self.value}, the others {self.others}"


def differences(processes: Sequence[Process], now: datetime) -> list[Difference]:
    """Nothing where all are made of the same; by process otherwise."""
    ordered = sorted(processes, key=lambda each: (each.started_at, each.id))
    found = _odd(ordered, BUILD, {each.id: each.made.build for each in ordered})
    strategies = {each.id: each.made.strategies for each in ordered if each.made.strategies}
    settled = now - STRATEGIES_SETTLE
    found += [each for each in _odd(ordered, STRATEGIES, strategies) if each.since <= settled]
    names = sorted({name for each in ordered for name in each.made.settings})
    for name in names:
        values = {each.id: each.made.settings.get(name, UNKNOWN) for each in ordered}
        found += _odd(ordered, name, values)
    return sorted(found, key=lambda each: each.process)


def in_words(found: Sequence[Difference]) -> str:
    shown = "; ".join(each.words for each in found[:SHOWN_MAX])
    more = len(found) - SHOWN_MAX
    return f"{shown}; and {more} more" if more > 0 else shown


def _odd(processes: Sequence[Process], what: str, values: Mapping[str, str]) -> list[Difference]:
    asked = [each for each in processes if each.id in values]
    if len(set(values.values())) < 2:
        return []
    # Of as many on either side the first counted wins: that of the eldest.
    usual, _ = Counter(values[each.id] for each in asked).most_common(1)[0]
    since = max(each.changed_at for each in asked)
    return [
        Difference(
            process=each.title,
            process_id=each.id,
            what=what,
            value=values[each.id],
            others=usual,
            since=since,
        )
        for each in asked
        if values[each.id] != usual
    ]
