"""A venue's connections: as many as its streams need, each replaced before anybody misses it."""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from botswarm.exchanges.streams import Declined, GoingAway, MarketData, Stream
from botswarm.feed import health
from botswarm.feed.breaker import STABLE_S, Retries
from botswarm.feed.caller import Caller, Sink, Tap, Venue
from botswarm.feed.care import Care
from botswarm.feed.connection import Connection
from botswarm.feed.dialogue import Began, Ended, Happened, Proved
from botswarm.feed.line import Line
from botswarm.feed.pace import pace_of_address
from botswarm.feed.placing import Placing
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog, of_venue
from botswarm.feed.state import PoolState
from botswarm.feed.takeover import TakeOver

logger = logging.getLogger(__name__)

TURN_S = 0.1
FOLLOW_WITHIN_S = 1.0
"""The others come back within this after the probe, each at a moment of its own."""
DECLINED_AGAIN_S = 300.0
UNSERVED_SHOWN = 20


class Pool:
    """Decisions are made on one thread, its own; connections only carry words."""

    def __init__(
        self,
        data: MarketData,
        sink: Sink,
        rules: PoolRules,
        *,
        wall_ms: Callable[[], int],
        security: SecurityLog | None = None,
        attempts_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
        tap: Tap | None = None,
    ) -> None:
        security = security or SecurityLog()
        self.venue = Venue(
            data=data,
            sink=sink,
            rules=rules,
            security=security,
            rejects=Rejects(security),
            wall_ms=wall_ms,
            tap=tap,
            tls=tls,
            attempts_file=attempts_file,
            pace=pace_of_address(data, attempts_file),
        )
        self.opened = 0
        self._rules = rules
        self._events: queue.SimpleQueue[tuple[Connection, Happened] | None] = queue.SimpleQueue()
        self._caller = Caller(self.venue, lambda whose, event: self._events.put((whose, event)))
        self._lines: list[Line] = []
        self._wanted: frozenset[Stream] = frozenset()
        self._placed: dict[Stream, Line] = {}
        self._take_over = TakeOver(self._caller, self._placed.__setitem__)
        self._care = Care(self.venue, self._caller, self._take_over, self._lines)
        self._declined: dict[Stream, tuple[str, float]] = {}
        self._is_changed = False
        self._numbers = 0
        self._is_full = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pool {data.name}", daemon=True)

    # --- from other threads -------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        self._stop.set()
        self._events.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._caller.asker.stop()
        for connection in self.connections():
            connection.stop()
        deadline = time.monotonic() + timeout_s
        for connection in self.connections():
            connection.join(max(0.0, deadline - time.monotonic()))

    def want(self, streams: Collection[Stream]) -> None:
        """From now on these, and no others; connections for which nothing changes hear nothing."""
        channels = self.venue.data.channels
        wanted = frozenset(each for each in streams if each.channel in channels)
        polled = frozenset(each.symbol for each in streams if each.channel == "status")
        self._caller.asker.want_statuses(frozenset() if "status" in channels else polled)
        if wanted != self._wanted:
            self._wanted, self._is_changed = wanted, True
            self._events.put(None)

    def connections(self) -> list[Connection]:
        """All that may hold a socket."""
        with self._lock:
            carriers = [each for line in self._lines for each in line.carriers()]
            return carriers + [each for each in self._caller.gone if not each.has_ended]

    @property
    def is_connected(self) -> bool:
        return any(line.is_up for line in list(self._lines))

    @property
    def subscription_count(self) -> int:
        """Streams that the venue has acknowledged, or sends."""
        with self._lock:
            return len(self._served())

    def score(self) -> float:
        with self._lock:
            return self._score(time.monotonic())

    # --- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception:
                # One odd moment must not leave the venue without anybody who reconnects.
                logger.exception("the pool of %s failed for a moment; going on", self.venue.name)
                self._stop.wait(TURN_S)

    def _turn(self) -> None:
        happened = self._wait()
        now = time.monotonic()
        with self._lock:
            for connection, event in happened:
                self._hear(connection, event, now)
            for line in self._lines:
                for connection in line.carriers():
                    if self._caller.is_late(connection):
                        self._ended(line, connection, "no connection in time", now)
            if self._is_changed or any(now >= until for _, until in self._declined.values()):
                self._is_changed = False
                self._follow(now)
            self._caller.call_due(self._lines, now)
            self._take_over.settle(self._lines, now)
            self._miss_declined(now)
            self._care.look(now)

    def _wait(self) -> list[tuple[Connection, Happened]]:
        found: list[tuple[Connection, Happened]] = []
        timeout_s: float = TURN_S
        while True:
            try:
                event = self._events.get(timeout=timeout_s)
            except queue.Empty:
                return found
            if event is not None:
                found.append(event)
            timeout_s = 0.0

    # --- what connections tell ----------------------------------------------------------------

    def _hear(self, connection: Connection, event: Happened, now: float) -> None:
        line = next((each for each in self._lines if connection in each.carriers()), None)
        if isinstance(event, Began):
            self.opened += 1
            logger.info("%s is open", connection.name)
        elif isinstance(event, Ended):
            self._caller.has_gone(connection)
            self._caller.remember(connection)
            if line is not None:
                self._ended(line, connection, event.reason, now)
        elif isinstance(event, Declined):
            self._hear_declined(line, connection, event, now)
        elif line is not None and connection is line.connection:
            if isinstance(event, Proved):
                self._proved(line, now)
            elif isinstance(event, GoingAway):
                logger.info("%s ends soon: %s", connection.name, event.reason)
                line.replace_after = now
                self._take_over.replace(line, event.reason, now, is_urgent=True)

    def _proved(self, line: Line, now: float) -> None:
        line.note_proved(now)
        if line.lost:
            # A market that is quiet from now on would never say what was missed meanwhile.
            self.venue.sink.suspect(line.lost)
            line.lost = set()
        if self._caller.breaker.answered():
            logger.warning("%s answers again: all connections follow", self.venue.name)
            for other in self._lines:
                soon = now + random.uniform(0, FOLLOW_WITHIN_S)  # noqa: S311 - guards nothing
                other.due = max(other.due, soon) if other.is_flapping else soon

    def _ended(self, line: Line, connection: Connection, reason: str, now: float) -> None:
        if connection is line.successor:
            line.successor = None
            line.replace_after = now + line.retries.pause_s() + self._rules.base_s
            logger.warning("%s, to take over, ended: %s", connection.name, reason)
            return
        if connection.opened is not None:
            self._interrupted(line, connection)
            line.reconnects += 1
        if line.successor is not None:
            line.connection, line.successor = line.successor, None
            line.is_urgent = False
            line.note(now, reason)
            if line.is_up:
                line.note_proved(now)
            logger.info("%s ended: %s; %s goes on", connection.name, reason, line.connection.name)
            return
        is_stable = line.proved_s(now) >= STABLE_S
        line.failed(now, reason)
        line.is_flapping = connection.opened is not None and not is_stable
        if not is_stable:
            line.retries.failed()
            self._caller.failed(reason, now)
        pause_s = line.retries.pause_s()
        line.due = now + pause_s
        logger.warning("%s ended: %s; again in %.1f s", connection.name, reason, pause_s)

    def _interrupted(self, line: Line, connection: Connection) -> None:
        """What no other connection brings as well, by a take-over or a move."""
        carried = set[Stream]()
        for other in self._lines:
            for carrier in other.carriers():
                if carrier is not connection:
                    carried |= carrier.talk.served
        if lost := {each.symbol for each in line.streams if each not in carried}:
            line.lost |= lost
            self.venue.sink.interrupted(lost)

    def _hear_declined(
        self, line: Line | None, connection: Connection, event: Declined, now: float
    ) -> None:
        words = ", ".join(map(_words, event.streams[:5])) or "a subscription"
        if line is None or connection is not line.connection:
            # Whatever carries these streams still does.
            logger.warning("%s: declined on it alone: %s: %s", connection.name, words, event.reason)
            return
        here = [each for each in event.streams if self._placed.get(each) is line]
        stay = [each for each in here if self._take_over.give_back(each, now)]
        if stay:
            logger.warning("%d streams stay where they were: %s", len(stay), event.reason)
        if len(stay) < len(here) or not here:
            logger.error("%s declines %s: %s", self.venue.name, words, event.reason)
        for stream in set(here) - set(stay):
            self._note_declined(line, stream, event.reason, now)

    def _miss_declined(self, now: float) -> None:
        """What a connection had been declined before it took over is carried by nobody now."""
        for line in self._lines:
            if line.connection is None or not (declined := line.connection.talk.declined):
                continue
            for stream in [each for each in line.streams if each in declined]:
                logger.error("%s goes on without %s", line.connection.name, _words(stream))
                self._note_declined(line, stream, declined[stream], now)

    def _note_declined(self, line: Line, stream: Stream, reason: str, now: float) -> None:
        self._declined[stream] = reason, now + DECLINED_AGAIN_S
        del self._placed[stream]
        line.streams.discard(stream)

    # --- which streams ------------------------------------------------------------------------

    def _follow(self, now: float) -> None:
        for stream in [each for each, (_, until) in self._declined.items() if now >= until]:
            del self._declined[stream]
        self._remove(set(self._placed) - self._wanted)
        new = sorted(self._wanted - set(self._placed) - set(self._declined))
        placing = Placing(self._lines, self._rules, self.venue.streams_max, now)
        added: dict[Line, list[Stream]] = {}
        left_out = 0
        for stream in new:
            line = placing.place(stream, self._open_line)
            if line is None:
                left_out += 1
                continue
            self._placed[stream] = line
            added.setdefault(line, []).append(stream)
        for line, streams in added.items():
            for connection in line.carriers():
                connection.subscribe(streams)
        self._say_followed(len(new), left_out)

    def _say_followed(self, new: int, left_out: int) -> None:
        name, streams_max = self.venue.name, self.venue.streams_max
        if left_out and not self._is_full:
            limit = f"{self._rules.connections_max} connections of {streams_max} streams"
            cause = f"{left_out} streams are followed by nobody: {limit} are all that is allowed"
            self.venue.security.note(name, "connection_limit_exceeded", cause)
        self._is_full = left_out > 0
        if new:
            count, lines = len(self._placed), len(self._lines)
            logger.info("%s: following %d streams on %d connections", name, count, lines)

    def _remove(self, streams: Collection[Stream]) -> None:
        self._caller.forget(streams)
        by_line: dict[Line, list[Stream]] = {}
        for stream in streams:
            line = self._placed.pop(stream)
            line.streams.discard(stream)
            line.nursed.pop(stream, None)
            by_line.setdefault(line, []).append(stream)
            self._take_over.forget(stream)
        for line, gone in by_line.items():
            for connection in line.carriers():
                connection.unsubscribe(gone)

    def _open_line(self) -> Line:
        self._numbers += 1
        line = Line(self._numbers, self._rules, Retries(self._rules))
        self._lines.append(line)
        logger.info("%s: the pool grows to %d connections", self.venue.name, len(self._lines))
        return line

    # --- how it is ----------------------------------------------------------------------------

    def _served(self) -> set[Stream]:
        served = set[Stream]()
        for line in self._lines:
            for carrier in line.carriers():
                if carrier.is_up:
                    served |= carrier.talk.served
        return served & self._wanted

    def _score(self, now: float) -> float:
        scores = [(line.score(now), len(line.streams)) for line in self._lines]
        return health.overall(scores, len(self._wanted - set(self._declined)))

    def state(self) -> PoolState:
        now = time.monotonic()
        name, caller = self.venue.name, self._caller
        with self._lock:
            served = self._served()
            unserved = sorted(self._wanted - served - set(self._declined))
            states = tuple(line.state(name, self.venue.streams_max, now) for line in self._lines)
            return PoolState(
                venue=name,
                is_connected=self.is_connected,
                subscriptions=len(served),
                wanted=len(self._wanted),
                unserved=tuple(map(_words, unserved[:UNSERVED_SHOWN])),
                declined={_words(each): why for each, (why, _) in self._declined.items()},
                score=self._score(now),
                breaker=caller.breaker.state.value,
                breaker_opened=caller.breaker.opened,
                failures=caller.breaker.failures,
                last_failure=caller.breaker.reason,
                budget_left=caller.budget.left,
                budget_max=caller.budget.attempts_max,
                budget_period_s=caller.budget.period_s,
                attempts=caller.attempts,
                opened=self.opened,
                reconnects=sum(line.reconnects for line in self._lines),
                renewed=self._take_over.renewed,
                messages_per_s=round(sum(each.messages_per_s for each in states), 1),
                rejects=of_venue(self.venue.rejects.counts, name),
                security=self.venue.security.of(name),
                connections=states,
            )


def _words(stream: Stream) -> str:
    return f"{stream.symbol} {stream.channel}"
