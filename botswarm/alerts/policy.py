"""Who is told what, as the settings say it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from botswarm.alerts import channels
from botswarm.alerts.judging import Policy
from botswarm.config import Settings
from botswarm.domain.alert import Severity

QUIET = ("email", "slack", "webhook")
"""Where nobody is woken."""
ROUTES: Mapping[Severity, tuple[str, ...]] = {
    Severity.CRITICAL: (*QUIET, "telegram", "pagerduty"),
    Severity.HIGH: (*QUIET, "telegram", "pagerduty"),
    Severity.WARNING: QUIET,
    Severity.INFO: ("webhook",),
}


def of(settings: Settings, explained_by: Mapping[str, frozenset[str]]) -> Policy:
    there = tuple(channels.of(settings))
    given = settings.notify_routes or {}
    routes = {severity: given.get(severity.value, ROUTES[severity]) for severity in Severity}
    return Policy(
        routes={
            severity: [name for name in names if name in there]
            for severity, names in routes.items()
        },
        channels=there,
        quiet=settings.notify_quiet_hours,
        remind_after=_minutes(settings.notify_remind_minutes),
        escalate_after=_minutes(settings.notify_escalate_minutes),
        explained_by=explained_by,
    )


def _minutes(number: int) -> timedelta | None:
    return timedelta(minutes=number) if number else None
