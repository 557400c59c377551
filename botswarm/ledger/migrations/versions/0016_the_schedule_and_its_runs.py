"""What beat sent and missed, what came of it, who paused it, and the reports of days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=True),
        *(_moment(name) for name in ("sent_at", "next_at")),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("leader", sa.String(), nullable=True),
        *(_moment(name) for name in ("noted_at", "started_at", "ended_at")),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("runs", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedules")),
    )
    op.create_table(
        "schedule_pauses",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        _moment("until"),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule_pauses")),
    )
    op.create_table(
        "schedule_runs",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("entry", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=True),
        sa.Column("due_at", columns.Moment(), nullable=False),
        *(_moment(name) for name in ("expires_at", "sent_at", "started_at", "ended_at")),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("actor", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_schedule_runs")),
    )
    op.create_index(op.f("ix_schedule_runs_entry_due_at"), "schedule_runs", ["entry", "due_at"])
    op.create_index(op.f("ix_schedule_runs_due_at"), "schedule_runs", ["due_at"])
    op.create_table(
        "schedule_misses",
        sa.Column("entry", sa.String(), nullable=False),
        sa.Column("first_slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_slot", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("from_at", columns.Moment(), nullable=False),
        sa.Column("to_at", columns.Moment(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noted_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("entry", "first_slot", name=op.f("pk_schedule_misses")),
    )
    op.create_index(op.f("ix_schedule_misses_to_at"), "schedule_misses", ["to_at"])
    op.create_table(
        "reports",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("made_at", columns.Moment(), nullable=False),
        sa.Column("data", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("kind", "day", name=op.f("pk_reports")),
    )


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, columns.Moment(), nullable=True)


def downgrade() -> None:
    for table in ("reports", "schedule_misses", "schedule_runs", "schedule_pauses", "schedules"):
        op.drop_table(table)
