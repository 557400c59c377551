"""What the ledger knows of its backups, of drills, of the archive and of restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from botswarm.ledger.backup_models import ArchiveMarkRow, BackupDrillRow, BackupRow
from botswarm.ledger.session import Database, save_latest

ARCHIVE = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A backup, as it was noted when it was written."""

    id: str
    at: datetime
    method: str
    state: str
    bytes: int
    took_ms: int
    store: str
    chain_sequence: int
    chain_hash: str
    tested_at: datetime | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One rehearsal: how long it took to have the ledger back, and what would have been lost."""

    at: datetime
    backup: str | None
    is_good: bool
    rto_ms: int | None
    rpo_ms: int | None
    words: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArchiveMark:
    at: datetime
    published_at: datetime | None


class Backups:
    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, kept: Kept) -> None:
        self._database.write(lambda session: save_latest(session, BackupRow, [asdict(kept)]))

    def say(self, backup: str, state: str, words: str | None = None) -> None:
        """What became of it since."""
        change = update(BackupRow).where(BackupRow.id == backup)
        self._database.write(
            lambda session: session.execute(change.values(state=state, words=words))
        )

    def list(self, limit: int = 100) -> Sequence[Kept]:
        question = select(BackupRow).order_by(BackupRow.at.desc()).limit(limit)
        return self._database.read(
            lambda session: [_kept(row) for row in session.scalars(question)]
        )

    # --- drills -------------------------------------------------------------------------------

    def note_drill(self, drill: Drill) -> None:
        values = asdict(drill) | {"numbers": dict(drill.numbers)}
        self._database.write(lambda session: session.add(BackupDrillRow(**values)))

    def drills(self, limit: int = 20) -> Sequence[Drill]:
        """The latest first."""
        question = select(BackupDrillRow).order_by(BackupDrillRow.at.desc()).limit(limit)
        return self._database.read(
            lambda session: [_drill(row) for row in session.scalars(question)]
        )

    # --- the archive --------------------------------------------------------------------------

    def mark(self, now: datetime, published_at: datetime | None = None) -> None:
        """``published_at`` is an earlier mark of which it is known that it was kept."""
        values: dict[str, Any] = {"name": ARCHIVE, "at": now, "published_at": published_at}
        self._database.write(lambda session: save_latest(session, ArchiveMarkRow, [values]))

    def last_mark(self) -> ArchiveMark | None:
        def work(session: Session) -> ArchiveMark | None:
            row = session.get(ArchiveMarkRow, ARCHIVE)
            return None if row is None else ArchiveMark(row.at, row.published_at)

        return self._database.read(work)

    def count(self) -> int:
        question = select(func.count()).select_from(BackupRow)
        return self._database.read(lambda session: session.scalars(question).one())


def _kept(row: BackupRow) -> Kept:
    return Kept(
        id=row.id,
        at=row.at,
        method=row.method,
        state=row.state,
        bytes=row.bytes,
        took_ms=row.took_ms,
        store=row.store,
        chain_sequence=row.chain_sequence,
        chain_hash=row.chain_hash,
        tested_at=row.tested_at,
        words=row.words,
    )


def _drill(row: BackupDrillRow) -> Drill:
    return Drill(
        at=row.at,
        backup=row.backup,
        is_good=row.is_good,
        rto_ms=row.rto_ms,
        rpo_ms=row.rpo_ms,
        words=row.words,
        numbers=row.numbers,
    )
