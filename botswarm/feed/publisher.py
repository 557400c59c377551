"""Ticks and digests to the broker, from the one feed of a venue that leads."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import BotswarmError
from botswarm.feed import lead
from botswarm.feed.outlet import Outlet, Sent, Tally
from botswarm.feed.said import Note, Said
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import Batch, Digest, as_repeat, digest_key, encode, encode_any, tick_key

logger = logging.getLogger(__name__)

DIGEST_SPACING_S = 0.02
CONFIRMS_WAIT_S = 0.006
"""Longer than it takes, where ticks flow, until the next ones come."""
MESSAGES_PER_S, MESSAGES_AT_ONCE = 5000, 3000
"""A busier feed gathers for longer, and says more in each message."""
MARKETS_AT_ONCE = 250
TURN_S = 0.1
"""At least this often the clock closes candles, and gaps that stay open are told."""
HEARTBEAT_S = 6
CONNECT_TIMEOUT_S = 5.0
RETRY_S = 0.5
STAND_BY_S = 0.5
LAST_WORDS_S = 2.0
OVERLAP_MS = 15_000
"""What a feed that stands by keeps: longer than it takes to notice that the leader's host died."""


class Publisher:
    """Owns its thread and its connection; nobody else waits for the broker.

    The connection that publishes is the one that holds the lead, so that two feeds never publish
    at once: who loses the connection has lost both.
    """

    def __init__(
        self,
        url: Callable[[], str],
        tracker: Tracker,
        *,
        on_digest: Callable[[Digest], None],
        wall_ms: Callable[[], int],
        has_readers: Callable[[], bool] = lambda: False,
        digest_spacing_s: float = DIGEST_SPACING_S,
    ) -> None:
        """``has_readers``: somebody should read digests now, and it is counted if nobody does."""
        self._url = url
        self.tracker = tracker
        self._on_digest = on_digest
        self._wall_ms = wall_ms
        self._has_readers = has_readers
        self._spacing_s = digest_spacing_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._left_over: list[Sent] = []
        """Sent on a connection that ended before they were confirmed."""
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        tracker.awaken = self._awake
        self._outlet: Outlet | None = None
        self._next_digest = 0.0
        self._beaten_at = 0.0
        self._allowed, self._allowed_at = float(MESSAGES_AT_ONCE), 0.0
        self.tally = Tally()
        self.is_leader = False
        self.is_standing_by = False
        self.is_blocked = self._has_broker = False
        self._has_led = self._was_led = False
        """This feed has; some feed has, as far as the broker's queues tell."""
        self.connects = 0
        self.turned_at = time.monotonic()
        """When its thread last went about its work, whatever that was."""
        self._said = ""

    @property
    def role(self) -> str:
        """``leads``, ``stands by``, or ``no broker``: then it can do neither."""
        if self.is_leader:
            return "leads"
        return "stands by" if self.is_standing_by and self._has_broker else "no broker"

    @property
    def published(self) -> int:
        return sum(self.tally.published.values())

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Publish what waits, if the broker takes it in this time, and leave."""
        self._stop.set()
        self._awake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self.tracker.awaken = lambda: None
            self._bell.close()
            self._ear.close()

    def _awake(self) -> None:
        # Where it has been rung often enough already, it does not fit any more.
        with contextlib.suppress(BlockingIOError):
            self._bell.send(b"!")

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turned_at = time.monotonic()
            try:
                self._stand_in_row()
            except (AMQPError, OSError, BotswarmError) as error:
                self._say(f"the broker cannot be used: {error}", logging.WARNING)
            except Exception:
                # The feed's loop: one odd answer must not end publishing for ever.
                logger.exception("publishing failed; connecting anew")
            # Who led and lost the broker leads on by itself until it hears of another leader.
            self.is_leader = self.is_blocked = self._has_broker = False
            self._stop.wait(RETRY_S)

    # --- the lead -----------------------------------------------------------------------------

    def _stand_in_row(self) -> None:
        with _connection(self._url()) as way:
            connection = way.connection
            connection.on_blocked = self._blocked
            connection.on_unblocked = self._unblocked
            self.connects += 1
            self._has_broker = True
            self._was_led = lead.prepare(connection, self.tracker.venue)
            row = lead.Lead(connection, self.tracker.venue)
            # The broker answers who is first within a moment; before that nobody stands by.
            _drain(connection, STAND_BY_S, until=lambda: row.is_ours)
            while not row.is_ours and not self._stop.is_set():
                self.turned_at = time.monotonic()
                self.is_standing_by, self._has_led = True, False
                self._say("another feed leads: standing by", logging.INFO)
                # Its gaps and candles are its own affair: who takes the lead has them settled.
                self.tracker.advance()
                self.tracker.stand_by(self._wall_ms() - OVERLAP_MS)
                self._left_over = []
                connection.heartbeat_tick()
                _drain(connection, STAND_BY_S, until=lambda: row.is_ours)
            if row.is_ours and not self._stop.is_set():
                self._lead(connection, row)

    def _lead(self, connection: Any, row: lead.Lead) -> None:
        if not lead.knock(connection, self.tracker.venue, self._stop.is_set):
            return
        outlet = self._take_the_lead(connection)
        self._say("leading: ticks and digests are published", logging.INFO)
        try:
            outlet.flush()
            while not self._stop.is_set():
                self._turn(connection, outlet)
                row.renew()
            self._say_all(outlet)
            deadline = time.monotonic() + LAST_WORDS_S
            while outlet.unconfirmed and time.monotonic() < deadline:
                outlet.read(0.1)
        finally:
            outlet.detach()
            self._left_over = [*outlet.unconfirmed.values()]
            self._outlet = None

    def _take_the_lead(self, connection: Any) -> Outlet:
        sent = [each.body for each in self._left_over]
        said = lead.read_last(connection, self.tracker.venue, sent)
        said.is_forgotten = self._was_led and said.is_empty
        self._outlet = outlet = Outlet(connection, self.tally, should_stop=self._stop.is_set)
        if self._has_led and said.sequence <= self.tracker.sequence:
            self._send_again(outlet, said)
        else:
            # Another feed has led since, or before us.
            self._left_over = []
            self.tracker.resume(said)
        self._has_led = True
        self.is_leader, self.is_standing_by = True, False
        return outlet

    def _send_again(self, outlet: Outlet, said: Said) -> None:
        """What was on its way when our connection ended, if the broker does not have it."""
        left_over, self._left_over = self._left_over, []
        # It takes them in their order: before the last that it has there is none it has not.
        arrived = max(
            (n for n, sent in enumerate(left_over, start=1) if sent.body in said.arrived), default=0
        )
        is_known = not said.is_empty
        for number, sent in enumerate(left_over[arrived:]):
            # A digest is known by the note that follows it: without one it may have arrived.
            is_sure = is_known and (number > 0 or sent.kind != "digest")
            body = sent.body if is_sure else as_repeat(sent.body)
            self.tally.repeats += not is_sure
            outlet.put(sent.key, body, sent.since, exchange=sent.exchange)

    # --- publishing ---------------------------------------------------------------------------

    def _turn(self, connection: Any, outlet: Outlet) -> None:
        self._wait(outlet)
        outlet.is_blocked = self.is_blocked
        outlet.read()
        now = self.turned_at = time.monotonic()
        if now - self._beaten_at > 1.0:
            self._beaten_at = now
            connection.heartbeat_tick()
        self.tracker.advance()
        # A broker that is short of memory says so; what is sent now would only fill the socket.
        if self.is_blocked or outlet.is_full:
            outlet.read(TURN_S)
            return
        self._allowed = min(
            MESSAGES_AT_ONCE, self._allowed + (now - self._allowed_at) * MESSAGES_PER_S
        )
        self._allowed_at = now
        if self._allowed > 0:
            self._batches(outlet, MARKETS_AT_ONCE)
        if now >= self._next_digest:
            self._digest(outlet, now)
        outlet.flush()

    def _wait(self, outlet: Outlet) -> None:
        """Until there is something to do, at most for a turn; confirms are read meanwhile."""
        if self._allowed <= 0:
            time.sleep(MARKETS_AT_ONCE / MESSAGES_PER_S / 2)
            return
        until = time.monotonic() + TURN_S
        ear, broker = self._ear.fileno(), outlet.fileno()
        # Where ticks flow, confirms are read on the way: they need no waking-up of their own.
        sources = [ear] if outlet.unconfirmed else [ear, broker]
        patience_s = CONFIRMS_WAIT_S if outlet.unconfirmed else TURN_S
        while self.tracker.rest() and not self._stop.is_set():
            due_at = self.tracker.next_digest_at()
            if due_at is not None:
                until = min(until, max(due_at, self._next_digest))
            timeout_s = max(0.0, until - time.monotonic())
            ready, _, _ = select.select(sources, (), (), min(timeout_s, patience_s))
            if broker in ready:
                outlet.read()
            if ear in ready:
                self._ear.recv(4096)
                return
            if timeout_s <= 0 or self.is_blocked:
                return
            sources, patience_s = [ear, broker], TURN_S

    def _batches(self, outlet: Outlet, markets_max: int | None) -> None:
        news = self.tracker.take_news(markets_max)
        for since, batch in news:
            self.tally.repeats += batch.is_repeat
            outlet.put(_key(batch), encode(batch), since)
        self._allowed -= len(news)

    def _digest(self, outlet: Outlet, now: float) -> None:
        digest = self.tracker.take_digest()
        if digest is None:
            return
        self._next_digest = now + self._spacing_s
        venue = digest.venue
        outlet.put(digest_key(venue), encode(digest), now, must=self._has_readers())
        note = encode_any(Note(digest.markets[0].sequence))
        outlet.put(lead.last_queue(venue), note, now, exchange="")
        outlet.flush()
        self._on_digest(digest)

    def _say_all(self, outlet: Outlet) -> None:
        self._batches(outlet, None)
        self._digest(outlet, time.monotonic())
        outlet.flush()

    # --- what the broker says -----------------------------------------------------------------

    def _blocked(self, reason: str) -> None:
        self.is_blocked = True
        if self._outlet is not None:
            self._outlet.is_blocked = True
        self._say(f"the broker takes no messages: {reason}", logging.WARNING)

    def _unblocked(self) -> None:
        self.is_blocked = False
        if self._outlet is not None:
            self._outlet.is_blocked = False
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


def _drain(connection: Any, timeout_s: float, *, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + timeout_s
    while not until() and (left_s := deadline - time.monotonic()) > 0:
        try:
            connection.drain_events(timeout=left_s)
        except (TimeoutError, BlockingIOError):
            return
