"""Hears what the feed says on its exchange, whatever comes in, and keeps market books by it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import BotswarmError, Malformed
from botswarm.market.book import MarketBook
from botswarm.market.wire import EXCHANGE, Batch, Digest, decode

logger = logging.getLogger(__name__)

ANY_DIGEST = "*.digest"
HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 2.0
SAID_MAX = 10
# A process that is held up for long needs the newest digests, and its book mends the rest.
WAITING_MAX = 500


class Listener:
    """A thread and a connection of its own: neither waits for the process it lives in."""

    def __init__(
        self,
        url: Callable[[], str],
        keys: Sequence[str],
        hear: Callable[[Digest | Batch], None],
        *,
        name: str,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """``url`` is asked before each connection: the embedded broker may have moved.

        ``hear`` runs in the thread.
        """
        self._name = name
        self._keys = keys
        self._hear = hear
        self._waiting_max = waiting_max
        self._url = url
        self._stopped = threading.Event()
        self._following = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._trouble = ""
        self.malformed = 0
        self.connects = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wait_until_following(self, timeout_s: float) -> bool:
        """Whether digests reach the book from now on, waiting at most so long."""
        return self._following.wait(timeout_s)

    def _run(self) -> None:
        pause_s = RETRY_FIRST_S
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._follow()
            except (AMQPError, OSError, BotswarmError) as error:
                if str(error) != self._trouble:
                    logger.warning("the %s hears nothing: %s; trying again", self._name, error)
                self._trouble = str(error)
            except Exception:
                # An entrance: whatever it was, the worker and the next attempt live on.
                logger.exception("the connection of the %s failed; trying again", self._name)
            self._following.clear()
            lasted = time.monotonic() - began > RETRY_MAX_S
            pause_s = RETRY_FIRST_S if lasted else min(2 * pause_s, RETRY_MAX_S)
            self._stopped.wait(pause_s)

    def _follow(self) -> None:
        with _connection(self._url()) as way:
            connection = way.connection
            channel = connection.channel()
            # The same words as the feed's: whoever comes first makes it.
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            queue = channel.queue_declare(
                "",
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length": self._waiting_max, "x-overflow": "drop-head"},
            ).queue
            for key in self._keys:
                channel.queue_bind(queue, EXCHANGE, key)
            channel.basic_consume(queue, no_ack=True, callback=self._on_message)
            self.connects += 1
            self._trouble = ""
            self._following.set()
            while not self._stopped.is_set():
                connection.heartbeat_tick()
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue

    def _on_message(self, message: Any) -> None:
        try:
            self._hear(decode(message.body))
        except Malformed as error:
            self._left_out(error)
        except Exception as error:
            # Never raised: one odd message must not cost the process its market.
            self._left_out(error)

    def _left_out(self, error: Exception) -> None:
        self.malformed += 1
        if self.malformed <= SAID_MAX:
            logger.warning("a message on %s was left out: %s", EXCHANGE, error)


class Follower(Listener):
    """Keeps a book up to date. Start it in the process that evaluates: in a child, after the fork.

    It counts what it was told.
    """

    def __init__(self, url: Callable[[], str], book: MarketBook) -> None:
        super().__init__(url, (ANY_DIGEST,), self._apply, name="market book")
        self.book = book
        self.digests = 0

    def _apply(self, message: Digest | Batch) -> None:
        if isinstance(message, Digest):
            self.book.apply(message)
            self.digests += 1


def _connection(url: str) -> Any:
    return Connection(  # type: ignore[no-untyped-call]
        url, heartbeat=HEARTBEAT_S, connect_timeout=CONNECT_TIMEOUT_S
    )
