"""WebSockets for requests: each has a connection to itself until it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import websocket

from botswarm.exchanges.resting import Resting, in_words
from botswarm.exchanges.transport import CONNECT_TIMEOUT_S, NotSent, has_something_to_say

PROVEN_FOR_S = 10.0
"""A connection that rested for longer is asked whether it still stands before it is used."""
PONG_TIMEOUT_S = 3.0
Told = Mapping[str, Any]


class SocketPool:
    """Connections of one process; threads share them, a forked child makes its own."""

    def __init__(self, url: str, venue: str, stands: Callable[[websocket.WebSocket], bool]) -> None:
        """``stands`` asks a connection that has rested, by whatever the venue answers to."""
        self._url = url
        self._venue = venue
        self._stands = stands
        self._resting = Resting[websocket.WebSocket]()

    def take(self) -> websocket.WebSocket:
        """Raises NotSent. Whoever has one keeps it here again, or closes it."""
        while (kept := self._resting.take()) is not None:
            connection, since = kept
            is_new = time.monotonic() - since < PROVEN_FOR_S
            if (is_new and not has_something_to_say(connection.sock)) or self._stands(connection):
                return connection
            hang_up(connection)
        try:
            return websocket.create_connection(
                self._url, timeout=CONNECT_TIMEOUT_S, skip_utf8_validation=True
            )
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise NotSent(
                f"{self._venue} cannot be reached: {in_words(error)}",
                cure="check the network and the venue's address",
            ) from error

    def keep(self, connection: websocket.WebSocket) -> None:
        self._resting.keep(connection)

    def close(self) -> None:
        while (kept := self._resting.take()) is not None:
            hang_up(kept[0])

    @property
    def resting(self) -> int:
        return len(self._resting)


def object_of(frame: str | bytes) -> Told:
    """Raises ValueError for what is no object."""
    try:
        told = json.loads(frame, parse_float=Decimal)
    except RecursionError:
        told = None
    if not isinstance(told, dict):
        raise ValueError("a frame that is no object")
    return told


def hang_up(connection: websocket.WebSocket) -> None:
    """At once, in whatever state it is.

    The library's close() waits for a goodbye, and leaves the socket of who said it first.
    """
    connection.shutdown()  # type: ignore[no-untyped-call]
