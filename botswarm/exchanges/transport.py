"""HTTP to a venue: connections kept alive, every request sent at most once."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botswarm.errors import Unreachable
from botswarm.exchanges.resting import Resting, in_words

if TYPE_CHECKING:
    from botswarm.exchanges.allowance import Allowance

CONNECT_TIMEOUT_S = 3.0
# Longer than the engine's own ten seconds: its word that it does not know is still its word.
ANSWER_TIMEOUT_S = 12.0
# Servers close connections that rest; a request sent into the closing is of unknown outcome.
IDLE_MAX_S = 20.0
# All markets of Binance were 1.86 MB in 2021.
BODY_MAX = 16 * 1024 * 1024
BAN_DEFAULT_S = 60.0


class NotSent(Unreachable):
    """Not one byte of the request has left: the same request may be made again."""


class NoAnswer(Unreachable):
    """The request may have arrived, whatever became of it."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Their names in lower case."""


class Transport:
    """Connections of one process to one host; threads share it, forked children start anew."""

    def __init__(
        self,
        base_url: str,
        allowance: Allowance | None = None,
        *,
        ban_default_s: float = BAN_DEFAULT_S,
    ) -> None:
        """``allowance`` is told of bans, and nothing is sent within one.

        ``ban_default_s`` is for venues that refuse whoever is too fast and do not say how long.
        """
        parts = urlsplit(base_url)
        self.url = base_url
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._resting = Resting[http.client.HTTPConnection]()
        self._allowance = allowance
        self._ban_default_s = ban_default_s

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """Send once and read the answer. Raises NotSent or NoAnswer."""
        connection = self._permitted()
        try:
            connection.request(method, self._path + target, body, dict(headers))
            response = connection.getresponse()
            told = response.read(BODY_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(
                f"{self._host} did not answer: {in_words(error)}", cure="see the venue's status"
            ) from error
        if len(told) > BODY_MAX:
            connection.close()
            raise NoAnswer(f"{self._host} answered with more than {BODY_MAX} bytes")
        if response.will_close:
            connection.close()
        else:
            self._resting.keep(connection)
        said = {name.lower(): value for name, value in response.getheaders()}
        if response.status in (418, 429):
            self._note_ban(response.status, said.get("retry-after"))
        return Response(response.status, told, said)

    def warm(self) -> None:
        """Have a connection ready, so that what is sent next fails now or not for that reason."""
        self._obey_ban()
        self._resting.keep(self._connection())

    def close(self) -> None:
        while (kept := self._resting.take()) is not None:
            kept[0].close()

    # --- connections --------------------------------------------------------------------------

    def _connection(self) -> http.client.HTTPConnection:
        while (kept := self._resting.take()) is not None:
            connection, since = kept
            if time.monotonic() - since < IDLE_MAX_S and not has_something_to_say(connection.sock):
                return connection
            connection.close()
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
            if self._context is None
            else http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_TIMEOUT_S, context=self._context
            )
        )
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NotSent(
                f"{self._host} cannot be reached: {in_words(error)}",
                cure="check the network and the venue's address",
            ) from error
        connection.sock.settimeout(ANSWER_TIMEOUT_S)
        # Head and body leave in two writes; without this the second waits for an acknowledgement.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # An ended connection shall be an error, never a silent second connection.
        connection.auto_open = 0
        return connection

    # --- bans ---------------------------------------------------------------------------------

    def _permitted(self) -> http.client.HTTPConnection:
        self._obey_ban()
        connection = self._connection()
        try:
            # Connecting took its time, and another process may have been told to stop meanwhile.
            self._obey_ban()
        except NotSent:
            self._resting.keep(connection)
            raise
        return connection

    def _obey_ban(self) -> None:
        if self._allowance is not None:
            self._allowance.obey()

    def _note_ban(self, status: int, retry_after: str | None) -> None:
        if self._allowance is not None:
            is_number = retry_after is not None and retry_after.isdecimal()
            seconds = float(retry_after or 0) if is_number else self._ban_default_s
            self._allowance.banned(seconds, f"{self._host} answered {status}")


def has_something_to_say(resting: socket.socket | None) -> bool:
    """A resting connection that can be read from was closed, or says what nobody asked."""
    if resting is None:
        return True
    poll = select.poll()
    poll.register(resting, select.POLLIN)
    return bool(poll.poll(0))
