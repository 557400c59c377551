"""The tables that say what beat sent and missed, what came of it, and what reports were made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import Table


class ScheduleRow(Table):
    """An entry of the schedule as its beat and its workers know it now."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int | None] = mapped_column(BigInteger)
    """The last that was sent."""
    sent_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    held: Mapped[str | None] = mapped_column(Text)
    """Why the slot that is due is not sent."""
    leader: Mapped[str | None]
    noted_at: Mapped[datetime | None]
    """When a beat wrote this."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    result: Mapped[str | None] = mapped_column(Text)
    runs: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failures: Mapped[int] = mapped_column(BigInteger, server_default="0")


class SchedulePauseRow(Table):
    """An entry that somebody has paused."""

    __tablename__ = "schedule_pauses"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    until: Mapped[datetime | None]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class ScheduleRunRow(Table):
    """One slot of an entry that comes once a minute or more seldom; the oldest are pruned."""

    __tablename__ = "schedule_runs"
    __table_args__ = (Index(None, "entry", "due_at"), Index(None, "due_at"))

    task_id: Mapped[str] = mapped_column(primary_key=True)
    entry: Mapped[str]
    slot: Mapped[int | None] = mapped_column(BigInteger)
    """None where somebody had it run by hand."""
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    result: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str | None]


class ScheduleMissRow(Table):
    """Slots of an entry that nobody sent, one after the other; the oldest are pruned."""

    __tablename__ = "schedule_misses"
    __table_args__ = (Index(None, "to_at"),)

    entry: Mapped[str] = mapped_column(primary_key=True)
    first_slot: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_slot: Mapped[int] = mapped_column(BigInteger)
    slots: Mapped[int] = mapped_column(BigInteger)
    from_at: Mapped[datetime]
    to_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(Text)
    noted_at: Mapped[datetime]


class ReportRow(Table):
    """What was reported of a day; it stays."""

    __tablename__ = "reports"

    kind: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    made_at: Mapped[datetime]
    data: Mapped[dict[str, Any]]
