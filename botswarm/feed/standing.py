"""How the streams of all venues stand, as a check of health wants to know it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from botswarm.feed.publisher import Publisher
from botswarm.feed.state import PoolState
from botswarm.health.check import Status
from botswarm.health.watch import Finding

SILENT_WARN_S, SILENT_FAIL_S = 10.0, 30.0
START_S = 30.0
"""So long a venue may take to be connected before that is a failure."""
CERTIFICATE_WARN_DAYS, CERTIFICATE_FAIL_DAYS = 14.0, 3.0


class _Pool(Protocol):
    def state(self) -> PoolState: ...


class Followed(Protocol):
    """A venue's feed, as far as it is looked at."""

    publisher: Publisher

    @property
    def venue(self) -> str: ...
    @property
    def pool(self) -> _Pool: ...


class Streams:
    """Of all venues of one process."""

    def __init__(self, feeds: Callable[[], Sequence[Followed]], score_low: float) -> None:
        self._feeds = feeds
        self._score_low = score_low
        self._began = time.monotonic()
        self._was_connected: set[str] = set()

    def look(self) -> Finding:
        feeds = self._feeds()
        if not feeds:
            return Finding(words="waiting for the first venue", status=self._late())
        found = [self._of(feed.pool.state()) for feed in feeds]
        order: tuple[Status, ...] = ("ok", "warn", "fail")
        silent = [silent_s for _, _, silent_s in found if silent_s is not None]
        return Finding(
            words="; ".join(words for words, _, _ in found),
            value=round(max(silent, default=0.0), 1),
            status=max((status for _, status, _ in found), key=order.index),
        )

    def _late(self) -> Status:
        return "warn" if time.monotonic() - self._began < START_S else "fail"

    def _of(self, state: PoolState) -> tuple[str, Status, float | None]:
        venue = state.venue
        if not state.is_connected:
            status = "fail" if venue in self._was_connected else self._late()
            why = f": {state.last_failure}" if state.last_failure else ""
            return f"{venue} is not connected{why}", status, None
        self._was_connected.add(venue)
        up = [each.silent_s for each in state.connections if each.state in ("up", "leaving")]
        silent_s = min(up, default=0.0)
        words = f"{venue} was heard {silent_s:.1f} s ago, health {state.score:.2f}"
        if silent_s > SILENT_FAIL_S:
            return words, "fail", silent_s
        is_low = silent_s > SILENT_WARN_S or (
            state.score < self._score_low and time.monotonic() - self._began > START_S
        )
        return words, "warn" if is_low else "ok", silent_s

    def certificates(self) -> Finding:
        days = {
            state.venue: each.certificate_days
            for state in (feed.pool.state() for feed in self._feeds())
            for each in state.connections
            if each.certificate_days is not None
        }
        if not days:
            return Finding(words="no connection is encrypted")
        soonest = min(days, key=lambda venue: days[venue])
        left = days[soonest]
        status: Status = "fail" if left < CERTIFICATE_FAIL_DAYS else "ok"
        if status == "ok" and left < CERTIFICATE_WARN_DAYS:
            status = "warn"
        words = f"that of {soonest} is good for {left:.0f} days"
        return Finding(words=words, value=round(left, 1), status=status)

    def facts(self) -> Mapping[str, Any]:
        states = [feed.pool.state() for feed in self._feeds()]
        return {
            "exchanges": {
                state.venue: {
                    "connected": state.is_connected,
                    "subscriptions": state.subscriptions,
                }
                for state in states
            }
        }

    def publishing_age_s(self) -> float:
        """Since the slowest of the threads that publish last went about its work."""
        now = time.monotonic()
        return max((now - feed.publisher.turned_at for feed in self._feeds()), default=0.0)
