"""A place in a venue's pool: its streams, and the connection that carries them just now."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from botswarm.exchanges.streams import Stream
from botswarm.feed import health
from botswarm.feed.breaker import STABLE_S, Retries
from botswarm.feed.connection import Connection
from botswarm.feed.health import RECONNECTS_FORGOTTEN_S
from botswarm.feed.rules import PoolRules
from botswarm.feed.state import ConnectionState

REASONS_SHOWN = 5
RATE_PERIOD_S = 5.0
QUIET_FRESH_S = 0.5
"""Looking at each of hundreds of streams costs something, and several ask at once."""


@dataclass(slots=True, eq=False)
class Line:
    number: int
    rules: PoolRules
    retries: Retries
    streams: set[Stream] = field(default_factory=set)
    connection: Connection | None = None
    successor: Connection | None = None
    """It takes over from the connection as soon as it brings everything."""
    is_urgent: bool = False
    """The connection will end soon, or is of no use: nobody waits long for quiet markets."""
    due: float = 0.0
    """When the next attempt may be made."""
    is_flapping: bool = False
    """Its last connection was made, and soon lost: it waits for its own pause to pass."""
    stable_at: float = float("inf")
    """When the connection's next stretch of a stable life is full."""
    proved_at: float = float("inf")
    empty_since: float | None = None
    replace_after: float = 0.0
    made: int = 0
    reconnects: int = 0
    lost: set[str] = field(default_factory=set)
    """Markets that nobody brought for a while, since it lost its connection."""
    ends: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=REASONS_SHOWN))
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    nursed: dict[Stream, tuple[float, int]] = field(default_factory=dict)
    """Quiet streams: when something may be done about them again, and how often it was."""
    _quiet: tuple[float, list[Stream]] = (float("-inf"), [])
    _rate: tuple[float, int, float] = (0.0, 0, 0.0)

    @property
    def is_up(self) -> bool:
        return self.connection is not None and self.connection.is_up

    @property
    def has_proved(self) -> bool:
        return self.proved_at < float("inf")

    def carriers(self) -> list[Connection]:
        return [each for each in (self.connection, self.successor) if each is not None]

    def note(self, now: float, reason: str) -> None:
        self.ends.appendleft((now, reason))

    def failed(self, now: float, reason: str) -> None:
        """It lost its connection, and nothing was there to take over."""
        self.note(now, reason)
        self.failures.append(now)
        self.connection = None
        self.is_urgent = False
        self.stable_at = self.proved_at = float("inf")

    def note_proved(self, now: float) -> None:
        self.proved_at = now
        self.stable_at = now + STABLE_S

    def proved_s(self, now: float) -> float:
        """For how long its connection has really worked."""
        return max(0.0, now - self.proved_at)

    def worst(self, now: float) -> str:
        """What takes most from its score."""
        factors = health.factors(self.inputs(now))
        return min(factors, key=lambda name: factors[name])

    def quiet(self, now: float) -> list[Stream]:
        if now - self._quiet[0] >= QUIET_FRESH_S or now < self._quiet[0]:
            self._quiet = now, self._quiet_now(now)
        return self._quiet[1]

    def _quiet_now(self, now: float) -> list[Stream]:
        if self.connection is None:
            return []
        # A thread adds to it meanwhile.
        pulses = list(self.connection.talk.pulses.items())
        return [Stream(*key) for key, pulse in pulses if pulse.is_quiet(now) or pulse.is_stale(now)]  # type: ignore[arg-type]  # a key is a stream

    def lately(self, now: float) -> int:
        return sum(now - at < RECONNECTS_FORGOTTEN_S for at in self.failures)

    def inputs(self, now: float) -> health.Inputs:
        connection = self.connection
        if connection is None or not connection.is_up:
            return health.Inputs(is_up=False)
        return health.Inputs(
            is_up=True,
            ping_ms=connection.pinger.rtt_ms,
            pings_missed=connection.pinger.missed,
            pings_missed_max=self.rules.pings_missed_max,
            silent_s=connection.pulse.silent_s(now),
            silence_limit_s=connection.pulse.limit_s,
            lag_ms=connection.talk.lag_ms,
            malformed_share=connection.talk.malformed_share,
            malformed_share_max=self.rules.malformed_share_max,
            reconnects=self.lately(now),
            quiet_share=len(self.quiet(now)) / max(1, len(self.streams)),
        )

    def score(self, now: float) -> float:
        return health.score(self.inputs(now))

    def rate(self, now: float) -> float:
        """Messages a second, over the last few seconds."""
        frames = 0 if self.connection is None else self.connection.talk.frames
        since, counted, rate = self._rate
        if frames < counted or since == 0.0:
            self._rate = now, frames, 0.0
        elif now - since >= RATE_PERIOD_S:
            rate = (frames - counted) / (now - since)
            self._rate = now, frames, rate
        return self._rate[2]

    def state(self, venue: str, streams_max: int, now: float) -> ConnectionState:
        connection, found = self.connection, self.inputs(now)
        word = "down"
        if connection is not None and not connection.has_ended:
            word = "up" if connection.is_up else "connecting"
        if self.successor is not None:
            word = "leaving"
        talk = None if connection is None else connection.talk
        opened = None if connection is None else connection.opened
        return ConnectionState(
            name=f"{venue}-{self.number}" if connection is None else connection.name,
            state=word,
            streams=len(self.streams),
            served=0 if talk is None else len(talk.served),
            streams_max=streams_max,
            frames=0 if talk is None else talk.frames,
            messages_per_s=round(self.rate(now), 1),
            bytes_in=0 if connection is None else connection.bytes_in,
            age_s=0.0 if connection is None else round(time.monotonic() - connection.born, 1),
            ping_ms=found.ping_ms,
            pings_missed=found.pings_missed,
            pings_missed_in_all=0 if connection is None else connection.pinger.missed_in_all,
            lag_ms=round(found.lag_ms, 1),
            silent_s=round(found.silent_s, 1),
            malformed=0 if talk is None else talk.malformed,
            quiet=tuple(f"{each.symbol} {each.channel}" for each in sorted(self.quiet(now))),
            score=health.score(found),
            factors=health.factors(found),
            reconnects=self.reconnects,
            reasons=tuple(f"{reason} ({now - at:.0f} s ago)" for at, reason in list(self.ends)),
            troubles={} if talk is None else dict(talk.notices),
            tls="" if opened is None else opened.tls,
            certificate_days=None if opened is None else opened.certificate_days,
        )
