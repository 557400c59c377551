"""Connections that wait for their next use; threads share them, a forked child has none of them."""

from __future__ import annotations

import os
import threading
import time
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Resting(Generic[Connection]):
    def __init__(self) -> None:
        self._idle: list[tuple[Connection, float]] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> tuple[Connection, float] | None:
        """One of them, and since when it rests, by the monotonic clock."""
        with self._lock:
            if self._pid != os.getpid():
                # The parent's sockets: two processes writing into one would mix their requests.
                self._idle, self._pid = [], os.getpid()
            return self._idle.pop() if self._idle else None

    def keep(self, connection: Connection) -> None:
        with self._lock:
            self._idle.append((connection, time.monotonic()))


def in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
