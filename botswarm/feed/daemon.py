"""Wires a venue's streams to the broker and keeps them going until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from botswarm.clock import Clock
from botswarm.domain.market import Channel
from botswarm.errors import BotswarmError
from botswarm.exchanges.streams import MarketData, Stream
from botswarm.feed.bell import Bell, Ring
from botswarm.feed.board import Board
from botswarm.feed.caller import Tap
from botswarm.feed.errands import Keeper, Mender, Save
from botswarm.feed.pool import Pool
from botswarm.feed.publisher import Publisher
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SecurityLog
from botswarm.feed.state import FeedState
from botswarm.feed.tracker import Tracker
from botswarm.feed.wishes import Complaints, Sources, Wishes
from botswarm.market.wire import Digest

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
SAID_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the feed needs of rooms it does not know."""

    broker_url: Callable[[], str]
    """Asked before each connection: the embedded broker may have moved."""
    wishes: Sources
    ring: Ring
    save_candles: Save
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
        rules: PoolRules | None = None,
        security: SecurityLog | None = None,
        attempts_file: Path | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._data = data
        self._around = surroundings
        self._clock = clock
        self._rules = rules or PoolRules()
        self._wishes = Wishes(
            data, surroundings.wishes, configured=configured, monotonic=clock.monotonic
        )
        self._complaints = Complaints()
        self._level = logging.INFO
        self.tracker = Tracker(data.name, self.wall_ms)
        self.bell = Bell(surroundings.ring, clock.monotonic)
        self.publisher = Publisher(
            surroundings.broker_url,
            self.tracker,
            on_digest=self._told,
            wall_ms=self.wall_ms,
            has_readers=lambda: bool(self._wishes.running),
        )
        self.mender = Mender(self.tracker, data, clock.monotonic)
        self.keeper = Keeper(self.tracker, surroundings.save_candles)
        self.pool = Pool(
            data,
            self.tracker,
            self._rules,
            wall_ms=self.wall_ms,
            security=security,
            attempts_file=attempts_file,
            tap=tap,
        )

    @property
    def venue(self) -> str:
        return self._data.name

    def wall_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; the venue, the broker and the ledger may come and go meanwhile."""
        board = () if self._around.board is None else (self._around.board,)
        parts = (self.publisher, self.bell, self.mender, self.keeper, *board)
        for part in (*parts, self.pool):
            part.start()
        said_at = judged_at = self._clock.monotonic()
        try:
            while not stop.is_set():
                self._look()
                now = self._clock.monotonic()
                if now - judged_at >= self._rules.health_every_s:
                    judged_at = now
                    self._judge()
                if now - said_at >= SAID_EVERY_S:
                    said_at = now
                    logger.info("%s", self.health())
                stop.wait(LOOK_EVERY_S)
        finally:
            logger.info("stopping; %s", self.health())
            self.pool.stop()
            for part in parts:
                part.stop()
            logger.info("stopped")

    def health(self) -> str:
        counts, pool = self.tracker.counts, self.pool.state()
        up = sum(each.state in ("up", "leaving") for each in pool.connections)
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
            f"feed {self.venue} {role}{blocked}: health {pool.score:.2f}, "
            f"{up} of {len(pool.connections)} connections up, "
            f"{pool.subscriptions} of {pool.wanted} streams served, "
            f"{counts.trades} trades, {counts.quotes} quotes, {counts.candles} candles in; "
            f"{self.publisher.published} messages out, {self.bell.rings} rings; "
            f"gaps {counts.gaps} (trades missed {counts.missed_trades}, "
            f"recovered {counts.recovered_trades}), "
            f"duplicates {counts.duplicates}, left out {sum(pool.rejects.values())}, "
            f"late {counts.late}, "
            f"conflated {counts.conflated_trades} trades {counts.conflated_quotes} quotes"
            f"{shown}"
        )

    def state(self) -> FeedState:
        return FeedState(
            venue=self.venue,
            role=self.publisher.role,
            is_blocked=self.publisher.is_blocked,
            pool=self.pool.state(),
            counts=asdict(self.tracker.counts),
            published=self.publisher.published,
            rings=self.bell.rings,
            unknown=tuple(sorted(self._wishes.unknown)),
        )

    def _judge(self) -> None:
        """Said when it changes, not while it lasts."""
        score = self.pool.score()
        level = logging.INFO
        if score < self._rules.health_critical:
            level = logging.ERROR
        elif score < self._rules.health_alert:
            level = logging.WARNING
        if level != self._level:
            logger.log(max(level, self._level), "health of %s is %.2f", self.venue, score)
        self._level = level

    # --- which markets ------------------------------------------------------------------------

    def _look(self) -> None:
        """Follow the markets that are wanted now."""
        self.keeper.is_on_duty = not self.publisher.is_standing_by
        try:
            self._follow(self._wishes.channels())
            self._complaints.well("follow the markets")
        except BotswarmError as error:
            self._complaints.trouble("follow the markets", str(error))
        except Exception as error:
            # Another's adapter, perhaps: the markets that are followed are followed on.
            self._complaints.trouble("follow the markets", f"{type(error).__name__}: {error}")
        self.bell.listen(self._wishes.running)

    def _follow(self, wanted: dict[str, set[Channel]]) -> None:
        self.mender.load_past(self.tracker.follow(wanted))
        self.pool.want(
            {Stream(symbol, channel) for symbol, channels in wanted.items() for channel in channels}
        )

    def _told(self, digest: Digest) -> None:
        self.bell.hear(digest)
        if self._around.board is not None:
            self._around.board.hear(digest)
