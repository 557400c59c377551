"""Which keys are so old that they had better be changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from botswarm.config import Settings
from botswarm.keys.master import FILE
from botswarm.ledger.exchange_keys import KeptKey

TEST_AFTER = timedelta(days=30)


def too_old(
    keys: Sequence[KeptKey], settings: Settings, now: datetime, most: timedelta
) -> list[str]:
    """One sentence each, with what to do."""
    found = []
    for key in keys:
        where = f"{key.venue}:{key.account}"
        age = now - key.changed_at
        if age > most:
            found.append(
                f"the exchange key of {where} is {age.days} days old: make a new one at the venue, "
                f"then botswarm account rotate {where}"
            )
        if now - (key.tested_at or key.created_at) > TEST_AFTER:
            found.append(
                f"the exchange key of {where} was not tested for {TEST_AFTER.days} days: "
                f"botswarm account test {where}"
            )
    if (words := _master(settings, now, most)) is not None:
        found.append(words)
    return found


def _master(settings: Settings, now: datetime, most: timedelta) -> str | None:
    """Only of the file in the state folder is it known how old it is."""
    if settings.master_key is not None:
        return None
    try:
        made = datetime.fromtimestamp((settings.state_dir / FILE).stat().st_mtime, UTC)
    except OSError:
        return None
    age = now - made
    if age <= most:
        return None
    return f"the master key is {age.days} days old: botswarm secrets rotate"
