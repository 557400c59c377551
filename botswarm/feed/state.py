"""How a venue's connections are at one moment, for status, metrics and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CARD = "feed-status-*.json"
CARD_FRESH_S = 20.0
"""A feed writes its card every five seconds."""


def status_card(state_dir: Path, pid: int) -> Path:
    return state_dir / CARD.replace("*", str(pid))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionState:
    name: str
    state: str
    """``connecting``, ``up``, ``down``; ``leaving`` when another one takes over."""
    streams: int
    served: int
    """Of these, those the venue has acknowledged or sends."""
    streams_max: int
    frames: int
    messages_per_s: float
    bytes_in: int
    age_s: float
    ping_ms: float | None
    pings_missed: int
    pings_missed_in_all: int
    lag_ms: float
    """Over the least that was seen, for clocks differ."""
    silent_s: float
    malformed: int
    quiet: tuple[str, ...]
    """Streams that are silent for longer than they ever are, or tell of the past."""
    score: float
    factors: Mapping[str, float]
    """What the score is the product of; 1 takes nothing from it."""
    reconnects: int
    reasons: tuple[str, ...]
    """Of its last ends, the latest first, with how long ago."""
    troubles: Mapping[str, int]
    """Books that broke, frames that were skipped, requests that were repeated."""
    tls: str = ""
    certificate_days: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    venue: str
    is_connected: bool
    subscriptions: int
    wanted: int
    unserved: tuple[str, ...]
    """Wanted, and carried by no connection that is up; at most twenty."""
    declined: Mapping[str, str]
    """Streams the venue will not serve, with its reason."""
    score: float
    breaker: str
    breaker_opened: int
    failures: int
    """In a row."""
    last_failure: str
    budget_left: int
    budget_max: int
    budget_period_s: float
    attempts: int
    opened: int
    """Of these attempts."""
    reconnects: int
    renewed: int
    """Connections that another one took over from."""
    messages_per_s: float
    rejects: Mapping[str, int]
    security: Mapping[str, int]
    connections: tuple[ConnectionState, ...]

    @property
    def success_share(self) -> float:
        """Of the attempts to connect."""
        return self.opened / self.attempts if self.attempts else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """One venue of one feed process."""

    venue: str
    role: str
    """``leads``, ``stands by``, or ``no broker`` where it can do neither."""
    is_blocked: bool
    """The broker takes no messages just now."""
    pool: PoolState
    counts: Mapping[str, int]
    """Of ticks: taken in, missed, recovered, left out."""
    published: int
    rings: int
    unknown: tuple[str, ...]
    """Markets that are wanted and that the venue does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    memory_mb: float
    cpu_percent: float
    """Of one core, over the last ten seconds."""
    sockets: int
    sockets_expected_max: int
    threads: int
    stream_threads: int
    stream_threads_expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    instance_id: str
    pid: int
    age_s: float
    taken: Taken
    feeds: tuple[FeedState, ...]
    security: Mapping[str, int]
    """Events that are no single venue's."""
