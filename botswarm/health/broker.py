"""Short questions to a broker over one connection that is kept, for checks and for figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from botswarm.config import Secret
from botswarm.errors import BotswarmError, Unreachable
from botswarm.health.watch import Finding

LIMIT_S = 2.0
PORT, ENCRYPTED_PORT = 5672, 5671


def vhost_of(url: Secret) -> str:
    return unquote(urlsplit(url.reveal()).path[1:]) or "/"


def connect(url: Secret, name: str, limit_s: float) -> Any:
    """A connection of the client library; raises OSError or AMQPError."""
    from amqp import Connection

    parts = urlsplit(url.reveal())
    encrypted = parts.scheme == "amqps"
    host = parts.hostname or ""
    port = parts.port or (ENCRYPTED_PORT if encrypted else PORT)
    connection = Connection(
        host=f"{f'[{host}]' if ':' in host else host}:{port}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=vhost_of(url),
        # Without the name a certificate of any host would do.
        ssl={"server_hostname": host} if encrypted else False,
        connect_timeout=limit_s,
        read_timeout=limit_s,
        write_timeout=limit_s,
        client_properties={"connection_name": name},
    )
    try:
        connection.connect()
    except BaseException:
        # A broker that took the call and did not go on leaves a socket open.
        connection.collect()
        raise
    return connection


class Broker:
    """One thread's own. A connection that fails is forgotten, and the next question makes one."""

    def __init__(self, url: Callable[[], Secret | None], name: str) -> None:
        """``url`` is asked before each connection: the embedded broker may have moved."""
        self._url = url
        self._name = name
        self._connection: Any = None

    def look(self) -> Finding:
        """A channel is opened and closed: that costs the broker nothing and changes nothing."""
        began = time.monotonic()
        self.ask(lambda _: None)
        took_ms = (time.monotonic() - began) * 1000
        return Finding(words=f"answers in {took_ms:.1f} ms", value=round(took_ms, 1))

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What a channel of its own is asked; raises Unreachable, and lets a ChannelError pass."""
        from amqp.exceptions import AMQPError, ChannelError

        try:
            with self._channel() as channel:
                return question(channel)
        except ChannelError:
            raise
        except (OSError, AMQPError) as error:
            self.forget()
            raise self._unreachable(error) from error

    def counts(self, queue: str) -> tuple[int, int] | None:
        """Messages that wait and consumers; None where there is no such queue."""
        from amqp.exceptions import NotFound

        try:
            answer = self.ask(lambda channel: channel.queue_declare(queue, passive=True))
        except NotFound:
            return None
        return int(answer.message_count), int(answer.consumer_count)

    def is_held(self, queue: str) -> bool:
        """Whether somebody's connection owns this exclusive queue."""
        from amqp.exceptions import NotFound, ResourceLocked

        try:
            self.ask(lambda channel: channel.queue_declare(queue, passive=True))
        except ResourceLocked:
            return True
        except NotFound:
            return False
        return True

    def forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect()

    @contextlib.contextmanager
    def _channel(self) -> Any:
        if self._connection is None:
            url = self._url()
            if url is None:
                raise Unreachable(
                    "no broker is configured, and none was started here",
                    cure="start one: botswarm up; or set BOTSWARM_BROKER_URL",
                )
            self._connection = connect(url, self._name, LIMIT_S)
        channel = self._connection.channel()
        yield channel
        # What failed on it has closed it already.
        channel.close()

    def _unreachable(self, error: Exception) -> BotswarmError:
        url = self._url()
        where = "" if url is None else f" at {url.masked}"
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"the broker{where} does not answer ({str(words).lower()})",
            cure="look whether it runs, and for a memory or disk alarm: botswarm broker status",
        )
