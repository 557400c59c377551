"""The broker's heart: one turn delivers, writes the journal, confirms, then writes the sockets.

The order is the promise. What a client hears (a confirm, a declare-ok) was in the journal
before; what it says is in the journal before the next thing is answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from botswarm.broker.journal import DELIVERED, GONE, Journal, Published, is_disk_trouble

if TYPE_CHECKING:
    from botswarm.broker.channel import Channel
    from botswarm.broker.connection import Connection
    from botswarm.broker.queues import Message, Queue
    from botswarm.broker.vhost import VHost

_log = logging.getLogger(__name__)

# The cleaner copies for at most this long before it lets the others have a turn.
CLEANING_SLICE_S: Final = 0.004
DISK_RETRY_S: Final = 0.5
# A queue with more to hand out than one drain does waits for the next turn: sockets come first.
PASSES_PER_TURN: Final = 2


class Hub:
    """What queues, channels and connections share."""

    def __init__(self, journal: Journal, *, fsync: str, memory_high_bytes: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = journal
        self.fsync = fsync
        self.memory_high_bytes = memory_high_bytes
        self.memory_bytes = 0
        self.disk_low = False
        self.journal_stuck = False
        self.last_id = 0
        self.queues_by_id: dict[int, Queue] = {}
        self.reply_consumers: dict[str, Channel] = {}  # by their token
        self.connections: set[Connection] = set()
        self.to_drain: list[Queue] = []
        self.to_bury: deque[tuple[VHost, Queue, Message, str]] = deque()
        self.to_log: list[Queue] = []
        self.to_confirm: list[Channel] = []
        self.to_write: list[Connection] = []
        self.give_up: Callable[[], None] = lambda: None  # how the process is told to stop
        self._turn_scheduled = False
        self._blocked_for = ""
        self._syncing = False
        self._cleaning: Iterator[Published] | None = None

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    # --- the turn -----------------------------------------------------------------------

    def wake(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.loop.call_soon(self.turn)

    def turn(self) -> None:
        # Still marked as scheduled: what wakes us from in here is seen to at the end.
        try:
            self._work()
        finally:
            self._turn_scheduled = False
            if self.to_drain or self.to_bury or self.to_log or self.to_write:
                self.wake()

    def _work(self) -> None:
        passes = 0
        while (self.to_drain or self.to_bury) and passes < PASSES_PER_TURN:
            passes += 1
            self._bury()
            queues, self.to_drain = self.to_drain, []
            for queue in queues:
                self._drain(queue)
        self._write_journal()
        if self.to_confirm and not self.journal_stuck:
            self._confirm()
        if self.to_write:
            connections, self.to_write = self.to_write, []
            for connection in connections:
                connection.write_out()

    def _drain(self, queue: Queue) -> None:
        try:
            queue.drain()
        except Exception:
            _log.exception("queue %s: unexpected; the others go on", queue.name)

    def _bury(self) -> None:
        while self.to_bury:
            vhost, queue, message, reason = self.to_bury.popleft()
            try:
                vhost.bury(queue, message, reason)
            except Exception:
                _log.exception("queue %s: a dead letter is lost; the others go on", queue.name)

    def _write_journal(self) -> None:
        # No message may be gone from the journal before the dead letter made of it is there.
        self._bury()
        if self.to_log:
            queues, self.to_log = self.to_log, []
            for queue in queues:
                queue.in_to_log = False
                if queue.delivered:
                    self.journal.append_ids(DELIVERED, queue.id, queue.delivered)
                    queue.delivered = []
                if queue.gone:
                    self.journal.append_ids(GONE, queue.id, queue.gone)
                    queue.gone = []
        if self.journal.dirty:
            self.flush_journal()
            self.clean_if_wanted()

    def clean_if_wanted(self) -> None:
        if self._cleaning is None and self.journal.wants_cleaning():
            self._cleaning = self.journal.oldest_messages()
            self.loop.call_soon(self._clean)

    def flush_journal(self) -> bool:
        """Write the journal; on a full disk keep everything, block publishers and try again."""
        try:
            self.journal.flush()
        except OSError as error:
            if not is_disk_trouble(error):
                raise
            if not self.journal_stuck:
                _log.error(
                    "journal: cannot write to %s: %s; publishers wait, nothing is lost",
                    self.journal.folder,
                    error.strerror,
                )
                self.journal_stuck = True
                self.loop.call_later(DISK_RETRY_S, self._retry_journal)
            return False
        if self.journal_stuck:
            self.journal_stuck = False
            _log.warning("journal: %s can be written again", self.journal.folder)
        return True

    def _retry_journal(self) -> None:
        if self.flush_journal():
            for queue in self.queues_by_id.values():
                if queue.ready_count and queue.consumers:
                    queue.kick()
            self.wake()
        else:
            self.loop.call_later(DISK_RETRY_S, self._retry_journal)

    def _confirm(self) -> None:
        channels, self.to_confirm = self.to_confirm, []
        if self.fsync != "always":
            for channel in channels:
                channel.confirm()
            return
        if self._syncing:
            self.to_confirm = channels  # the sync under way may have begun before these
            return
        descriptor = self.journal.unsynced_descriptor()
        if descriptor is None:
            for channel in channels:
                channel.confirm()
            return
        self._syncing = True
        batch = [(channel, channel.take_outcomes()) for channel in channels]
        work = self.loop.run_in_executor(None, _sync_and_close, descriptor)

        def synced(future: asyncio.Future[None]) -> None:
            self._syncing = False
            error = future.exception()
            if error is not None:
                # What this sync was to keep may be gone from the system's cache as well, so no
                # later one can vouch for it: a restart reads what the disk really has.
                _log.critical("journal: the disk cannot keep it: %s; stopping", error)
                self.give_up()
                return
            for channel, outcomes in batch:
                channel.send_outcomes(outcomes)
            self.wake()

        work.add_done_callback(synced)

    async def sync_now_and_then(self, period_s: float = 1.0) -> None:
        """Under ``interval``: the journal reaches the disk about once a second."""
        while True:
            await asyncio.sleep(period_s)
            descriptor = self.journal.unsynced_descriptor()
            if descriptor is not None:
                await self.loop.run_in_executor(None, _sync_and_close, descriptor)

    # --- the cleaner --------------------------------------------------------------------

    def _clean(self) -> None:
        """Copy what lives in the oldest segment to the end, a few milliseconds at a time."""
        if self._cleaning is None:
            return
        if self.journal_stuck:
            self.loop.call_later(DISK_RETRY_S, self._clean)
            return
        # Marks first: a copy carries its deliveries, and must not be followed by one of them.
        self._write_journal()
        deadline = self.loop.time() + CLEANING_SLICE_S
        try:
            for published in self._cleaning:
                self._relocate(published)
                if self.loop.time() > deadline:
                    self.wake()
                    self.loop.call_later(CLEANING_SLICE_S, self._clean)
                    return
        except OSError as error:
            # It stays, with what lives in it, and is tried again when more was written.
            _log.error("journal: the oldest segment cannot be read: %s", error)
            self._cleaning = None
            return
        self._cleaning = None
        # Marks not yet appended may speak of messages in the segment that goes: write them first.
        self._write_journal()
        if not self.journal_stuck:
            self.journal.drop_oldest()
        self.clean_if_wanted()

    def _relocate(self, published: Published) -> None:
        # Copies made before a crash cut the cleaning short count: a broker that is killed
        # again and again would otherwise copy the same segment for ever.
        oldest = self.journal.oldest
        holders = [
            queue
            for queue_id in published.queue_ids
            if (queue := self.queues_by_id.get(queue_id)) is not None
            and queue.segment_of(published.id) == oldest
        ]
        if not holders:
            return
        # A copy says how often it was delivered: queues that differ get one each, or a message
        # that one consumer could not stand would be dead in all of them.
        by_deliveries: dict[int, list[Queue]] = {}
        for queue in holders:
            by_deliveries.setdefault(queue.deliveries_of(published.id), []).append(queue)
        old_share = published.size // len(published.queue_ids)
        for deliveries, queues in by_deliveries.items():
            location, size = self.journal.append_publish(
                published.id,
                published.published_ms,
                published.persistent,
                published.priority,
                deliveries,
                tuple(queue.id for queue in queues),
                published.address,
                published.head,
                published.body,
            )
            for queue in queues:
                queue.relocated(published.id, location, size // len(queues), old_share)

    # --- alarms -------------------------------------------------------------------------

    @property
    def blocked_for(self) -> str:
        """Why publishers have to wait now; empty when they need not."""
        if self.memory_bytes > self.memory_high_bytes or self.memory_high_bytes == 0:
            return "low on memory"
        if self.disk_low or self.journal_stuck:
            return "low on disk"
        return ""

    def look_at_alarms(self) -> None:
        reason = self.blocked_for
        if reason == self._blocked_for:
            return
        if reason:
            _log.warning("publishers are blocked: %s", reason)
        else:
            _log.warning("publishers go on: the alarm is over")
        # Who only consumes never notices: a connection is blocked when it next publishes.
        self._blocked_for = reason
        if not reason:
            for connection in list(self.connections):
                connection.unblock()

    @property
    def alarm(self) -> str:
        return self._blocked_for


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
