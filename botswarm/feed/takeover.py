"""One connection takes over from another: the new one brings everything before the old one ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from botswarm.exchanges.streams import Stream
from botswarm.feed.budget import LEISURE, RESERVE
from botswarm.feed.caller import Caller
from botswarm.feed.connection import Connection
from botswarm.feed.line import Line

logger = logging.getLogger(__name__)

SETTLE_S, SETTLE_URGENT_S = 10.0, 2.0
"""How long a new connection that serves everything waits for the first tick of quiet markets."""
GIVE_UP_S = 60.0
"""Then one that was to replace a good connection is given up, and one that was to replace a bad
one takes over with what it has."""
GIVEN_UP_AGAIN_S = 600.0
AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Move:
    origin: Line
    source: Connection | None
    target: Line
    since: float


class TakeOver:
    """Used by the pool's thread. What both bring is left out later, by its number."""

    def __init__(self, caller: Caller, placed: Callable[[Stream, Line], None]) -> None:
        self._caller = caller
        self._placed = placed
        self._moves: dict[Stream, _Move] = {}
        self._stays: dict[Stream, float] = {}
        """Streams that only the connection they are on has been granted, and how long to say so."""
        self.renewed = 0

    # --- a whole connection -------------------------------------------------------------------

    def replace(self, line: Line, reason: str, now: float, *, is_urgent: bool = False) -> None:
        is_held_back = line.successor is None and now < line.replace_after
        if line.connection is None or is_held_back:
            return
        line.is_urgent = line.is_urgent or is_urgent
        if line.successor is not None:
            return
        if self._caller.budget.take(keep=RESERVE if is_urgent else LEISURE) > 0:
            line.replace_after = now + 1.0
            return
        logger.info("%s is replaced: %s", line.connection.name, reason)
        line.note(now, f"replaced: {reason}")
        line.replace_after = now + AGAIN_S
        self._caller.remember(line.connection)
        line.successor = self._caller.call(line, is_probe=is_urgent)

    def settle(self, lines: Sequence[Line], now: float) -> None:
        for line in lines:
            self._give_up_late(line, now)
            if line.successor is not None and _is_ready(line, line.successor, now):
                old, line.connection, line.successor = line.connection, line.successor, None
                line.is_urgent = False
                line.note_proved(now)
                self.renewed += 1
                if old is not None:
                    self._caller.let_go(old)
        for stream, move in list(self._moves.items()):
            if self._is_settled(stream, move, now):
                del self._moves[stream]

    def _give_up_late(self, line: Line, now: float) -> None:
        successor = line.successor
        if successor is None or line.is_urgent:
            return
        is_declined = any(stream in successor.talk.declined for stream in line.streams)
        if not is_declined and time.monotonic() - successor.born < GIVE_UP_S:
            return
        if _is_ready(line, successor, now):
            return
        logger.warning("%s does not bring everything: the old one stays", successor.name)
        line.successor, line.replace_after = None, now + GIVEN_UP_AGAIN_S
        self._caller.let_go(successor)

    # --- single streams -----------------------------------------------------------------------

    @property
    def is_moving(self) -> bool:
        return bool(self._moves)

    def moves(self, stream: Stream) -> bool:
        return stream in self._moves

    def sources(self) -> set[Connection | None]:
        return {move.source for move in self._moves.values()}

    def move(self, streams: Collection[Stream], source: Line, target: Line, now: float) -> None:
        if source.connection is not None:
            self._caller.remember(source.connection)
        for stream in streams:
            source.streams.discard(stream)
            target.streams.add(stream)
            target.empty_since = None
            self._placed(stream, target)
            self._moves[stream] = _Move(source, source.connection, target, now)
        for connection in target.carriers():
            connection.subscribe(streams)

    def give_back(self, stream: Stream, now: float) -> bool:
        """The connection it moves to is declined it: it stays on the one that still carries it."""
        move = self._moves.get(stream)
        if move is None or move.source is None or move.origin.connection is not move.source:
            return False
        if move.source.has_ended:
            return False
        del self._moves[stream]
        move.target.streams.discard(stream)
        move.origin.streams.add(stream)
        self._placed(stream, move.origin)
        self._stays[stream] = now + GIVEN_UP_AGAIN_S
        for carrier in move.origin.carriers():
            if carrier is not move.source:
                carrier.subscribe([stream])
        return True

    def may_move(self, streams: Collection[Stream], now: float) -> bool:
        self._stays = {each: until for each, until in self._stays.items() if until > now}
        return self._stays.keys().isdisjoint(streams)

    def forget(self, stream: Stream) -> None:
        """Nobody wants it any more."""
        self._stays.pop(stream, None)
        move = self._moves.pop(stream, None)
        if move is not None and move.source is not None:
            move.source.unsubscribe([stream])

    def _is_settled(self, stream: Stream, move: _Move, now: float) -> bool:
        source, target = move.source, move.target.connection
        if source is None or source.has_ended:
            return True
        if target is None or not target.is_up:
            return False
        pulse = target.talk.pulses.get(stream)
        has_come = pulse is not None and pulse.count > 0 and pulse.last >= move.since
        if has_come or (stream in target.talk.served and now - move.since > SETTLE_S):
            source.unsubscribe([stream])
            return True
        return False


def _is_ready(line: Line, successor: Connection, now: float) -> bool:
    if not successor.is_up:
        return False
    if successor.talk.has_brought(line.streams):
        return True
    up_s = time.monotonic() - successor.born
    settle_s = SETTLE_URGENT_S if line.is_urgent else SETTLE_S
    is_served = line.streams <= successor.talk.served
    return (is_served and up_s > settle_s) or (line.is_urgent and up_s > GIVE_UP_S)
