"""A ledger beside the ledger: what a backup is brought back to before anybody relies on it."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from botswarm.backup import facts, postgresql, sealing, sqlite
from botswarm.backup.facts import Facts
from botswarm.backup.folder import Backup, Method
from botswarm.backup.place import Place
from botswarm.backup.postgresql import Server
from botswarm.backup.sealing import Damaged
from botswarm.config import Secret
from botswarm.errors import Refused
from botswarm.ledger.session import Database

LEDGER, FACTS, FILES = "ledger", "facts.json", "files.tar"
SQLITE_FILE, DUMP_FILE = f"{LEDGER}.sqlite", f"{LEDGER}.pgdump"


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
        kept = sqlite.swap(
            self.path, self._live, self._live.with_name(f"{self._live.name}.before-{mark}")
        )
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
        old = postgresql.side_name(self._server.name, f"before_{mark}")
        kept = self._server.swap(self.name, old)
        return None if kept is None else f"the database {kept}"


@contextmanager
def beside(place: Place, backup: Backup, *, is_trial: bool) -> Iterator[Side]:
    """The backup's ledger; dropped again unless it was swapped in.

    A trial lies in the folder of backups, where it can do no harm to the ledger.
    """
    check_kind(place, backup)
    mark = secrets.token_hex(3)
    side: Side
    if backup.manifest.method is Method.COPY:
        side = _sqlite(place, mark, is_trial=is_trial)
    else:
        server = Server(place.database_url)
        side = PostgresqlSide(server, postgresql.side_name(server.name, f"side_{mark}"))
    try:
        _fill(place, backup, side)
        yield side
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


def check_same(place: Place, backup: Backup, side: Side) -> Facts:
    """Raises Damaged where what was brought back is not what was saved."""
    found = facts_of(side.url)
    if words := facts.differences(said_of(place, backup), found):
        raise Damaged(f"backup {backup.id} brings back something else: {'; '.join(words)}")
    return found


def live_path(place: Place) -> Path:
    with closing(Database(place.database_url)) as database:
        assert database.path is not None, "the ledger is not a file"
        return database.path


def _sqlite(place: Place, mark: str, *, is_trial: bool) -> SqliteSide:
    live = live_path(place)
    folder = place.folder.path if is_trial else live.parent
    with sealing.spoken(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteSide(folder / f".side-{mark}.db", live)


def _fill(place: Place, backup: Backup, side: Side) -> None:
    if isinstance(side, SqliteSide):
        path = backup.part(SQLITE_FILE)
        sealing.copy_out(path, backup.manifest.label(path.name), place.key, side.path)
        return
    assert isinstance(side, PostgresqlSide)
    path = backup.part(DUMP_FILE)
    with tempfile.TemporaryDirectory(prefix=".side-", dir=place.folder.path) as folder:
        # pg_restore reads such a file from several processes at once, so it must be a file.
        if path.name.endswith(sealing.SEALED):
            plain = Path(folder) / DUMP_FILE
            sealing.copy_out(path, backup.manifest.label(path.name), place.key, plain)
            path = plain
        server = Server(place.database_url)
        server.create(side.name)
        server.fill(path, side.name)
    with closing(Database(side.url)) as database:
        postgresql.analyze(database)
