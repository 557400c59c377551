"""Answers whoever asks the feeds how they are: over the broker, so from any machine's shell.

Each process has a queue of its own on a fanout exchange, so one question reaches all of them, on
every machine, leading or standing by; each answers to the asker's own queue. Nothing is published
while nobody asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import amqp
import msgspec
from amqp.exceptions import AMQPError
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import BotswarmError

logger = logging.getLogger(__name__)

ASK_EXCHANGE = "botswarm.feed.ask"
HEARTBEAT_S = 30
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 2.0
LISTEN_S = 1.0
RETRY_S, RETRY_MAX_S = 1.0, 15.0

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Reception:
    """A thread and a connection of its own: whoever asks delays nothing."""

    def __init__(self, url: Callable[[], str], state: Callable[[], object]) -> None:
        self._url = url
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reception", daemon=True)
        self._pause_s = RETRY_S
        self.connects = 0
        self.answered = 0
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._receive()
            except (AMQPError, OSError, BotswarmError) as error:
                # The publisher says it loudly; here it only means that nobody can ask.
                logger.debug("nobody can ask how the feed is: %s", error)
            except Exception:
                logger.exception("answering how the feed is failed; going on")
            self._stop.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)

    def _receive(self) -> None:
        make: Any = Connection  # kombu's types are not all there
        with make(self._url(), heartbeat=HEARTBEAT_S, connect_timeout=CONNECT_TIMEOUT_S) as way:
            connection = way.connection
            channel = connection.channel()
            declare(channel)
            queue = channel.queue_declare("", exclusive=True, auto_delete=True).queue
            channel.queue_bind(queue, ASK_EXCHANGE)
            channel.basic_consume(
                queue, no_ack=True, callback=lambda message: self._answer(channel, message)
            )
            self.connects += 1
            self._pause_s = RETRY_S
            while not self._stop.is_set():
                try:
                    connection.drain_events(timeout=LISTEN_S)
                except TimeoutError:
                    connection.heartbeat_tick()

    def _answer(self, channel: Any, message: Any) -> None:
        reply_to = message.properties.get("reply_to")
        if not reply_to:
            self.failed += 1
            return
        body = amqp.Message(
            _encode(self._state()),
            content_type="application/json",
            correlation_id=message.properties.get("correlation_id", ""),
        )
        channel.basic_publish(body, "", reply_to, timeout=WRITE_TIMEOUT_S)
        self.answered += 1


def declare(channel: Any) -> None:
    channel.exchange_declare(ASK_EXCHANGE, "fanout", durable=True, auto_delete=False)
