"""A worker's own connection to the broker, seen and ended from another thread."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any


def socket_of(connection: Any) -> socket.socket | None:
    """Of a connection of kombu's that is up."""
    inner = getattr(connection, "_connection", None)
    # Without the underscore one that has ended would be connected again, from here.
    found: socket.socket | None = getattr(getattr(inner, "_transport", None), "sock", None)
    return found


def break_off(connection: Any) -> None:
    """Ends it as a broken link would: it comes back by itself where that is wanted, and what was
    handed out over it and not acknowledged comes again.
    """
    if (sock := socket_of(connection)) is not None:
        with contextlib.suppress(OSError):
            # The method of the plain socket: one for TLS would take its own state apart while the
            # worker's loop is at it.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Silence:
    """For how long the broker has sent nothing, not even a heartbeat."""

    def __init__(self, connection: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._frames = self._heard()
        self._since = monotonic()

    def lasts_s(self) -> float:
        frames = self._heard()
        if frames != self._frames or self._has_unread():
            self._frames, self._since = frames, self._monotonic()
        return self._monotonic() - self._since

    def end(self) -> None:
        break_off(self._connection)
        self._since = self._monotonic()

    def _heard(self) -> int:
        return int(getattr(getattr(self._connection, "_connection", None), "bytes_recv", 0))

    def _has_unread(self) -> bool:
        """What waits for a loop that is busy counts. An ended connection is not silent either."""
        sock = socket_of(self._connection)
        if sock is None:
            return True
        try:
            socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
