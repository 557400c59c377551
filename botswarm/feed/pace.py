"""Keeps what we send below what a venue allows, over one connection or over all of them."""

from __future__ import annotations

import threading

SHARE = 0.8
"""Of what the venue allows: the network may push together what we sent apart."""


class Pace:
    def __init__(self, messages_per_s: float) -> None:
        self._spacing_s = 1 / (messages_per_s * SHARE)
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> float:
        """0.0 and one message may go, or how long to wait before asking again."""
        with self._lock:
            if now < self._next:
                return self._next - now
            self._next = now + self._spacing_s
            return 0.0
