"""An alert from its first moment to its last, and what somebody is to be told of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How soon somebody has to look."""

    CRITICAL = "critical"
    """At once, whatever the hour: money or the swarm is in danger."""
    HIGH = "high"
    """Within minutes."""
    WARNING = "warning"
    """Today."""
    INFO = "info"
    """Nobody has to do anything."""


URGENCY = {severity: -place for place, severity in enumerate(Severity)}
"""Higher is more urgent."""


class NoticeKind(StrEnum):
    FIRED = "fired"
    REMINDED = "reminded"
    """Still so, and nobody has said that they are at it."""
    ESCALATED = "escalated"
    """Still so after a while: told on every channel."""
    ENDED = "ended"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that is to be known is so at this moment."""

    name: str
    """Of the alert, and of its page in the runbook."""
    subject: str
    """What it is about, such as a venue or a queue; empty for the whole swarm."""
    severity: Severity
    words: str
    cure: str = ""
    value: str = ""
    for_s: float = 0
    """It has to be so for this long before anybody is told."""
    lasts_s: float = 0
    """How long it goes on where nobody sees it any more: something happened, rather than is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One alert on one subject, from when it began until it is over."""

    name: str
    subject: str
    severity: Severity
    words: str
    cure: str
    value: str
    began_at: datetime
    seen_at: datetime
    """It is over once nobody has seen it for a while after this."""
    fired_at: datetime | None = None
    """None while it has not been so for long enough."""
    told_at: datetime | None = None
    """When a notice was written last; None while it is silenced, or explained by another."""
    escalated_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    ended_at: datetime | None = None
    id: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody is told until then; what is silenced is still seen, kept and listed."""

    name: str
    """Of the alert; empty is every one."""
    subject: str
    """Empty is every one."""
    at: datetime
    until: datetime
    actor: str
    reason: str
    id: int | None = None

    def covers(self, name: str, subject: str, now: datetime) -> bool:
        return (
            self.at <= now < self.until
            and self.name in ("", name)
            and self.subject in ("", subject)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one channel has to be told, kept until it was."""

    kind: NoticeKind
    channel: str
    severity: Severity
    name: str
    subject: str
    words: str
    cure: str
    value: str
    at: datetime
    due_at: datetime
    """Not before then: somebody sleeps."""
    began_at: datetime
    attempts: int = 0
    sent_at: datetime | None = None
    gave_up_at: datetime | None = None
    error: str = ""
    """Why the last attempt failed."""
    id: int | None = None
