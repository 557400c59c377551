"""Events that could be somebody's attack: each is counted, and said in one line with its cause."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

logger = logging.getLogger(__name__)

SEVERITIES = {
    "connection_limit_exceeded": logging.WARNING,
    "invalid_certificate": logging.CRITICAL,
    "connection_timeout_exceeded": logging.WARNING,
    "message_size_exceeded": logging.WARNING,
    "invalid_message_format": logging.INFO,  # each by itself; many are the next one
    "parsing_error_rate_high": logging.WARNING,
    "memory_limit_exceeded": logging.CRITICAL,
    "cpu_usage_exceeded": logging.WARNING,
    "connection_leak_detected": logging.CRITICAL,
}
SAID_PER_MINUTE_MAX = 10


class _Quota:
    """So many lines of one subject in a minute; how many more there were is said with the next."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: dict[tuple[str, ...], tuple[float, int]] = {}

    def left_out(self, *subject: str) -> int:
        """How many lines were left out before this one, or -1: leave this one out too."""
        now = self._monotonic()
        since, count = self._said.get(subject, (now, 0))
        if now - since >= 60.0:
            left_out = max(0, count - SAID_PER_MINUTE_MAX)
            self._said[subject] = now, 1
            return left_out
        self._said[subject] = since, count + 1
        return 0 if count < SAID_PER_MINUTE_MAX else -1


def of_venue(counts: Counter[tuple[str, str]], venue: str) -> dict[str, int]:
    # Other threads count meanwhile: the copy is made at once.
    return {kind: count for (whose, kind), count in list(counts.items()) if whose == venue}


class SecurityLog:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By venue and kind."""
        self._quota = _Quota(monotonic)
        self._lock = threading.Lock()

    def of(self, venue: str) -> dict[str, int]:
        """How often each kind was, at this venue."""
        return of_venue(self.counts, venue)

    def note(self, venue: str, kind: str, cause: str, *, before: int | None = None) -> None:
        """``before``, of who keeps a quota of its own: lines left out before this one, or -1."""
        with self._lock:
            self.counts[venue, kind] += 1
            left_out = self._quota.left_out(venue, kind) if before is None else before
        if left_out < 0:
            return
        more = f" ({left_out} more of these before)" if left_out else ""
        logger.log(
            SEVERITIES[kind],
            "security: %s at %s: %s%s",
            kind,
            venue,
            cause,
            more,
            extra={"event": "security", "kind": kind, "venue": venue},
        )


class Rejects:
    """Frames that were left out, by reason."""

    def __init__(self, security: SecurityLog, monotonic: Callable[[], float] = time.monotonic):
        self._security = security
        self._quota = _Quota(monotonic)
        self._lock = threading.Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        """By venue and reason."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def note(self, venue: str, reason: str, words: str) -> None:
        with self._lock:
            self.counts[venue, reason] += 1
            left_out = self._quota.left_out(venue, reason)
        self._security.note(
            venue, "invalid_message_format", f"left out ({reason}): {words}", before=left_out
        )
