"""The tables in which the ledger keeps what went wrong, and whom it has told."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class AlertRow(Table):
    """One alert on one subject, from when it began until it is over."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index("ix_alerts_open", "name", "subject", unique=True,
              sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL")),
        Index(None, "began_at"),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    name: Mapped[str]
    subject: Mapped[str]
    severity: Mapped[str]
    words: Mapped[str] = mapped_column(Text)
    cure: Mapped[str] = mapped_column(Text)
    value: Mapped[str]
    began_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    fired_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class AlertNoticeRow(Table):
    """The outbox of the notifier: what a channel is to be told, committed with its cause."""

    __tablename__ = "alert_notices"
    __table_args__ = (
        Index("ix_alert_notices_waiting", "due_at",
              sqlite_where=text("sent_at IS NULL AND gave_up_at IS NULL"),
              postgresql_where=text("sent_at IS NULL AND gave_up_at IS NULL")),
        Index(None, "at"),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    kind: Mapped[str]
    channel: Mapped[str]
    severity: Mapped[str]
    name: Mapped[str]
    subject: Mapped[str]
    words: Mapped[str] = mapped_column(Text)
    cure: Mapped[str] = mapped_column(Text)
    value: Mapped[str]
    began_at: Mapped[datetime]
    at: Mapped[datetime]
    due_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    """Somebody is at it until then; whoever dies over it leaves it to the next."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    sent_at: Mapped[datetime | None]
    gave_up_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(Text)


class AlertSilenceRow(Table):
    """Nobody is told of these until then."""

    __tablename__ = "alert_silences"
    __table_args__ = (Index(None, "until"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    name: Mapped[str]
    subject: Mapped[str]
    at: Mapped[datetime]
    until: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class AlertCursorRow(Table):
    """Up to which event of another table alerts were made of it. Whoever judges holds its row, so
    that two who judge at once do it one after the other.
    """

    __tablename__ = "alert_cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    known: Mapped[list[str]]
    """The last ones read: a number may become visible after a higher one."""
