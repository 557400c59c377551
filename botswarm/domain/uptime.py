"""For what share of the time the swarm was up, by the spans in which somebody saw it well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

GAP = timedelta(seconds=30)
"""Looks further apart than that are not one span: what nobody saw well was down."""
DAY = timedelta(days=1)
WINDOWS: Mapping[str, timedelta] = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
LONGEST = max(WINDOWS.values())
PROMISED = 0.999
JUDGED_FROM = DAY
"""Before so much is known, a single restart would break what is promised of a month."""


@dataclass(frozen=True, slots=True)
class Span:
    """The swarm was seen well again and again, from one moment to another."""

    began_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptime:
    first_at: datetime
    """The swarm was not known before."""
    shares: Mapping[str, float]
    """By window, from 0 to 1; of what is known of it."""
    down_s: Mapping[str, float]
    """By window."""

    def is_judged(self, now: datetime) -> bool:
        return now - self.first_at >= JUDGED_FROM


def uptime(spans: Sequence[Span], now: datetime) -> Uptime | None:
    """None where it was never seen well. ``spans`` are those of the longest window, and one before
    it where there is any: since when the swarm is known cannot be told otherwise.
    """
    if not spans:
        return None
    first_at = min(min(each.began_at for each in spans), now)
    shares, down_s = {}, {}
    for name, window in WINDOWS.items():
        begin = max(now - window, first_at)
        known_s = (now - begin).total_seconds()
        up_s = sum((until - at).total_seconds() for at, until in _within(spans, begin, now))
        shares[name] = up_s / known_s if known_s > 0 else 1.0
        down_s[name] = known_s - up_s
    return Uptime(first_at=first_at, shares=shares, down_s=down_s)


def _within(
    spans: Sequence[Span], begin: datetime, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """What lies between the two, once where several machines saw it."""
    counted = begin
    for each in sorted(spans, key=lambda span: span.began_at):
        # The next look is not due yet, so what came after the last one is not known to be down.
        until = now if timedelta(0) <= now - each.until <= GAP else min(each.until, now)
        at = max(each.began_at, counted)
        if at < until:
            yield at, until
            counted = until
