"""How often each address may connect to each venue's streams, and who came too often."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from botswarm.exchanges.simulated.limits import (
    CONNECTION_WINDOW_MS,
    CONNECTIONS_PER_WINDOW,
    Recent,
)

Outcome = Literal["accepted", "refused", "throttled", "limited", "banned"]
"""Refused and throttled by order, limited and banned for coming too often."""
KEPT: Final = 20_000
REFUSED_BEFORE_BAN: Final = 20
BAN_MS: Final = 120_000
BUDGETS: Final[Mapping[str, tuple[int, int]]] = {
    "binance": (CONNECTIONS_PER_WINDOW, CONNECTION_WINDOW_MS),
    "coinbase": (8, 1_000),
    # Eight a second with a burst of twenty.
    "coinbase-exchange": (20, 2_500),
    "kraken": (150, 600_000),
}
"""At most so many within any stretch of so many milliseconds, refused ones included."""


@dataclass(frozen=True, slots=True)
class Attempt:
    at_ms: int
    venue: str
    peer: str
    outcome: Outcome


@dataclass(slots=True)
class _Guest:
    recent: Recent
    refused: int = 0
    banned_until_ms: int = 0


@dataclass(slots=True)
class Attempts:
    counts: dict[tuple[str, Outcome], int] = field(default_factory=dict)
    latest: deque[Attempt] = field(default_factory=lambda: deque(maxlen=KEPT))
    limited_until_ms: dict[str, int] = field(default_factory=dict)
    """Venues that were told to answer 429 to everybody."""
    _guests: dict[tuple[str, str], _Guest] = field(default_factory=dict)

    def judge(self, venue: str, peer: str, now_ms: int, *, is_down: bool) -> Outcome:
        """Counted whatever comes of it, as venues do."""
        guest = self._guests.setdefault((venue, peer), _Guest(Recent(*BUDGETS[venue])))
        is_within = guest.recent.admits(now_ms)
        outcome = self._outcome(guest, venue, now_ms, is_within=is_within, is_down=is_down)
        self.counts[venue, outcome] = self.counts.get((venue, outcome), 0) + 1
        self.latest.append(Attempt(now_ms, venue, peer, outcome))
        return outcome

    def _outcome(
        self, guest: _Guest, venue: str, now_ms: int, *, is_within: bool, is_down: bool
    ) -> Outcome:
        if now_ms < guest.banned_until_ms:
            return "banned"
        if is_within:
            guest.refused = 0
        else:
            guest.refused += 1
            if guest.refused > REFUSED_BEFORE_BAN:
                guest.banned_until_ms = now_ms + BAN_MS
                return "banned"
            return "limited"
        if is_down:
            return "refused"
        return "throttled" if now_ms < self.limited_until_ms.get(venue, 0) else "accepted"

    def retry_after_s(self, venue: str, peer: str, now_ms: int) -> int:
        until = max(self._guests[venue, peer].banned_until_ms, self.limited_until_ms.get(venue, 0))
        if until > now_ms:
            return -(-(until - now_ms) // 1000)
        return max(1, BUDGETS[venue][1] // 1000)

    def described(self) -> dict[str, object]:
        found: dict[str, dict[str, int]] = {}
        for (venue, outcome), count in self.counts.items():
            found.setdefault(venue, {})[outcome] = count
        return dict(found)
