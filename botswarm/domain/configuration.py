"""What has changed in the swarm's configuration, by what all of its processes say of theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.domain.processes import SEEN_FOR, Process

SETTLES = SEEN_FOR + timedelta(seconds=15)
"""Since the last start: by then who was killed before it is not among the processes any more."""
EVERYWHERE = ""
SHOWN_MAX = 10

Said = Mapping[str, str]
"""What is set, in words, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    name: str
    place: str
    """The machine, or EVERYWHERE."""
    before: str
    after: str
    is_secret: bool = False

    @property
    def title(self) -> str:
        return self.name if self.place == EVERYWHERE else f"{self.name} (on {self.place})"

    @property
    def words(self) -> str:
        if self.is_secret:
            return f"{self.title} changed"
        return f"{self.title}: {self.before} -> {self.after}"


def in_words(changes: Sequence[Change]) -> str:
    told = "; ".join(each.words for each in changes[:SHOWN_MAX])
    more = len(changes) - SHOWN_MAX
    return f"{told}; and {more} more" if more > 0 else told


def agreed(
    processes: Sequence[Process], own: Mapping[str, Said], now: datetime
) -> Mapping[str, Said]:
    """By place, what all who say it say alike; nothing while processes start.

    ``own`` is, by process, what may be set otherwise on each machine.
    """
    if any(now - each.started_at < SETTLES for each in processes):
        return {}
    made = [
        {**each.made.settings, "version": each.made.version, "build": each.made.build}
        for each in processes
    ]
    # In containers a machine has another name with every start: what all of them say alike is
    # known of the swarm, too.
    found = {EVERYWHERE: _alike([*made, *(own.get(each.id, {}) for each in processes)])}
    for host in {each.host for each in processes}:
        found[host] = _alike(own.get(each.id, {}) for each in processes if each.host == host)
    return {place: said for place, said in found.items() if said}


def _alike(said: Iterable[Said]) -> Said:
    values: dict[str, set[str]] = {}
    for each in said:
        for name, value in each.items():
            values.setdefault(name, set()).add(value)
    return {name: some.pop() for name, some in values.items() if len(some) == 1}


def changes(
    known: Mapping[str, Said], now: Mapping[str, Said], secret: Collection[str]
) -> list[Change]:
    """What nothing was known of before has not changed; of ``secret`` names no value is told.

    What has changed everywhere is not told of each machine besides.
    """
    found = _differing(known, now)
    everywhere = {name for place, name in found if place == EVERYWHERE}
    return [
        Change(
            name=name,
            place=place,
            before=_shown(known[place][name], name in secret),
            after=_shown(now[place][name], name in secret),
            is_secret=name in secret,
        )
        for place, name in found
        if place == EVERYWHERE or name not in everywhere
    ]


def _differing(known: Mapping[str, Said], now: Mapping[str, Said]) -> list[tuple[str, str]]:
    """Places and names."""
    return [
        (place, name)
        for place, said in sorted(now.items())
        for name, value in sorted(said.items())
        if known.get(place, {}).get(name, value) != value
    ]


def _shown(value: str, is_secret: bool) -> str:
    """Without what tells one secret from another."""
    return value.partition(" (")[0] if is_secret else value
