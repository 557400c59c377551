"""Mishaps of the streams at random, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from botswarm.exchanges.simulated.faults import VENUES

PER_SECOND: Final = 0.5
KINDS: Final[Mapping[str, float]] = {
    "disconnect_streams": 4,
    "half_open": 2,
    "no_pong": 1,
    "no_ping": 1,
    "shutdown": 2,
    "outage": 1,
    "limit_connects": 1,
    "trickle": 1,
    "withhold": 6,
    "repeat": 4,
    "reorder": 3,
    "price_zero": 1,
    "price_negative": 1,
    "price_nan": 1,
    "price_huge": 1,
    "crossed_quote": 1,
    "crossed_book": 1,
    "bad_checksum": 1,
    "stale_snapshot": 1,
    "garbage_frame": 2,
    "text_frame": 1,
    "binary_frame": 1,
    "deep_frame": 1,
    "oversized_frame": 1,
}
"""How often each, against the others."""
SECONDS: Final[Mapping[str, tuple[float, float]]] = {
    "outage": (1.0, 8.0),
    "limit_connects": (1.0, 5.0),
    "shutdown": (0.0, 2.0),
    "trickle": (2.0, 5.0),
}


class RandomStreams:
    def __init__(self, seed: int, until_ms: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a seed is the point of it
        self._until_ms = until_ms
        self._next_ms = 0

    def is_over(self, now_ms: int) -> bool:
        return now_ms >= self._until_ms

    def due(self, now_ms: int) -> list[dict[str, object]]:
        if now_ms < self._next_ms or self.is_over(now_ms):
            return []
        is_first = not self._next_ms
        self._next_ms = now_ms + int(1000 * self._random.expovariate(PER_SECOND))
        return [] if is_first else [self.wish()]

    def wish(self) -> dict[str, object]:
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        wish: dict[str, object] = {"kind": kind, "venue": self._random.choice(VENUES)}
        if kind in SECONDS:
            wish["seconds"] = round(self._random.uniform(*SECONDS[kind]), 1)
        if kind in ("withhold", "repeat", "reorder"):
            wish["times"] = self._random.randint(1, 3)
        if kind in ("disconnect_streams", "half_open"):
            wish["share"] = self._random.choice((0.5, 1.0))
        return wish
