"""When a venue is asked whether it is there, and what its answers say."""

from __future__ import annotations

from botswarm.feed.rules import PoolRules

FIRST_AFTER_S = 1.0


class Pinger:
    """It sends nothing itself: who holds the socket does, when this says so."""

    def __init__(self, rules: PoolRules, now: float) -> None:
        self._rules = rules
        self.sent = now
        self._is_waiting = False
        self.missed = 0
        """In a row."""
        self.missed_in_all = 0
        self.answers = 0
        self.rtt_ms: float | None = None

    def begin(self, now: float) -> None:
        """The first ping soon: until then nobody knows how far the venue is away."""
        self.sent = now - self._rules.ping_every_s + min(FIRST_AFTER_S, self._rules.ping_every_s)

    def is_due(self, now: float, *, is_suspicious: bool) -> bool:
        if self._is_waiting:
            return False
        # One that was missed is followed by the next at once; so is a silence that is strange.
        is_sooner = self.missed > 0 or is_suspicious
        pause_s = min(1.0, self._rules.ping_every_s) if is_sooner else self._rules.ping_every_s
        return now - self.sent >= pause_s

    def send(self, now: float) -> None:
        self.sent, self._is_waiting = now, True

    def answered(self, now: float) -> None:
        if self._is_waiting:
            self.rtt_ms = (now - self.sent) * 1000
            self._is_waiting = False
            self.answers += 1
        self.missed = 0

    def look(self, now: float) -> bool:
        """Whether so many were missed that it must end."""
        if self._is_waiting and now - self.sent > self._rules.pong_timeout_s:
            self._is_waiting = False
            self.missed += 1
            self.missed_in_all += 1
        return self.missed >= self._rules.pings_missed_max
