"""Which backups are kept: the policy, and the removal of the others."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.backup.folder import ARCHIVE, Backup, Folder, State, Unusable, moment_of
from botswarm.backup.place import Place

ALL_OF = timedelta(days=3)
"""So long every backup is kept; of older days the last good one."""
GOOD_MIN = 3
"""So many good ones stay, however old they are."""


@dataclass(frozen=True, slots=True)
class Pruned:
    removed: Sequence[str]
    kept: int


def to_remove(
    backups: Sequence[Backup], now: datetime, days_kept: int, *, archive_days_kept: int = 1
) -> Sequence[Backup]:
    """Oldest first. A clock that jumped ahead removes nothing of what is good: see GOOD_MIN."""
    good = [backup for backup in backups if backup.state is State.GOOD]
    kept = {backup.id for backup in good[-GOOD_MIN:]}
    last_of_day: dict[str, str] = {}
    for backup in good:
        last_of_day[f"{backup.manifest.at:%Y-%m-%d}"] = backup.id
    for backup in backups:
        age = now - backup.manifest.at
        is_young = age <= ALL_OF or backup.id in last_of_day.values()
        if is_young and age <= timedelta(days=days_kept):
            kept.add(backup.id)
    # Without the copy that it goes on from an archive is worth nothing.
    starts = [backup for backup in backups if backup.manifest.start is not None]
    for start in starts:
        days = max(archive_days_kept, days_kept) if start is starts[-1] else archive_days_kept
        if now - start.manifest.at <= timedelta(days=days):
            kept.add(start.id)
    # What nobody has tried yet may be all there is.
    if not good:
        return []
    return [backup for backup in backups if backup.id not in kept]


def prune_place(place: Place, *, is_dry: bool = False) -> Pruned:
    """By the policy of the settings."""
    settings = place.settings
    return prune(
        place.folder,
        place.clock.now(),
        settings.backup_days_kept,
        archive_days_kept=settings.backup_archive_days_kept,
        is_dry=is_dry,
    )


def prune(
    folder: Folder,
    now: datetime,
    days_kept: int,
    *,
    archive_days_kept: int = 1,
    is_dry: bool = False,
) -> Pruned:
    """Also removes what writers left that did not come to their end, and archives that reach
    further back than they should.
    """
    with folder.lock():
        if not is_dry:
            folder.sweep()
        backups, unusable = folder.list()
        going = [
            backup.id
            for backup in to_remove(backups, now, days_kept, archive_days_kept=archive_days_kept)
        ]
        going += [each.name for each in unusable if _is_old(each, now, days_kept)]
        for name in going:
            if not is_dry:
                folder.remove(name)
        if not is_dry:
            _prune_archives(folder, now - timedelta(days=archive_days_kept))
    return Pruned(going, len(backups) + len(unusable) - len(going))


def _prune_archives(folder: Folder, since: datetime) -> None:
    """Of each copy the pages that changed after it; the newest stays, whatever its age."""
    archives = sorted(folder.path.glob(f"*{ARCHIVE}"))
    ids = set(folder.ids())
    for path in archives:
        name = path.name.removesuffix(ARCHIVE)
        is_orphan = name not in ids
        if is_orphan or (path != archives[-1] and moment_of(name) < since):
            shutil.rmtree(path, ignore_errors=True)


def _is_old(unusable: Unusable, now: datetime, days_kept: int) -> bool:
    """Damaged ones are kept as long as the others: somebody may want to know what happened."""
    return now - moment_of(unusable.name) > timedelta(days=days_kept)
