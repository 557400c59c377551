"""What the settings ask of a venue's connections, beside what the venue itself demands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from botswarm.config import Settings
from botswarm.exchanges.streams import StreamRules

MIB = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRules:
    """The defaults are production's."""

    connections_max: int = 10
    streams_per_connection_max: int = 200
    connections_initial: int = 3
    check_every_s: float = 30.0
    idle_close_s: float = 300.0
    age_max_s: float = 3600.0
    connect_timeout_s: float = 30.0
    ping_every_s: float = 30.0
    pong_timeout_s: float = 5.0
    pings_missed_max: int = 3
    health_every_s: float = 10.0
    health_good: float = 0.7
    health_unhealthy: float = 0.5
    health_alert: float = 0.5
    health_critical: float = 0.3
    reconnect: bool = True
    tries_max: int = 15
    base_s: float = 1.0
    pause_max_s: float = 60.0
    multiplier: int = 2
    jitter: float = 0.25
    reset_after: int = 3
    frame_max_bytes: int = 1_048_576
    certificate_days_min: int = 14
    malformed_share_max: float = 0.05
    memory_max_mb: int = 100
    cpu_max_percent: int = 50
    cleanup_every_s: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            connections_max=settings.feed_connections_max,
            streams_per_connection_max=settings.feed_streams_per_connection_max,
            connections_initial=settings.feed_connections_initial,
            check_every_s=settings.feed_check_every_s,
            idle_close_s=settings.feed_idle_close_s,
            age_max_s=settings.feed_connection_age_max_s,
            connect_timeout_s=settings.feed_connect_timeout_s,
            ping_every_s=settings.feed_ping_every_s,
            pong_timeout_s=settings.feed_pong_timeout_s,
            pings_missed_max=settings.feed_pings_missed_max,
            health_every_s=settings.feed_health_every_s,
            health_good=settings.feed_health_good,
            health_unhealthy=settings.feed_health_unhealthy,
            health_alert=settings.feed_health_alert,
            health_critical=settings.feed_health_critical,
            reconnect=settings.feed_reconnect,
            tries_max=settings.feed_reconnect_tries_max,
            base_s=settings.feed_reconnect_base_ms / 1000,
            pause_max_s=settings.feed_reconnect_max_s,
            multiplier=settings.feed_reconnect_multiplier,
            jitter=settings.feed_reconnect_jitter,
            reset_after=settings.feed_reconnect_reset_after,
            frame_max_bytes=settings.feed_frame_max_bytes,
            certificate_days_min=settings.feed_certificate_days_min,
            malformed_share_max=settings.feed_malformed_share_max,
            memory_max_mb=settings.feed_memory_max_mb,
            cpu_max_percent=settings.feed_cpu_max_percent,
            cleanup_every_s=settings.feed_cleanup_every_s,
        )

    def streams_max(self, venue: StreamRules) -> int:
        """Of one connection: the stricter of the two."""
        return min(self.streams_per_connection_max, venue.streams_max)

    def age_s(self, venue: StreamRules) -> float:
        """When a connection is replaced: well before the venue ends it."""
        if venue.lifetime_s is None:
            return self.age_max_s
        return min(self.age_max_s, venue.lifetime_s * 0.95)

    def frame_bytes(self, venue: StreamRules) -> int:
        """A venue whose order books need more says so; for all others the setting holds."""
        return max(self.frame_max_bytes, venue.frame_max_bytes * (venue.frame_max_bytes > MIB))
