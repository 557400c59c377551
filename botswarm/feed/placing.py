"""On which connection a stream goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from botswarm.exchanges.streams import Stream
from botswarm.feed.line import Line
from botswarm.feed.rules import PoolRules

FULL_AFTER_MERGING = 0.6
"""A connection that takes over another's streams keeps room for more."""


class Placing:
    """Streams of one market together, the healthiest and then the emptiest connection first."""

    def __init__(self, lines: Sequence[Line], rules: PoolRules, streams_max: int, now: float):
        self._lines = list(lines)
        self._rules = rules
        self._streams_max = streams_max
        self._scores = {line: line.score(now) for line in self._lines}
        self._of_market = {stream.symbol: line for line in self._lines for stream in line.streams}

    def place(self, stream: Stream, open_line: Callable[[], Line]) -> Line | None:
        """None where every connection is full and no further one is allowed."""
        line = self._of_market.get(stream.symbol)
        if line is None or not self._has_room(line):
            line = self._choose(open_line)
        if line is not None:
            line.streams.add(stream)
            line.empty_since = None
            self._of_market[stream.symbol] = line
        return line

    def _choose(self, open_line: Callable[[], Line]) -> Line | None:
        is_early = len(self._lines) < self._rules.connections_initial
        found = None if is_early else self.healthiest(self._lines)
        if found is None and len(self._lines) < self._rules.connections_max:
            found = open_line()
            self._lines.append(found)
            self._scores[found] = 0.0
        if found is None:
            # Better a connection that is not well than none.
            found = min(filter(self._has_room, self._lines), key=_load, default=None)
        return found

    def healthiest(self, lines: Collection[Line], room: int = 1) -> Line | None:
        """One that is not yet open counts as well as any: nothing is known against it."""
        fit = [
            line
            for line in lines
            if self._has_room(line, room)
            and (self._scores[line] >= self._rules.health_good or not line.is_up)
        ]
        return min(fit, key=_load, default=None)

    def _has_room(self, line: Line, room: int = 1) -> bool:
        return len(line.streams) + room <= self._streams_max

    def merger(self) -> tuple[Line, Line] | None:
        """A connection that could be given up, and the one that takes its streams."""
        ups = [line for line in self._lines if line.is_up and line.successor is None]
        if len(self._lines) <= self._rules.connections_initial or len(ups) < 2:
            return None
        least = min(ups, key=_load)
        limit = self._streams_max * FULL_AFTER_MERGING
        others = [
            line
            for line in ups
            if line is not least and len(line.streams) + len(least.streams) <= limit
        ]
        taker = self.healthiest(others)
        return (least, taker) if least.streams and taker is not None else None


def _load(line: Line) -> tuple[int, int]:
    return len(line.streams), line.number
