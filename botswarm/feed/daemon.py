"""Wires a venue's streams to the broker and keeps them going until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from botswarm.clock import Clock
from botswarm.domain.instrument import Instrument
from botswarm.errors import BotswarmError, Malformed
from botswarm.exchanges.base import MarketData
from botswarm.feed.bell import Bell, Ring
from botswarm.feed.board import Board
from botswarm.feed.connection import Budget, Stream
from botswarm.feed.errands import Keeper, Mender, Save
from botswarm.feed.publisher import Publisher
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import Digest

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
HEALTH_EVERY_S = 60.0
SYMBOLS_PER_CONNECTION = 100
CONNECTIONS_MAX, CONNECTIONS_PERIOD_S = 250, 300.0
"""Below the 300 in five minutes after which Binance bans an address."""
SUCCESSOR_TIMEOUT_S = 3.0
MALFORMED_SAID_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the feed needs of rooms it does not know."""

    broker_url: Callable[[], str]
    """Asked before each connection: the embedded broker may have moved."""
    running: Callable[[], Collection[str]]
    """The markets that have running bots."""
    ring: Ring
    save_candles: Save
    save_instruments: Callable[[Sequence[Instrument]], None]
    board: Board | None = None
    """Where the last prices are shown, if anywhere: a convenience that may fail at any time."""


class Feed:
    """One venue's. Many may run: one leads, the others follow along and stand by."""

    def __init__(
        self,
        data: MarketData,
        surroundings: Surroundings,
        *,
        configured: Collection[str],
        clock: Clock,
    ) -> None:
        self._data = data
        self._around = surroundings
        self._configured = frozenset(configured)
        self._clock = clock
        self._streams: dict[tuple[str, ...], Stream] = {}
        self._budget = Budget(CONNECTIONS_MAX, CONNECTIONS_PERIOD_S, clock.monotonic)
        self._running: frozenset[str] = frozenset()
        self._unknown: frozenset[str] = frozenset()
        self._known: dict[str, Instrument] = {}
        self._saved = False
        self._trouble = ""
        self.malformed = 0
        self.tracker = Tracker(data.name, self.wall_ms)
        self.bell = Bell(surroundings.ring, clock.monotonic)
        self.publisher = Publisher(
            surroundings.broker_url, self.tracker, on_digest=self._told, wall_ms=self.wall_ms
        )
        self.mender = Mender(self.tracker, data, clock.monotonic)
        self.keeper = Keeper(self.tracker, surroundings.save_candles)

    def wall_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; the venue, the broker and the ledger may come and go meanwhile."""
        board = () if self._around.board is None else (self._around.board,)
        parts = (self.publisher, self.bell, self.mender, self.keeper, *board)
        for part in parts:
            part.start()
        said_at = self._clock.monotonic()
        try:
            while not stop.is_set():
                self._look()
                if self._clock.monotonic() - said_at >= HEALTH_EVERY_S:
                    said_at = self._clock.monotonic()
                    logger.info("%s", self.health())
                stop.wait(LOOK_EVERY_S)
        finally:
            logger.info("stopping; %s", self.health())
            for stream in self._streams.values():
                stream.stop()
            for part in parts:
                part.stop()
            logger.info("stopped")

    def health(self) -> str:
        counts, up = self.tracker.counts, sum(each.is_up for each in self._streams.values())
        role = "leads" if self.publisher.is_leader else "does not lead"
        blocked = ", broker blocked" if self.publisher.is_blocked else ""
        board = self._around.board
        shown = (
            ""
            if board is None
            else f"; live prices: {board.written} written, {board.replaced} overtaken, "
            f"{board.failed} times not written"
        )
        return (
            f"feed {self._data.name} {role}{blocked}: {up} of {len(self._streams)} streams up, "
            f"{counts.trades} trades, {counts.quotes} quotes, {counts.candles} candles in; "
            f"{self.publisher.published} messages out, {self.bell.rings} rings; "
            f"gaps {counts.gaps} (trades missed {counts.missed_trades}, "
            f"recovered {counts.recovered_trades}), "
            f"duplicates {counts.duplicates}, malformed {self.malformed}, late {counts.late}, "
            f"conflated {counts.conflated_trades} trades {counts.conflated_quotes} quotes"
            f"{shown}"
        )

    # --- which markets ------------------------------------------------------------------------

    def _look(self) -> None:
        """Follow the markets that are wanted now, and renew connections that are due."""
        try:
            self._follow(self._wanted())
            self._trouble = ""
        except BotswarmError as error:
            if str(error) != self._trouble:
                logger.warning("cannot follow the markets: %s; trying again", error)
            self._trouble = str(error)

    def _wanted(self) -> Collection[str]:
        try:
            self._running = frozenset(self._around.running())
        except BotswarmError as error:
            # The markets that were wanted a moment ago are still the best guess.
            if str(error) != self._trouble:
                logger.warning("cannot read which bots run: %s", error)
            self._trouble = str(error)
        self.bell.listen(self._running)
        self.keeper.is_on_duty = not self.publisher.is_standing_by
        return self._that_exist(self._running | self._configured)

    def _that_exist(self, symbols: Iterable[str]) -> Collection[str]:
        if not self._known:
            self._known = {each.symbol: each for each in self._data.instruments()}
        if not self._saved:
            self._save_instruments()
        unknown = frozenset(symbols) - frozenset(self._known)
        if unknown - self._unknown:
            logger.error(
                "%s has no market %s: its bots will see nothing",
                self._data.name,
                ", ".join(sorted(unknown)),
            )
        self._unknown = unknown
        return frozenset(symbols) - unknown

    def _save_instruments(self) -> None:
        try:
            self._around.save_instruments(tuple(self._known.values()))
            self._saved = True
        except BotswarmError as error:
            # Prices go out all the same; the next look tries again.
            logger.debug("instruments are not in the ledger yet: %s", error)

    def _follow(self, symbols: Collection[str]) -> None:
        ordered = sorted(symbols)
        groups = {
            tuple(ordered[start : start + SYMBOLS_PER_CONNECTION])
            for start in range(0, len(ordered), SYMBOLS_PER_CONNECTION)
        }
        self.mender.load_past(self.tracker.follow(symbols))
        if groups == set(self._streams) and not any(
            stream.is_old for stream in self._streams.values()
        ):
            return
        # The new ones first: what both bring is left out by its number, and nothing is missed.
        new = {
            group: self._stream(group)
            for group in groups
            if group not in self._streams or self._streams[group].is_old
        }
        for stream in new.values():
            stream.start()
        for stream in new.values():
            stream.wait_up(SUCCESSOR_TIMEOUT_S)
        kept = {group: stream for group, stream in self._streams.items()
                if group in groups and group not in new}  # fmt: skip
        gone = [stream for group, stream in self._streams.items() if group not in kept]
        self._streams = kept | new
        for stream in gone:
            stream.stop()
        logger.info("following %d markets on %d connections", len(ordered), len(self._streams))

    def _stream(self, symbols: tuple[str, ...]) -> Stream:
        def on_frame(frame: bytes) -> None:
            self._take(frame, stream)

        def on_down() -> None:
            if self._streams.get(symbols) is stream:
                self.tracker.interrupted(symbols)

        stream = Stream(
            self._data.stream_url(symbols, ("trade", "quote")),
            budget=self._budget,
            on_frame=on_frame,
            on_down=on_down,
        )
        return stream

    # --- ticks --------------------------------------------------------------------------------

    def _take(self, frame: bytes, stream: Stream) -> None:
        try:
            ticks = self._data.parse(frame, self.wall_ms())
        except Malformed as error:
            self.malformed += 1
            if self.malformed <= MALFORMED_SAID_MAX:
                logger.warning("left out: %s", error)
            return
        if ticks:
            self.tracker.put(ticks)
        elif b"serverShutdown" in frame:
            stream.wants_successor = True

    def _told(self, digest: Digest) -> None:
        self.bell.hear(digest)
        if self._around.board is not None:
            self._around.board.hear(digest)
