"""What strategies cost: how often each was asked, and how long it took at the most."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

SLOW_MS = 50.0
"""One decision that takes longer is said in the log: it holds up all others of its worker."""


@dataclass(slots=True, kw_only=True)
class Cost:
    """Of one strategy in one process, since somebody last took the figures."""

    strategy: str
    asked: int = 0
    """Decisions that a bot was asked for by itself."""
    ranked: int = 0
    """Bots that were looked at side by side with others."""
    spent_ms: float = 0.0
    """Processor time of the former."""
    slowest_ms: float = 0.0
    slowest_bot: str = ""


class Costs:
    def __init__(self) -> None:
        self._by_name: dict[str, Cost] = {}
        self._lock = threading.Lock()

    def took(self, strategy: str, bot: str, took_s: float) -> None:
        with self._lock:
            cost = self._of(strategy)
            cost.asked += 1
            cost.spent_ms += took_s * 1e3
            if took_s * 1e3 > cost.slowest_ms:
                cost.slowest_ms, cost.slowest_bot = took_s * 1e3, bot

    def ranked(self, strategy: str, bots: int) -> None:
        with self._lock:
            self._of(strategy).ranked += bots

    def take(self) -> Sequence[Cost]:
        """The dearest first; counting begins anew."""
        with self._lock:
            found, self._by_name = self._by_name, {}
        return sorted(found.values(), key=lambda each: -each.spent_ms)

    def _of(self, strategy: str) -> Cost:
        return self._by_name.setdefault(strategy, Cost(strategy=strategy))
