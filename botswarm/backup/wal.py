"""SQLite's write-ahead log, read beside those who write it: which pages changed since.

A page of the log may be overwritten only when no reader needs it any more. So one reader is always
kept open: the next one is opened before the last one is closed, and whatever was committed after
the last one was opened is still in the log (docs/backups.md has the proof).
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from botswarm.backup import sqlite
from botswarm.errors import BotswarmError

HEADER, FRAME = 32, 24
_FRAME = struct.Struct(">II8s8s")
_INDEX = struct.Struct("=IIIBBHII8s8s8s")
FRAMES_MAX = 16_384
"""From here on the log is brought back to its beginning; that keeps writers waiting a moment."""
WAIT_S = 2.0


class LostTrack(BotswarmError):
    """The log does not go on where we left it: what follows needs a new copy of everything."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to here the log was read; the salt tells one log from the next."""

    salt: bytes
    frame: int


@dataclass(frozen=True, slots=True)
class Index:
    """What the log's readers and writers know of it in common."""

    salt: bytes
    frames: int
    page_size: int


@dataclass(frozen=True, slots=True)
class Pages:
    """What changed between two moments: of each page the last that was written."""

    page_size: int
    size: int
    """How many pages the database has now; 0 where nothing changed."""
    found: Sequence[tuple[int, bytes | int]]
    """Page numbers, with the page or the place in the log where it is."""
    log: Path

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        if not self.found:
            return
        with self.log.open("rb") as file:
            for number, at in self.found:
                if isinstance(at, bytes):
                    yield number, at
                    continue
                file.seek(at)
                yield number, file.read(self.page_size)


class Tail:
    """Follows the log of one database; not for several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._held = self._reader()
        # Open until the end: to close a file is to let go of all locks on it, and those of our
        # readers are on this one.
        self._index = os.open(path.with_name(f"{path.name}-shm"), os.O_RDONLY)
        found = self._read_index()
        self.position = Position(found.salt, found.frames)
        self._next: tuple[sqlite3.Connection, Position] | None = None
        self.head: tuple[int, str] | None = None
        """Where the journal's chain ended, in what was read last at the least."""

    def read(self) -> Pages:
        """What was committed since; ``keep`` says that it is kept, else it is read again."""
        self._drop_next()
        reader = self._reader()
        try:
            self.head = _head(reader)
            index = self._read_index()
            pages = self._pages(index)
        except BaseException:
            reader.close()
            raise
        self._next = reader, Position(index.salt, index.frames)
        return pages

    def keep(self) -> None:
        assert self._next is not None, "nothing was read"
        self._held.close()
        self._held, self.position = self._next
        self._next = None

    @property
    def is_long(self) -> bool:
        return self.position.frame > FRAMES_MAX

    def rewind(self) -> Pages:
        """Let the next writer begin the log anew; answers what was committed until then.

        Nobody writes while this goes on: the rest of the log is read, and brought into the
        database. What is answered stands in memory, and is little.
        """
        self._drop_next()
        with closing(self._connect()) as writer:
            writer.execute("BEGIN IMMEDIATE")
            try:
                index = self._read_index()
                rest = self._pages(index)
                pages = Pages(rest.page_size, rest.size, list(rest), rest.log)
                self._held.close()
                with closing(self._connect()) as checkpointer:
                    checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._held = self._reader()
                self.position = Position(index.salt, index.frames)
            finally:
                writer.execute("ROLLBACK")
        return pages

    def close(self) -> None:
        self._drop_next()
        self._held.close()
        os.close(self._index)

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next[0].close()
            self._next = None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
        )

    def _reader(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            # Only a closing connection would bring the log in by itself, and ours closes often.
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_index(self) -> Index:
        for _ in range(1_000):
            both = os.pread(self._index, 2 * _INDEX.size, 0)
            first, second = both[: _INDEX.size], both[_INDEX.size :]
            # It is written twice: where both agree, nobody is writing it.
            if first == second and len(first) == _INDEX.size:
                said = _INDEX.unpack(first)
                if not said[3]:
                    break
                page_size = 65_536 if said[5] == 1 else said[5]
                return Index(salt=said[9], frames=said[6], page_size=page_size)
        raise LostTrack(f"the index of the log {self._log} cannot be read")

    def _pages(self, index: Index) -> Pages:
        goes_on = index.salt == self.position.salt
        if goes_on and index.frames < self.position.frame:
            raise LostTrack(f"the log {self._log} is shorter than it was")
        start = self.position.frame if goes_on else 0
        step = FRAME + index.page_size
        found: dict[int, bytes | int] = {}
        size = 0
        if start < index.frames:
            with self._log.open("rb") as file:
                for frame in range(start, index.frames):
                    at = HEADER + frame * step
                    file.seek(at)
                    number, size, salt, _ = _FRAME.unpack(file.read(FRAME))
                    if salt != index.salt:
                        raise LostTrack(f"the log {self._log} was begun anew while it was read")
                    found[number] = at + FRAME
            if not size:
                raise LostTrack(f"the log {self._log} ends within a transaction")
        ordered = sorted((number, at) for number, at in found.items() if number <= size)
        return Pages(index.page_size, size, ordered, self._log)


def _head(reader: sqlite3.Connection) -> tuple[int, str] | None:
    with suppress(sqlite3.OperationalError):  # a ledger without tables has none
        row = reader.execute("SELECT sequence, hash FROM chain_head").fetchone()
        return None if row is None else (int(row[0]), str(row[1]))
    return None


def put(path: Path, pages: Pages | Iterator[tuple[int, bytes]], page_size: int, size: int) -> None:
    """Into a database that nobody has open, as they were then."""
    sqlite.remove_beside(path)
    with path.open("r+b") as file:
        for number, content in pages:
            file.seek((number - 1) * page_size)
            file.write(content)
        file.truncate(size * page_size)
