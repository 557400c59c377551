"""Looks after a venue's connections: renews, replaces, nurses, merges and closes them."""

from __future__ import annotations

import logging

from botswarm.feed.breaker import STABLE_S
from botswarm.feed.caller import Caller, Venue
from botswarm.feed.line import Line
from botswarm.feed.placing import Placing
from botswarm.feed.takeover import TakeOver

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
NURSED_AGAIN_S = 60.0
NURSED_LESS_OFTEN_MAX = 6


class Care:
    """Used by the pool's thread."""

    def __init__(
        self, venue: Venue, caller: Caller, take_over: TakeOver, lines: list[Line]
    ) -> None:
        """``lines`` are the pool's own: one that is closed is taken out of it."""
        self._venue, self._caller, self._take_over = venue, caller, take_over
        self._lines = lines
        self._looked_at = self._checked_at = float("-inf")

    def look(self, now: float) -> None:
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look_after(now)
        if now - self._checked_at >= self._venue.rules.check_every_s:
            self._checked_at = now
            self._check(now)

    def _look_after(self, now: float) -> None:
        age_s = self._venue.rules.age_s(self._venue.data.rules)
        for line in self._lines:
            line.rate(now)
            if not line.is_up or line.connection is None:
                continue
            if now >= line.stable_at:
                line.stable_at = now + STABLE_S
                line.retries.succeeded()
                self._caller.breaker.succeeded()
            if line.successor is None:
                self._nurse(line, now)
            if now - line.connection.born > age_s:
                self._take_over.replace(line, f"older than {age_s:.0f} s", now)
            elif line.score(now) < self._venue.rules.health_unhealthy:
                reason = f"unwell, most of all by its {line.worst(now)}"
                self._take_over.replace(line, reason, now, is_urgent=True)
            elif line.is_urgent:
                # The first one that was to take over came to nothing.
                self._take_over.replace(line, "it ends soon", now, is_urgent=True)

    def _nurse(self, line: Line, now: float) -> None:
        """A strangely silent stream is asked for once more, on the healthiest connection."""
        for stream in line.quiet(now):
            after, times = line.nursed.get(stream, (0.0, 0))
            if now < after or self._take_over.moves(stream) or stream not in line.streams:
                continue
            pause_s = NURSED_AGAIN_S * 2 ** min(times, NURSED_LESS_OFTEN_MAX)
            line.nursed[stream] = now + pause_s, times + 1
            others = [each for each in self._lines if each is not line and each.is_up]
            placing = Placing(self._lines, self._venue.rules, self._venue.streams_max, now)
            target = placing.healthiest(others)
            where = "" if target is None else " on another connection"
            logger.info(
                "%s %s is strangely silent: asked for again%s", stream.symbol, stream.channel, where
            )
            self._venue.sink.suspect([stream.symbol])
            if target is not None:
                target.nursed[stream] = line.nursed[stream]
                self._take_over.move([stream], line, target, now)
            elif line.connection is not None:
                line.connection.subscribe([stream])

    def _check(self, now: float) -> None:
        placing = Placing(self._lines, self._venue.rules, self._venue.streams_max, now)
        if not self._take_over.is_moving and (pair := placing.merger()) is not None:
            self._merge(*pair, now)
        busy = self._take_over.sources()
        for line in list(self._lines):
            if line.streams or (line.connection is not None and line.connection in busy):
                line.empty_since = None
            elif line.empty_since is None:
                line.empty_since = now
            elif now - line.empty_since >= self._venue.rules.idle_close_s:
                self._close(line)

    def _merge(self, source: Line, target: Line, now: float) -> None:
        if self._take_over.may_move(source.streams, now):
            logger.info("%s: two connections become one", self._venue.name)
            self._take_over.move(list(source.streams), source, target, now)

    def _close(self, line: Line) -> None:
        self._lines.remove(line)
        for connection in line.carriers():
            self._caller.let_go(connection)
        logger.info("%s: the pool shrinks to %d connections", self._venue.name, len(self._lines))
