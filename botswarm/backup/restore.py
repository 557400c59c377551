"""Bring a backup back: to the side, held to what it says, and only then in the ledger's place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from botswarm.backup import files as saved_files
from botswarm.backup import folder, sealing, sides
from botswarm.backup.facts import Facts
from botswarm.backup.folder import Backup
from botswarm.backup.place import Place
from botswarm.backup.sides import Side, Wish
from botswarm.ledger import migrate, rights
from botswarm.ledger.restores import Restores
from botswarm.ledger.session import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    backup: str
    shows: datetime
    """Everything that was committed until then is there."""
    took_ms: int
    facts: Facts
    old: str | None
    """Where the ledger is kept that was there before."""
    files: Sequence[str] = ()


def restore(place: Place, backup: Backup, *, actor: str, wish: Wish = sides.ALONE) -> Restored:
    """Put it in the ledger's place, halted until every account agrees with its venue.

    Raises Damaged before anything was touched, Refused while a SQLite ledger is in use.
    """
    began = place.clock.monotonic()
    place.say("reading every byte of it")
    folder.check_bytes(backup)
    place.say("bringing it back to the side")
    with sides.beside(place, backup, is_trial=False, wish=wish) as (side, reached):
        found = sides.check_same(place, backup, side, reached)
        make_ready(place, backup, side, actor)
        place.say("putting it in the ledger's place")
        old = side.swap(backup.id.lower().replace("-", "_"))
    written = _files(place, backup)
    return Restored(
        backup=backup.id,
        shows=backup.manifest.at if reached is None else reached.at,
        took_ms=round((place.clock.monotonic() - began) * 1000),
        facts=found,
        old=old,
        files=written,
    )


def make_ready(place: Place, backup: Backup, side: Side, actor: str) -> None:
    """Bring its tables to this version, give its user what he needs of them, and halt it."""
    with closing(Database(side.url)) as database:
        # A backup holds no rights: who uses the ledger without owning it gets them again.
        migrate.migrate(database, tenant=rights.tenant(place.settings))
        Restores(database).hold(backup.id, actor, place.clock.now())


def _files(place: Place, backup: Backup) -> Sequence[str]:
    path = backup.part(sides.FILES)
    label = backup.manifest.label(path.name)
    with sealing.reading(path, label, place.key) as content:
        return saved_files.unpack(content, place.settings.state_dir)
