"""The tables of what was saved of the ledger, and of what came of bringing it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class BackupRow(Table):
    """A backup as it was written, and whether it was brought back since; pruned ones stay."""

    __tablename__ = "backups"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    """The moment it shows."""
    method: Mapped[str]
    state: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    took_ms: Mapped[int] = mapped_column(BigInteger)
    store: Mapped[str]
    chain_sequence: Mapped[int] = mapped_column(BigInteger)
    chain_hash: Mapped[str]
    tested_at: Mapped[datetime | None]
    """When it was brought back to the side, and was what it says."""
    words: Mapped[str | None] = mapped_column(Text)


class BackupDrillRow(Table):
    """How long it took to have the ledger back, and how much of it would have been lost."""

    __tablename__ = "backup_drills"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    backup: Mapped[str | None]
    is_good: Mapped[bool]
    rto_ms: Mapped[int | None] = mapped_column(BigInteger)
    rpo_ms: Mapped[int | None] = mapped_column(BigInteger)
    words: Mapped[str] = mapped_column(Text)
    numbers: Mapped[dict[str, Any]]


class ArchiveMarkRow(Table):
    """One row: the archive writes the time into it; what is brought back tells how old it is."""

    __tablename__ = "archive_marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    """The mark of which the archive knows that it is kept."""


class RestoreRow(Table):
    """A backup that took the ledger's place; the swarm is halted until its accounts agree."""

    __tablename__ = "restores"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    backup: Mapped[str]
    actor: Mapped[str]
    state_before: Mapped[str]
    """What held for the swarm in what was brought back."""
    released_at: Mapped[datetime | None]
    words: Mapped[str | None] = mapped_column(Text)
