"""Makes a venue's connections: who may try, when, and how often at most."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from botswarm.domain.market import Tick
from botswarm.exchanges.streams import MarketData, Stream
from botswarm.feed.asker import Asker
from botswarm.feed.basket import Basket
from botswarm.feed.breaker import PROBE_TIMEOUT_S, Breaker, BreakerState, probe_pause_s
from botswarm.feed.budget import RESERVE, Budget
from botswarm.feed.connection import Connection
from botswarm.feed.dialogue import Ears, Happened
from botswarm.feed.line import Line
from botswarm.feed.listener import Listener
from botswarm.feed.liveness import Pulse
from botswarm.feed.pace import Pace
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

logger = logging.getLogger(__name__)

ONE_ROUND_S = 0.5
"""Connections that end together are one failure of the venue, not many."""
LATE_S = 1.0
WAIT_SAID_S = 5.0
"""Shorter ones are everyday where few connections a second are allowed."""


class Sink(Protocol):
    """Where ticks go; called from the thread that listens, and from others."""

    def put(self, ticks: Sequence[Tick], at: float | None = None) -> None: ...

    def interrupted(self, symbols: Iterable[str]) -> None:
        """No connection carries these now."""
        ...

    def suspect(self, symbols: Iterable[str]) -> None:
        """Something of these may have been lost."""
        ...

    def announce(self, symbol: str, last_trade_id: int) -> None:
        """The venue says that this market's last trade was this one."""
        ...


Tap = Callable[[str, int, bytes], None]
"""Every frame as it came: connection, receive time, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """What all parts of a venue's pool share."""

    data: MarketData
    sink: Sink
    rules: PoolRules
    security: SecurityLog
    rejects: Rejects
    wall_ms: Callable[[], int]
    tap: Tap | None = None
    tls: ssl.SSLContext | None = None
    attempts_file: Path | None = None
    pace: Pace | None = None
    """Of all connections together, where the venue counts their messages by our address."""

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def streams_max(self) -> int:
        return self.rules.streams_max(self.data.rules)


class Caller:
    """Used by the pool's thread."""

    def __init__(self, venue: Venue, tell: Callable[[Connection, Happened], None]) -> None:
        self.breaker = Breaker(venue.rules)
        self.asker = Asker(venue.data, venue.sink.put)
        self.gone: list[Connection] = []
        """Told to stop, and perhaps not at their end yet."""
        self.attempts = 0
        rules = venue.data.rules
        self.budget = Budget(rules.connects_max, rules.connects_period_s, file=venue.attempts_file)
        self._venue = venue
        self._tell = tell
        self._basket = Basket(venue.sink.put)
        self._listener = Listener(venue.name, after_round=self._basket.empty)
        self._failed_at = self._attempted_at = float("-inf")
        self._rhythms: dict[tuple[str, str], Pulse] = {}
        """Of streams on other connections; the thread that listens reads it."""

    def remember(self, connection: Connection) -> None:
        """How often its streams spoke: the next connection knows at once what is strange."""
        self._rhythms.update(connection.talk.pulses)

    def forget(self, streams: Collection[Stream]) -> None:
        for stream in streams:
            self._rhythms.pop(stream, None)

    def failed(self, reason: str, now: float) -> None:
        if now - self._failed_at < ONE_ROUND_S:
            return
        self._failed_at = now
        if self.breaker.failed(reason):
            logger.error(
                "%s: %d attempts in a row have failed (%s); one connection goes on trying every "
                "%.1f s, the others wait for it",
                self._venue.name,
                self.breaker.failures,
                reason,
                probe_pause_s(self._venue.data.rules),
            )

    def call_due(self, lines: Sequence[Line], now: float) -> None:
        down = [line for line in lines if line.connection is None and line.streams]
        has_any = any(line.is_up for line in lines)
        is_trying = any(line.connection is not None and not line.has_proved for line in lines)
        probe_due = self._attempted_at + probe_pause_s(self._venue.data.rules)
        for place, line in enumerate(down):
            if line.made and not self._venue.rules.reconnect:
                continue
            is_venue_down = self.breaker.state is not BreakerState.CLOSED
            if is_venue_down and place:
                return  # the first of them tries for all
            due = line.due
            if place == 0 and is_venue_down and is_trying:
                due = probe_due
            elif place == 0 and (is_venue_down or not (has_any or is_trying)):
                due = min(due, probe_due)  # however often it has failed itself
            if now >= due and self._may(line, now, keep=RESERVE if place else 0.0):
                self._attempted_at = now
                is_probe = line.made > 0 and (is_venue_down or not has_any)
                line.connection = self.call(line, is_probe=is_probe)

    def _may(self, line: Line, now: float, keep: float) -> bool:
        wait_s = self.budget.take(keep=keep)
        if wait_s > 0:
            line.due = now + min(wait_s, 1.0)
            if not keep:
                self._attempted_at = line.due
            if wait_s > WAIT_SAID_S:
                cause = f"no attempt to connect is left for {wait_s:.0f} s"
                self._venue.security.note(self._venue.name, "connection_limit_exceeded", cause)
        return wait_s == 0

    def call(self, line: Line, *, is_probe: bool = False) -> Connection:
        venue = self._venue
        self.attempts += 1
        line.made += 1
        timeout_s = venue.rules.connect_timeout_s
        name = f"{venue.name}-{line.number}" + (f".{line.made}" if line.made > 1 else "")
        tap = venue.tap
        connection: Connection
        connection = Connection(
            name,
            venue.data,
            line.streams,
            rules=venue.rules,
            ears=Ears(
                ticks=self._basket.put,
                last_trade=self._announce,
                skipped=self._suspect,
                wants_book=lambda stream: self.asker.want_book(
                    name, stream.symbol, connection.whole
                ),
                event=lambda event: self._hear(connection, event),
                tap=None if tap is None else lambda ms, data: tap(name, ms, data),
            ),
            security=venue.security,
            rejects=venue.rejects,
            wall_ms=venue.wall_ms,
            timeout_s=min(timeout_s, PROBE_TIMEOUT_S) if is_probe else timeout_s,
            tls=venue.tls,
            pace=venue.pace,
            rhythms=self._rhythms,
            listener=self._listener,
        )
        connection.start()
        return connection

    def _announce(self, symbol: str, last_trade_id: int) -> None:
        self._basket.empty()
        self._venue.sink.announce(symbol, last_trade_id)

    def _suspect(self, symbols: Collection[str]) -> None:
        self._basket.empty()
        self._venue.sink.suspect(symbols)

    def _hear(self, connection: Connection, event: Happened) -> None:
        self._basket.empty()
        self._tell(connection, event)

    def is_late(self, connection: Connection) -> bool:
        """A name that is looked up for ever has no time limit of its own."""
        if connection.opened is not None or connection.has_ended:
            return False
        if time.monotonic() - connection.born <= connection.timeout_s + LATE_S:
            return False
        self.let_go(connection)
        cause = f"{connection.name}: no answer"
        self._venue.security.note(self._venue.name, "connection_timeout_exceeded", cause)
        return True

    def let_go(self, connection: Connection) -> None:
        connection.stop()
        if not connection.has_ended:
            self.gone.append(connection)

    def has_gone(self, connection: Connection) -> None:
        self.gone = [each for each in self.gone if each is not connection]
        self.asker.forget(connection.name)
