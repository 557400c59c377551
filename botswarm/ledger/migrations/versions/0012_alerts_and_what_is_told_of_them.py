"""Alerts are kept, and so is what has to be told of them until it was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OPEN = sa.text("ended_at IS NULL")
WAITING = sa.text("sent_at IS NULL AND gave_up_at IS NULL")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("cure", sa.Text(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("began_at", columns.Moment(), nullable=False),
        sa.Column("seen_at", columns.Moment(), nullable=False),
        sa.Column("fired_at", columns.Moment(), nullable=True),
        sa.Column("told_at", columns.Moment(), nullable=True),
        sa.Column("escalated_at", columns.Moment(), nullable=True),
        sa.Column("acknowledged_at", columns.Moment(), nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index(
        "ix_alerts_open",
        "alerts",
        ["name", "subject"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.create_index(op.f("ix_alerts_began_at"), "alerts", ["began_at"], unique=False)
    op.create_table(
        "alert_notices",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("cure", sa.Text(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("began_at", columns.Moment(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("due_at", columns.Moment(), nullable=False),
        sa.Column("claimed_until", columns.Moment(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", columns.Moment(), nullable=True),
        sa.Column("gave_up_at", columns.Moment(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_notices")),
    )
    op.create_index(
        "ix_alert_notices_waiting",
        "alert_notices",
        ["due_at"],
        unique=False,
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_index(op.f("ix_alert_notices_at"), "alert_notices", ["at"], unique=False)
    op.create_table(
        "alert_silences",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("until", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_silences")),
    )
    op.create_index(op.f("ix_alert_silences_until"), "alert_silences", ["until"], unique=False)
    op.create_table(
        "alert_cursors",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("known", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_alert_cursors")),
    )


def downgrade() -> None:
    for name in ("alert_cursors", "alert_silences", "alert_notices", "alerts"):
        op.drop_table(name)
