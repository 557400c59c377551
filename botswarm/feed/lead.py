"""Which feed of a venue publishes, and what the one before it had said when it ended.

The lead is a queue with a single active consumer: the broker picks one feed, tells it at once by
handing it the token in the queue, and picks another when that one's connection is gone. The token
is held on the connection that publishes, so whoever lost the lead cannot publish any more.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import amqp

from botswarm.errors import Unreachable
from botswarm.feed.said import Said
from botswarm.market.wire import EXCHANGE

LAST_MAX = 4000
"""Messages the broker keeps of what was said last: of the busiest feed, the last half second."""
LAST_EXPIRES_MS = 600_000
UNDER_WAY_S = 0.05
"""What a leader sent before it died may still be on its way through the broker for a moment."""
READ_TIMEOUT_S = 5.0
"""Without one more message; a machine that is busy may take longer for all of them."""
RENEW_EVERY_S = 300.0
"""Brokers end whoever holds a message for half an hour."""

KNOCK_S = 0.2
TOKEN = b"lead"
NOTHING = b'{"kind":"note","sequence":0}'
PIECE = 65_536
FRAME_HEAD: Final = struct.Struct(">BHI")


def lead_queue(venue: str) -> str:
    return f"botswarm.feed.{venue}.lead"


def last_queue(venue: str) -> str:
    return f"botswarm.feed.{venue}.last"


class Lead:
    """One feed's place in the row of those that would lead."""

    def __init__(self, connection: Any, venue: str) -> None:
        self._venue = venue
        self._channel = connection.channel()
        self._tag: int | None = None
        self._renewed_at = time.monotonic()
        name = lead_queue(venue)
        self._channel.queue_declare(
            name,
            durable=True,
            auto_delete=False,
            arguments={
                "x-single-active-consumer": True,
                "x-max-length": 1,
                "x-overflow": "drop-head",
            },
        )
        self._channel.basic_qos(0, 1, False)
        self._channel.basic_consume(name, callback=self._on_token)
        # Whoever stands in the row brings a token: there is always one for the next.
        self._channel.basic_publish(amqp.Message(TOKEN), "", name)

    @property
    def is_ours(self) -> bool:
        return self._tag is not None

    def renew(self) -> None:
        """Call it now and then."""
        if self._tag is not None and time.monotonic() - self._renewed_at > RENEW_EVERY_S:
            # It comes back at once, for we are still the one consumer that is active.
            self._renewed_at = time.monotonic()
            self._channel.basic_reject(self._tag, requeue=True)

    def _on_token(self, message: Any) -> None:
        self._tag = message.delivery_info["delivery_tag"]


def prepare(connection: Any, venue: str) -> bool:
    """Make what is published to, and the queue that keeps the last of it; whether it was there."""
    was_there = _exists(connection, last_queue(venue))
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
    channel.queue_declare(
        last_queue(venue),
        durable=True,
        auto_delete=False,
        arguments={
            "x-max-length": LAST_MAX,
            "x-overflow": "drop-head",
            "x-expires": LAST_EXPIRES_MS,
        },
    )
    # Batches have three words. The digest is noted there by its number only.
    channel.queue_bind(last_queue(venue), EXCHANGE, f"{venue}.*.*")
    channel.close()
    return was_there


def _exists(connection: Any, queue: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.NotFound:
        return False  # the broker has closed the channel
    channel.close()
    return True


def knock(connection: Any, venue: str, should_stop: Callable[[], bool]) -> bool:
    """Return when the broker takes messages; False where we were told to stop before.

    While it is short of memory it holds what the last leader sent, also when that one has gone,
    and lets it in afterwards: it must not be said again by whoever leads meanwhile.
    """
    channel = connection.channel()
    heard: list[object] = []
    channel.events["basic_ack"].add(lambda *words: heard.append(words))
    channel.confirm_select()
    # The first is let in by a broker that holds all others back, and tells it to do so.
    for count in (1, 2):
        channel.basic_publish(amqp.Message(NOTHING), "", last_queue(venue))
        while len(heard) < count:
            if should_stop():
                return False
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=KNOCK_S)
            connection.heartbeat_tick()
    # Closed with its connection: closing it alone would wait for a broker that is short again.
    return True


def read_last(connection: Any, venue: str, sent: Iterable[bytes] = ()) -> Said:
    """What was said last, and which of ``sent``; it stays in the queue, for whoever leads next."""
    said = Said(sent)
    channel = connection.channel()
    count = channel.queue_declare(last_queue(venue), passive=True).message_count

    def on_message(message: Any) -> None:
        body = message.body
        said.add(body if isinstance(body, bytes) else body.encode())

    channel.basic_consume(last_queue(venue), callback=on_message)
    deadline = time.monotonic() + READ_TIMEOUT_S
    while True:
        before = said.read
        try:
            _take_in(connection, UNDER_WAY_S if said.read >= count else 1.0)
        except TimeoutError:
            if said.read >= count:
                break
        connection.heartbeat_tick()
        if said.read > before:
            deadline = time.monotonic() + READ_TIMEOUT_S
        elif time.monotonic() > deadline:
            # Who leads on half of it says the other half again.
            raise Unreachable(
                f"the broker gave {said.read} of {count} messages that were said last",
                cure="see the broker's log; it is tried again by itself",
            )
    said.is_all = said.read < LAST_MAX
    # All of it goes back to where it was.
    channel.close()
    return said


def _take_in(connection: Any, timeout_s: float) -> None:
    """What the broker sent, in few large pieces; raises TimeoutError where nothing came.

    The library reads a frame in three small ones. Each of them lets all other threads go first,
    and where four venues' feeds read thousands of frames that took seconds.
    """
    transport = connection.transport
    if isinstance(transport.sock, ssl.SSLSocket):
        connection.drain_events(timeout=timeout_s)
        return
    readable, _, _ = select.select((transport.sock,), (), (), timeout_s)
    if not readable:
        raise TimeoutError
    heard = transport.sock.recv(PIECE, socket.MSG_DONTWAIT)
    if not heard:
        raise Unreachable("the broker hung up")
    transport._read_buffer += heard
    while _has_frame(transport._read_buffer):
        connection.blocking_read()


def _has_frame(heard: bytes) -> bool:
    if len(heard) < FRAME_HEAD.size:
        return False
    _, _, size = FRAME_HEAD.unpack_from(heard)
    return len(heard) > FRAME_HEAD.size + int(size)
