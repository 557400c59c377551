"""Which backup to bring back: what shows the latest moment, with the archive or without."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from botswarm.backup import log_archive, page_archive
from botswarm.backup.folder import Backup, Method, State
from botswarm.backup.place import Place
from botswarm.backup.sides import ALONE, Wish
from botswarm.errors import NotFound, Refused

LATEST = "latest"


def named(place: Place, name: str, until: datetime | None, *, alone: bool) -> tuple[Backup, Wish]:
    """By its name, or ``latest``; ``alone`` leaves the archive where it is."""
    if name == LATEST:
        return newest(place, until, alone=alone)
    backup = place.folder.read(place.folder.named(name))
    reach = None if alone else archived_until(place, backup)
    if until is not None and reach is None:
        raise Refused(
            f"no archive goes on from backup {backup.id}, so it shows {backup.manifest.at} only",
            cure="leave --at out, or name latest",
        )
    return backup, Wish(reach is not None, until)


def newest(
    place: Place, until: datetime | None = None, *, alone: bool = False
) -> tuple[Backup, Wish]:
    """Of those that were tried out. Raises NotFound where none shows a moment before ``until``."""
    found: Sequence[Backup] = place.folder.list()[0]
    best: tuple[datetime, Backup, Wish] | None = None
    for backup in found:
        if backup.state is not State.GOOD or (until is not None and backup.manifest.at > until):
            continue
        reach = None if alone else archived_until(place, backup)
        shows = backup.manifest.at if reach is None else reach
        if until is not None:
            shows = min(shows, until)
        wish = ALONE if reach is None else Wish(with_archive=True, until=until)
        # Of two that show the same moment the later copy is sooner brought back.
        if best is None or shows >= best[0]:
            best = shows, backup, wish
    if best is None:
        raise NotFound(
            f"{place.folder.path} holds no backup of that time that was brought back once",
            cure="see: botswarm backup list; try one with: botswarm backup verify ID --test",
        )
    return best[1], best[2]


def archived_until(place: Place, backup: Backup) -> datetime | None:
    """Up to which moment the archive goes on from it; None where it does not."""
    start = backup.manifest.start
    if start is None:
        return None
    if backup.manifest.method is Method.BASE:
        pieces = log_archive.pieces_of(place.folder, place.key)
    else:
        pieces = page_archive.pieces_of(place.folder, backup.id, place.key)
    return page_archive.last(pieces)
