"""Ticks and digests to the broker, from the one feed of a venue that leads."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import amqp
from amqp.exceptions import AMQPError, ResourceLocked
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import BotswarmError
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import (
    CONTENT_TYPE,
    EXCHANGE,
    Batch,
    Digest,
    digest_key,
    encode,
    tick_key,
)

logger = logging.getLogger(__name__)

DIGEST_EVERY_S = 0.25
GATHER_S = 0.002
"""Ticks that come this close together leave together: half the messages, a tenth of a blink."""
HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 10.0
RETRY_S = 0.5
STAND_BY_S = 1.0
"""Between two tries for the lead; brokers log each one."""
LAST_WORDS_S = 2.0
UNCONFIRMED_MAX = 1000
"""Messages on their way; beyond it ticks wait, and are conflated if they must."""
OVERLAP_MS = 5000
"""What a feed that stands by keeps: longer than it takes to notice that the leader died."""

TRANSIENT = 1


def leader_queue(venue: str) -> str:
    """Exclusive to one connection; the broker frees it the moment that connection is gone."""
    return f"botswarm.feed.{venue}.leader"


class Publisher:
    """Owns its thread and its connection; nobody else waits for the broker.

    The connection that publishes is the one that holds the leader's queue, so that two feeds
    never publish at once: who loses the connection has lost both.
    """

    def __init__(
        self,
        url: Callable[[], str],
        tracker: Tracker,
        *,
        on_digest: Callable[[Digest], None],
        wall_ms: Callable[[], int],
    ) -> None:
        self._url = url
        self._tracker = tracker
        self._on_digest = on_digest
        self._wall_ms = wall_ms
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._unconfirmed: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._left_over: list[tuple[str, bytes]] = []
        """Sent on a connection that ended before they were confirmed."""
        self._tag = 0
        self._next_digest = 0.0
        self.is_leader = False
        self.is_standing_by = False
        self.is_blocked = False
        self.published = 0
        self.nacked = 0
        self.connects = 0
        self._said = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Publish what waits, if the broker takes it in this time, and leave."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._lead_or_stand_by()
            except (AMQPError, OSError, BotswarmError) as error:
                self._say(f"the broker cannot be used: {error}", logging.WARNING)
            except Exception:
                # The feed's loop: one odd answer must not end publishing for ever.
                logger.exception("publishing failed; connecting anew")
            # Who led and lost the broker leads on by itself until it hears of another leader.
            self.is_leader = self.is_blocked = False
            self._stop.wait(RETRY_S)

    def _lead_or_stand_by(self) -> None:
        with _connection(self._url()) as way:
            connection = way.connection
            connection.on_blocked = self._blocked
            connection.on_unblocked = self._unblocked
            self.connects += 1
            while not self._stop.is_set():
                channel = connection.channel()
                if self._takes_the_lead(channel):
                    self._lead(connection, channel)
                    return
                self.is_standing_by = True
                self._say("another feed leads: standing by", logging.INFO)
                self._tracker.stand_by(self._wall_ms() - OVERLAP_MS)
                self._left_over = []
                connection.heartbeat_tick()
                self._stop.wait(STAND_BY_S)

    def _takes_the_lead(self, channel: Any) -> bool:
        try:
            channel.queue_declare(
                leader_queue(self._tracker.venue), exclusive=True, durable=False, auto_delete=False
            )
        except ResourceLocked:
            return False
        return True

    def _lead(self, connection: Any, channel: Any) -> None:
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._refused)
        channel.confirm_select()
        self._tag, self._unconfirmed = 0, OrderedDict()
        self.is_leader, self.is_standing_by = True, False
        self._say("leading: ticks and digests are published", logging.INFO)
        try:
            for key, body in self._left_over:
                self._publish(connection, channel, key, body)
            self._left_over = []
            while not self._stop.is_set():
                self._turn(connection, channel)
            self._turn(connection, channel)
            self._settle_last(connection)
        finally:
            # Whatever was on its way goes again: readers know a trade by its id.
            self._left_over = [*self._unconfirmed.values(), *self._left_over]

    def _turn(self, connection: Any, channel: Any) -> None:
        self._tracker.wait(min(HEARTBEAT_S / 4, max(0.0, self._next_digest - time.monotonic())))
        if not self._stop.is_set():
            time.sleep(GATHER_S)
        for batch in self._tracker.take_batches():
            self._publish(connection, channel, _key(batch), encode(batch))
        if time.monotonic() >= self._next_digest:
            self._next_digest = time.monotonic() + DIGEST_EVERY_S
            self._tracker.advance()
            digest = self._tracker.take_digest()
            if digest is not None:
                self._publish(connection, channel, digest_key(digest.venue), encode(digest))
                self._on_digest(digest)
        connection.heartbeat_tick()
        _read_waiting(connection)
        self._wait_while_blocked(connection)

    def _publish(self, connection: Any, channel: Any, key: str, body: bytes) -> None:
        self._tag += 1
        self._unconfirmed[self._tag] = key, body
        message = amqp.Message(
            body, content_type=CONTENT_TYPE, content_encoding="utf-8", delivery_mode=TRANSIENT
        )
        channel.basic_publish(message, EXCHANGE, key, timeout=WRITE_TIMEOUT_S)
        self.published += 1
        self._settle(connection)

    def _settle(self, connection: Any) -> None:
        """Wait until not too many confirms are missing, however long the broker takes."""
        while len(self._unconfirmed) > UNCONFIRMED_MAX and not self._stop.is_set():
            connection.heartbeat_tick()
            _read_waiting(connection, HEARTBEAT_S / 4)

    def _settle_last(self, connection: Any) -> None:
        deadline = time.monotonic() + LAST_WORDS_S
        while self._unconfirmed and time.monotonic() < deadline:
            _read_waiting(connection, 0.1)

    def _wait_while_blocked(self, connection: Any) -> None:
        """A broker that is short of memory says so; what is sent now would only fill the socket."""
        while self.is_blocked and not self._stop.is_set():
            connection.heartbeat_tick()
            _read_waiting(connection, 0.1)

    def _confirmed(self, tag: int, multiple: bool) -> None:
        if not multiple:
            self._unconfirmed.pop(tag, None)
            return
        while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
            self._unconfirmed.popitem(last=False)

    def _refused(self, tag: int, multiple: bool) -> None:
        # A reader's queue is full and says no. The other readers got it: it is not sent again.
        before = len(self._unconfirmed)
        self._confirmed(tag, multiple)
        self.nacked += before - len(self._unconfirmed)

    def _blocked(self, reason: str) -> None:
        self.is_blocked = True
        self._say(f"the broker takes no messages: {reason}", logging.WARNING)

    def _unblocked(self) -> None:
        self.is_blocked = False
        self._say("the broker takes messages again", logging.INFO)

    def _say(self, text: str, level: int) -> None:
        """Once, not with every attempt."""
        if text != self._said:
            logger.log(level, text)
        self._said = text


def _connection(url: str) -> Any:
    return Connection(  # type: ignore[no-untyped-call]
        url, heartbeat=HEARTBEAT_S, connect_timeout=CONNECT_TIMEOUT_S
    )


def _key(batch: Batch) -> str:
    return tick_key(batch.venue, batch.symbol, batch.kind)


def _read_waiting(connection: Any, timeout_s: float = 0.0) -> None:
    """Take in confirms and whatever else the broker said, waiting at most so long for the first."""
    try:
        while True:
            connection.drain_events(timeout=timeout_s)
            timeout_s = 0.0
    except (TimeoutError, BlockingIOError):
        return
