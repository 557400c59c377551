"""Look at many backups, and say of each what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from botswarm.backup import create, log_archive, page_archive
from botswarm.backup.folder import Backup, Method
from botswarm.backup.place import Place
from botswarm.errors import BotswarmError


@dataclass(frozen=True, slots=True)
class Checked:
    id: str
    words: str
    """What is wrong; empty where nothing is."""


def check_all(place: Place, names: Sequence[str], *, with_test: bool) -> Sequence[Checked]:
    """One that is damaged keeps nobody from looking at the others."""
    return [Checked(name, _wrong(place, name, with_test=with_test)) for name in names]


def _wrong(place: Place, name: str, *, with_test: bool) -> str:
    try:
        backup = place.folder.read(name)
        create.check(place, backup)
        _check_archive(place, backup)
        if with_test:
            create.try_out(place, backup)
    except BotswarmError as error:
        return str(error)
    return ""


def _check_archive(place: Place, backup: Backup) -> None:
    """Every byte of what goes on from it. The backup itself is none the worse for it."""
    start = backup.manifest.start
    if start is None:
        return
    if backup.manifest.method is Method.BASE:
        log_archive.check(log_archive.pieces_of(place.folder, place.key), str(start["segment"]))
    else:
        page_archive.check(page_archive.pieces_of(place.folder, backup.id, place.key))
