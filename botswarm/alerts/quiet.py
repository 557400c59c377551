"""When nobody is to be woken, and what does not wait for the morning."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from botswarm.config import QuietHours
from botswarm.domain.alert import Severity

LOUD = (Severity.CRITICAL,)


def due(quiet: QuietHours | None, severity: Severity, now: datetime) -> datetime:
    """When to tell it: at once, or when the quiet hours are over."""
    if quiet is None or severity in LOUD:
        return now
    return _end_of(quiet, now) or now


def _end_of(quiet: QuietHours, now: datetime) -> datetime | None:
    """None outside of them."""
    local = now.astimezone(ZoneInfo(quiet.zone))
    minute = local.hour * 60 + local.minute
    if quiet.begins < quiet.ends:
        if not quiet.begins <= minute < quiet.ends:
            return None
        days = 0
    else:
        if quiet.ends <= minute < quiet.begins:
            return None
        days = 1 if minute >= quiet.begins else 0
    # By the clock on the wall: a night in which it is set lasts another number of hours.
    end = datetime.combine(local.date() + timedelta(days=days), datetime.min.time(), local.tzinfo)
    end = end.replace(hour=quiet.ends // 60, minute=quiet.ends % 60)
    return end.astimezone(now.tzinfo)
