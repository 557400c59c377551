"""Batches to the exchange ``ticks`` with confirms, for whoever is not the feed."""

from __future__ import annotations

import time
from typing import Any

import amqp

from botswarm.errors import TimedOut
from botswarm.market.wire import CONTENT_TYPE, EXCHANGE, Batch, encode, tick_key

UNCONFIRMED_MAX = 1000
CONFIRM_TIMEOUT_S = 30.0
TRANSIENT = 1


class Broadcast:
    """Over a channel that is open; one thread uses it."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._connection = channel.connection
        self._waiting: set[int] = set()
        self._tag = 0
        self.confirmed = 0
        self.refused = 0
        """By a reader's queue that is full; the other readers got it."""
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.confirm_select()

    def send(self, batch: Batch) -> None:
        """Raises TimedOut when the broker takes nothing for half a minute."""
        self._tag += 1
        self._waiting.add(self._tag)
        message = amqp.Message(
            encode(batch),
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            delivery_mode=TRANSIENT,
            application_headers={"replay": True},
        )
        key = tick_key(batch.venue, batch.symbol, batch.kind)
        self._channel.basic_publish(message, EXCHANGE, key, timeout=CONFIRM_TIMEOUT_S)
        self._settle(UNCONFIRMED_MAX)

    def finish(self) -> None:
        self._settle(0)

    def rest(self, seconds: float) -> None:
        """A pause in which the broker is listened to."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._drain(left)

    def _settle(self, allowed: int) -> None:
        deadline = time.monotonic() + CONFIRM_TIMEOUT_S
        while len(self._waiting) > allowed:
            before = len(self._waiting)
            self._drain(0.5)
            if len(self._waiting) < before:
                deadline = time.monotonic() + CONFIRM_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise TimedOut(
                    f"the broker confirmed nothing for {CONFIRM_TIMEOUT_S:.0f} s",
                    cure="look for a memory or disk alarm: botswarm broker status",
                )

    def _drain(self, timeout_s: float) -> None:
        try:
            self._connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return

    def _acked(self, tag: int, multiple: bool) -> None:
        self.confirmed += self._done(tag, multiple)

    def _nacked(self, tag: int, multiple: bool) -> None:
        self.refused += self._done(tag, multiple)

    def _done(self, tag: int, multiple: bool) -> int:
        done = {each for each in self._waiting if each <= tag} if multiple else {tag}
        self._waiting -= done
        return len(done)
