"""A SQLite ledger: copied while it is written to, and put in the place of another."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from botswarm.backup.folder import sync
from botswarm.backup.sealing import Damaged, spoken
from botswarm.errors import Refused, Unreachable

PAGES_AT_ONCE = 4_096
WAIT_S = 10.0
BESIDE = ("-wal", "-shm", "-journal")


def size_of(path: Path) -> int:
    """In bytes. Raises Unreachable where it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise Unreachable(
            f"there is no ledger at {path}", cure="run: botswarm db migrate"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection on which nothing has begun. Raises Unreachable in words."""
    size_of(path)
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Unreachable(
            f"{path} cannot be used: {error}", cure="make room on the disk, or see botswarm doctor"
        ) from error


def copy(source: Path, target: Path) -> None:
    """One moment of it, into a new file. Nobody who writes to it is kept waiting."""
    with spoken(target):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with opened(source) as live, opened(target) as copied:
        # Within a snapshot of its own the copy need not begin again when somebody writes.
        live.execute("BEGIN")
        live.execute("SELECT count(*) FROM sqlite_master").fetchone()
        live.backup(copied, pages=PAGES_AT_ONCE)
        live.execute("ROLLBACK")
    tidy(target)


def tidy(path: Path) -> None:
    """All of it in the one file, on the disk, and sound."""
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        try:
            said = connection.execute("PRAGMA quick_check(3)").fetchall()
        except sqlite3.DatabaseError as error:
            raise Damaged(f"{path.name} is not a sound database: {error}") from error
    if said != [("ok",)]:
        words = "; ".join(str(row[0]) for row in said)
        raise Damaged(f"{path.name} is not a sound database: {words}")
    with spoken(path), path.open("rb") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_beside(path)


def remove_beside(path: Path) -> None:
    """Its log and what belongs to that."""
    for end in BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def swap(side: Path, live: Path, old: Path) -> Path | None:
    """Put ``side`` in the place of ``live``, which is kept as ``old``; answers where that is.

    Raises Refused while anybody has the live one open: he would go on writing to the old one.
    """
    tidy(side)
    with spoken(live):
        kept = None
        if live.exists():
            _let_go(live)
            _keep(live, old)
            kept = old
        remove_beside(live)
        side.replace(live)
        sync(live.parent)
    return kept


def _keep(live: Path, old: Path) -> None:
    """Under a second name: who finds no ledger in its place makes an empty one, and trades on it.

    A log that its ledger has not taken in, because that is damaged, goes with it.
    """
    try:
        old.hardlink_to(live)
    except FileExistsError:
        raise
    except OSError:
        # A disk that knows no second names.
        live.rename(old)
    for end in BESIDE:
        log = live.with_name(live.name + end)
        if log.exists():
            log.rename(old.with_name(old.name + end))


def _let_go(live: Path) -> None:
    """Bring everything into the one file, which succeeds for the last one who has it open."""
    try:
        with closing(sqlite3.connect(live, timeout=1, isolation_level=None)) as connection:
            mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
            is_alone = mode == "delete"
    except sqlite3.OperationalError as error:
        is_alone = "locked" not in str(error)
    except sqlite3.DatabaseError:
        # What is no database any more is not held open as one by anybody who could tell.
        is_alone = True
    if not is_alone:
        raise Refused(
            f"{live} is in use: its users would go on writing to the old one",
            cure="stop the swarm (botswarm down) and whatever else has it open, then try again",
        )
