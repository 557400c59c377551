"""Make a backup, and bring it back to the side to prove that it is one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botswarm import __version__
from botswarm.backup import facts, files, folder, log_archive, postgresql, sealing, sides, sqlite
from botswarm.backup.facts import Facts
from botswarm.backup.folder import Backup, Manifest, Method, State
from botswarm.backup.place import Place
from botswarm.backup.sealing import Written
from botswarm.errors import BotswarmError, Unreachable
from botswarm.ledger.backups import Backups, Kept
from botswarm.ledger.session import Database

SPARE = 0.1
"""So much of the ledger's size the disk should have beside a copy of it."""


@dataclass(frozen=True, slots=True)
class Made:
    backup: Backup
    left_out: Sequence[str]
    """Files that are not in it, and why."""
    warnings: Sequence[str] = ()


def create(place: Place, *, is_start: bool = False) -> Made:
    """Whole and on the disk when this returns; nobody has tried it yet.

    ``is_start`` makes it one that the archive goes on from: of PostgreSQL, a base.

    Raises Refused while another one is being written, Unreachable where the disk is full.
    """
    with place.folder.lock():
        began, at = place.clock.monotonic(), place.clock.now()
        name, writing = place.folder.begin(at)
        try:
            writer = _Writer(place, name, writing)
            method, found, start = writer.ledger(is_start=is_start)
            writer.bytes(sides.FACTS, found.written())
            manifest = Manifest(
                id=name,
                at=at,
                method=method,
                program=__version__,
                revision=found.revision,
                chain_sequence=found.chain_sequence,
                chain_hash=found.chain_hash,
                sealed_by=None if place.key is None else place.key.id,
                took_ms=round((place.clock.monotonic() - began) * 1000),
                start=start,
            )
            backup = place.folder.finish(writing, manifest, writer.parts)
            left_out = writer.left_out
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise
    return Made(backup, left_out, _noted(place, backup, State.WRITTEN))


def try_out(place: Place, backup: Backup) -> Backup:
    """Bring it back to the side and hold it to what it says; only then it counts as good.

    Raises Damaged where it does not, and it never counts again.
    """
    began = place.clock.monotonic()
    try:
        folder.check_bytes(backup)
        with sides.beside(place, backup, is_trial=True) as (side, _):
            sides.check_same(place, backup, side)
        _read_files(place, backup)
    except sealing.Damaged as error:
        place.folder.say_damaged(backup.id)
        _said(place, backup, State.DAMAGED, error.cause)
        raise
    took_ms = round((place.clock.monotonic() - began) * 1000)
    tried = place.folder.say_tested(backup, place.clock.now(), took_ms)
    _noted(place, tried, State.GOOD)
    return tried


def check(place: Place, backup: Backup) -> None:
    """Every byte, every seal and every packing, without a database. Raises Damaged."""
    try:
        folder.check_bytes(backup)
        sides.said_of(place, backup)
        for part in backup.parts:
            if part.name.endswith((sealing.SEALED, sealing.PACKED)):
                label = backup.manifest.label(part.name)
                with sealing.reading(backup.path / part.name, label, place.key) as content:
                    while content.read(sealing.CHUNK):
                        pass
    except sealing.Damaged as error:
        place.folder.say_damaged(backup.id)
        _said(place, backup, State.DAMAGED, error.cause)
        raise


def _read_files(place: Place, backup: Backup) -> None:
    path = backup.part(sides.FILES)
    with (
        sealing.reading(path, backup.manifest.label(path.name), place.key) as content,
        tempfile.TemporaryDirectory(prefix=".side-", dir=place.folder.path) as folder,
    ):
        files.unpack(content, Path(folder))


class _Writer:
    """Writes the parts of one backup."""

    def __init__(self, place: Place, name: str, writing: Path) -> None:
        self.place = place
        self.name = name
        self.writing = writing
        self.parts: list[Written] = []
        self.left_out: Sequence[str] = ()

    def bytes(self, stem: str, content: bytes) -> None:
        path = self._path(stem)
        self.parts.append(sealing.write_bytes(path, self._label(path), self.place.key, content))

    def ledger(self, *, is_start: bool) -> tuple[Method, Facts, Mapping[str, Any] | None]:
        with closing(Database(self.place.database_url)) as database:
            if database.path is not None:
                start = {"pages": True} if is_start else None
                return Method.COPY, self._copy(database.path), start
            if is_start:
                found = database.read(facts.of_ledger)
                return Method.BASE, found, {"segment": self._base()}
            return Method.DUMP, self._dump(database), None

    def _files(self) -> None:
        """As soon as the ledger's moment is kept: what comes after it is not in the ledger."""
        path = self._path(sides.FILES)
        key = self.place.key
        with sealing.spoken(path), sealing.writing(path, self._label(path), key) as (sink, hashed):
            self.left_out = files.pack(
                self.place.settings, sink, is_sealed=key is not None, folder=Path()
            )
        self.parts.append(Written(path.name, hashed.bytes, hashed.hexdigest()))

    def _copy(self, live: Path) -> Facts:
        _check_room(live, self.writing)
        copied = self.writing / sides.SQLITE_FILE
        self.place.say("copying the ledger")
        sqlite.copy(live, copied)
        self._files()
        found = sides.facts_of(f"sqlite:///{copied}")
        sqlite.tidy(copied)
        self.place.say("packing it")
        self._seal(copied, is_packed=True)
        return found

    def _dump(self, database: Database) -> Facts:
        dumped = self.writing / sides.DUMP_FILE
        self.place.say("dumping the ledger")
        found = postgresql.dump(database, dumped)
        self._files()
        # It is packed by pg_dump already.
        self._seal(dumped, is_packed=False)
        return found

    def _base(self) -> str:
        base = self.writing / sides.BASE_FILE
        self.place.say("copying the server's files")
        first = log_archive.make_base(postgresql.Server(self.place.database_url), base)
        self._files()
        self._seal(base, is_packed=False)
        return first

    def _seal(self, plain: Path, *, is_packed: bool) -> None:
        path = self._path(plain.name, is_packed=is_packed)
        if path == plain:
            size, digest = sealing.sha256_of(path)
            with sealing.spoken(path), path.open("rb") as file:
                sealing.force(file)
            self.parts.append(Written(path.name, size, digest))
            return
        with sealing.spoken(plain), plain.open("rb") as source:
            written = sealing.write(path, self._label(path), self.place.key, source)
        self.parts.append(written)
        sqlite.remove(plain)

    def _path(self, stem: str, *, is_packed: bool = True) -> Path:
        return self.writing / (stem + sealing.extension(self.place.key, is_packed=is_packed))

    def _label(self, path: Path) -> str:
        return f"{self.name}/{path.name}"


def _check_room(live: Path, writing: Path) -> None:
    """Before it has copied half of it, and the disk is full for everybody."""
    needed = int(sqlite.size_of(live) * (1 + SPARE))
    free = shutil.disk_usage(writing).free
    if free < needed:
        raise Unreachable(
            f"the disk of {writing.parent} has {free >> 20} MB free, and a copy of the ledger "
            f"needs {needed >> 20} MB",
            cure="make room there (botswarm backup prune), or name another BOTSWARM_BACKUP_DIR",
        )


# --- what the ledger is told --------------------------------------------------------------------


def _noted(place: Place, backup: Backup, state: State) -> Sequence[str]:
    """The folder is the record; a ledger that cannot be written makes no backup worse."""
    kept = Kept(
        id=backup.id,
        at=backup.manifest.at,
        method=backup.manifest.method.value,
        state=state.value,
        bytes=backup.bytes,
        took_ms=backup.manifest.took_ms,
        store=str(place.folder.path),
        chain_sequence=backup.manifest.chain_sequence,
        chain_hash=backup.manifest.chain_hash,
        tested_at=backup.tested_at,
    )
    return _told(place, lambda backups: backups.note(kept))


def _said(place: Place, backup: Backup, state: State, words: str) -> Sequence[str]:
    return _told(place, lambda backups: backups.say(backup.id, state.value, words))


def _told(place: Place, tell: Any) -> Sequence[str]:
    with closing(Database(place.database_url)) as database:
        try:
            tell(Backups(database))
        except BotswarmError as error:
            return [f"the ledger was not told of the backup: {error}"]
    return []
