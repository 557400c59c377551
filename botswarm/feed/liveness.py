"""Whether a silence means something: judged against what was usual before it."""

from __future__ import annotations

from dataclasses import dataclass

USUAL_GAPS = 20
LONGEST_GAPS = 3
FORGET = 0.999
"""Of the longest gap with each further message: after a few thousand it counts no more."""
LEARN = 0.05
KNOWN_AFTER = 20
"""Messages; before that a rhythm is a guess, and only a long silence means something."""
UNKNOWN_S = 300.0


@dataclass(slots=True)
class Pulse:
    """The rhythm of one stream, or of a whole connection."""

    floor_s: float
    last: float
    """On our monotonic clock."""
    before: int = 0
    """Messages on connections before this one, from which the rhythm is known."""
    count: int = 0
    gap_s: float = 0.0
    """The usual one, lately."""
    longest_s: float = 0.0
    """The longest lately; markets are busy and quiet by turns."""
    exchange_ms: int = 0
    """The latest moment the venue's own clock has said here."""
    advanced: float = 0.0
    """When, by our clock, the venue's last went on."""

    def beat(self, now: float, exchange_ms: int = 0) -> None:
        gap_s = now - self.last
        self.last = now
        self.count += 1
        if self.count > 1:
            self.gap_s += LEARN * (gap_s - self.gap_s)
            self.longest_s = max(gap_s, self.longest_s * FORGET)
        if exchange_ms > self.exchange_ms:
            self.exchange_ms, self.advanced = exchange_ms, now

    @property
    def limit_s(self) -> float:
        """A longer silence is improbable: twenty usual ones, and three times the longest."""
        limit_s = max(self.floor_s, USUAL_GAPS * self.gap_s, LONGEST_GAPS * self.longest_s)
        return limit_s if self.before + self.count >= KNOWN_AFTER else max(limit_s, UNKNOWN_S)

    def goes_on(self, now: float) -> Pulse:
        """The same stream on another connection: its rhythm is the same."""
        return Pulse(
            self.floor_s,
            now,
            before=self.before + self.count,
            gap_s=self.gap_s,
            longest_s=self.longest_s,
        )

    def silent_s(self, now: float) -> float:
        return now - self.last

    def is_quiet(self, now: float) -> bool:
        return self.before + self.count > 0 and now - self.last > self.limit_s

    def is_stale(self, now: float) -> bool:
        """It talks, but of a time that does not go on: a copy of old messages, or a stuck venue."""
        talks = self.count > 0 and not self.is_quiet(now)
        return talks and self.exchange_ms > 0 and self.last - self.advanced > self.limit_s
