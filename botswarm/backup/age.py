"""How old the newest backup is that can be relied on: a gate that others ask for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.backup.folder import Backup, Folder, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """Of the newest good backup; None where there is none."""

    backup: str | None
    at: datetime | None
    age: timedelta | None

    def is_within(self, most: timedelta) -> bool:
        return self.age is not None and self.age <= most


def age_of(folder: Folder, now: datetime) -> Age:
    """Asks the folder alone, so that it can be told without a ledger."""
    backups, _ = folder.list()
    good: list[Backup] = [backup for backup in backups if backup.state is State.GOOD]
    if not good:
        return Age(backup=None, at=None, age=None)
    last = good[-1]
    return Age(backup=last.id, at=last.manifest.at, age=now - last.manifest.at)
