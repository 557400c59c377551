"""A ledger beside the ledger: what a backup is brought back to before anybody relies on it."""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from botswarm.backup import (
    cluster,
    facts,
    log_archive,
    page_archive,
    postgresql,
    sealing,
    sqlite,
)
from botswarm.backup.cluster import Cluster
from botswarm.backup.facts import Facts
from botswarm.backup.folder import Backup, Method
from botswarm.backup.page_archive import Reached
from botswarm.backup.place import Place
from botswarm.backup.postgresql import Server
from botswarm.backup.sealing import Damaged
from botswarm.config import Secret
from botswarm.errors import Refused
from botswarm.ledger.backups import Backups
from botswarm.ledger.session import Database

SIDE, BESIDE = "side_", ".side-"
LEDGER, FACTS, FILES = "ledger", "facts.json", "files.tar"
SQLITE_FILE, DUMP_FILE, BASE_FILE = f"{LEDGER}.sqlite", f"{LEDGER}.pgdump", "base.tgz"


class Side(Protocol):
    @property
    def url(self) -> str: ...

    def drop(self) -> None: ...

    def swap(self, mark: str) -> str | None:
        """Put it in the ledger's place; answers where the old one is kept, where there was one."""
        ...


class SqliteSide:
    def __init__(self, path: Path, live: Path) -> None:
        self.path = path
        self._live = live

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def drop(self) -> None:
        sqlite.remove(self.path)

    def swap(self, mark: str) -> str | None:
        names = (self._live.with_name(f"{self._live.name}.before-{each}") for each in _all_of(mark))
        kept = sqlite.swap(self.path, self._live, next(each for each in names if not each.exists()))
        return None if kept is None else str(kept)


class PostgresqlSide:
    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self.name = name

    @property
    def url(self) -> str:
        return self._server.url_of(self.name)

    def drop(self) -> None:
        self._server.drop(self.name)

    def swap(self, mark: str) -> str | None:
        live = self._server.name
        names = (postgresql.side_name(live, f"before_{each}") for each in _all_of(mark))
        old = next(each for each in names if not self._server.exists(each))
        kept = self._server.swap(self.name, old)
        return None if kept is None else f"the database {kept}"


def _all_of(mark: str) -> Iterator[str]:
    """A backup may be restored again: what was kept the first time is not written over."""
    return itertools.chain([mark], (f"{mark}_{number}" for number in itertools.count(2)))


@dataclass(frozen=True, slots=True)
class Wish:
    """How far a backup is to be brought: alone, or with the archive that goes on from it."""

    with_archive: bool = False
    until: datetime | None = None
    """Not further than this moment."""


ALONE = Wish()


@contextmanager
def beside(
    place: Place, backup: Backup, *, is_trial: bool, wish: Wish = ALONE
) -> Iterator[tuple[Side, Reached | None]]:
    """The backup's ledger; dropped again unless it was swapped in.

    A trial lies in the folder of backups, where it can do no harm to the ledger. Answers how far
    the archive brought it, where it did.
    """
    check_kind(place, backup)
    mark = secrets.token_hex(3)
    with place.folder.in_use(lambda: sweep(place)):
        side: Side
        if backup.manifest.method is Method.COPY:
            side = _sqlite(place, mark, is_trial=is_trial)
        else:
            server = Server(place.database_url)
            side = PostgresqlSide(server, postgresql.side_name(server.name, f"{SIDE}{mark}"))
        try:
            yield side, _fill(place, backup, side, wish)
        finally:
            side.drop()


def check_kind(place: Place, backup: Backup) -> None:
    """Raises Refused where the ledger is of the other kind of database."""
    is_sqlite = place.database_url.reveal().startswith("sqlite")
    if (backup.manifest.method is Method.COPY) is not is_sqlite:
        of_what = "SQLite" if not is_sqlite else "PostgreSQL"
        raise Refused(
            f"backup {backup.id} is of {of_what}, and the ledger at "
            f"{place.database_url.masked} is not",
            cure="set BOTSWARM_DATABASE_URL to where it shall be restored",
        )


def facts_of(url: str | Secret) -> Facts:
    with closing(Database(url)) as database:
        return database.read(facts.of_ledger)


def said_of(place: Place, backup: Backup) -> Facts:
    """What the ledger said of itself when the backup was made."""
    path = backup.part(FACTS)
    content = sealing.read_bytes(path, backup.manifest.label(path.name), place.key)
    said = Facts.read(content)
    head = (backup.manifest.chain_sequence, backup.manifest.chain_hash)
    if (said.chain_sequence, said.chain_hash) != head:
        raise Damaged(f"the facts of backup {backup.id} are those of another one")
    return said


def check_same(place: Place, backup: Backup, side: Side, reached: Reached | None = None) -> Facts:
    """Raises Damaged where what was brought back is not what was saved, or not as far as said."""
    found = facts_of(side.url)
    said = said_of(place, backup)
    if reached is None and backup.manifest.method is not Method.BASE:
        if words := facts.differences(said, found):
            raise Damaged(f"backup {backup.id} brings back something else: {'; '.join(words)}")
        return found
    _check_later(backup, side, (said.chain_sequence, said.chain_hash))
    if reached is not None and reached.head is not None:
        _check_later(backup, side, reached.head)
    return found


def _check_later(backup: Backup, side: Side, head: tuple[int, str]) -> None:
    """The archive goes on from a ledger of which this is a later state."""
    with closing(Database(side.url)) as database:
        if not database.read(lambda session: facts.holds(session, *head)):
            raise Damaged(
                f"what backup {backup.id} and the archive bring back has no entry {head[0]} "
                f"with the hash {head[1][:16]}…"
            )


def live_path(place: Place) -> Path:
    with closing(Database(place.database_url)) as database:
        assert database.path is not None, "the ledger is not a file"
        return database.path


def sweep(place: Place) -> None:
    """What was brought to the side by somebody who was killed over it."""
    folders = [place.folder.path]
    if place.database_url.reveal().startswith("sqlite"):
        folders.append(live_path(place).parent)
    else:
        server = Server(place.database_url)
        for name in server.names(postgresql.side_name(server.name, SIDE)):
            server.drop(name)
    for left in (each for folder in folders for each in folder.glob(f"{BESIDE}*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _sqlite(place: Place, mark: str, *, is_trial: bool) -> SqliteSide:
    live = live_path(place)
    folder = place.folder.path if is_trial else live.parent
    with sealing.spoken(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteSide(folder / f"{BESIDE}{mark}.db", live)


def _fill(place: Place, backup: Backup, side: Side, wish: Wish) -> Reached | None:
    if isinstance(side, SqliteSide):
        path = backup.part(SQLITE_FILE)
        sealing.copy_out(path, backup.manifest.label(path.name), place.key, side.path)
        if not wish.with_archive:
            return None
        pieces = page_archive.pieces_of(place.folder, backup.id, place.key)
        reached = page_archive.apply(pieces, side.path, wish.until)
        sqlite.tidy(side.path)
        return reached
    assert isinstance(side, PostgresqlSide)
    reached = None
    if backup.manifest.method is Method.BASE:
        reached = _recover(place, backup, side, wish)
    else:
        _restore_dump(place, backup, side)
    with closing(Database(side.url)) as database:
        postgresql.analyze(database)
    return reached


def _restore_dump(place: Place, backup: Backup, side: PostgresqlSide) -> None:
    path = backup.part(DUMP_FILE)
    server = Server(place.database_url)
    with tempfile.TemporaryDirectory(prefix=BESIDE, dir=place.folder.path) as folder:
        # pg_restore reads such a file from several processes at once, so it must be a file.
        if path.name.endswith(sealing.SEALED):
            plain = Path(folder) / DUMP_FILE
            sealing.copy_out(path, backup.manifest.label(path.name), place.key, plain)
            path = plain
        server.create(side.name)
        server.fill(path, side.name)


def _recover(place: Place, backup: Backup, side: PostgresqlSide, wish: Wish) -> Reached | None:
    """By a server of our own, from whose database the one beside the ledger is made."""
    server = Server(place.database_url)
    path = backup.part(BASE_FILE)
    pieces = log_archive.pieces_of(place.folder, place.key)
    # Before the log is read: what it says is there by then, and more may come meanwhile.
    said = pieces.said()
    with cluster.scratch() as folder:
        own = Cluster(folder)
        with sealing.reading(path, backup.manifest.label(path.name), place.key) as content:
            own.unpack(content)
        if wish.with_archive:
            log_archive.lay_out(pieces, str((backup.manifest.start or {})["segment"]), own)
        with own.running(wish.until if wish.with_archive else None):
            found = Server(own.url(str(server.url.username), server.name))
            found.dump_apart(folder / "dump")
        server.create(side.name)
        server.fill(folder / "dump", side.name)
    if not wish.with_archive:
        return None
    return _reached(said, side, wish)


def _reached(said: Mapping[str, Any] | None, side: Side, wish: Wish) -> Reached:
    with closing(Database(side.url)) as database:
        mark = Backups(database).last_mark()
    if mark is None or said is None:
        raise Damaged("the archive has lost its mark")
    if wish.until is not None:
        return Reached(mark.at, None, 0)
    if mark.at < datetime.fromisoformat(said["at"]):
        raise Damaged(f"the archive ends at {mark.at}, and its mark says {said['at']}")
    head = said["head"]
    return Reached(mark.at, None if head is None else (int(head[0]), str(head[1])), 0)
