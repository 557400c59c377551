"""Limits stand in the ledger, and so does what crossed them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "risk_events",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("limit_value", columns.Money(), nullable=True),
        sa.Column("value", columns.Money(), nullable=True),
        sa.Column("venue", sa.String(), nullable=True),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("symbol", sa.String(), nullable=True),
        sa.Column("bot", sa.String(), nullable=True),
        sa.Column("order_id", sa.String(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("numbers", columns.Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_risk_events")),
    )
    op.create_index(op.f("ix_risk_events_at"), "risk_events", ["at"], unique=False)
    op.create_index(op.f("ix_risk_events_scope_id"), "risk_events", ["scope", "id"], unique=False)
    op.create_table(
        "limits",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("warn", columns.Money(), nullable=True),
        sa.Column("breach", columns.Money(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "kind", name=op.f("pk_limits")),
    )
    revision_row = op.create_table(
        "limit_revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_limit_revision")),
    )
    op.bulk_insert(revision_row, [{"id": 1, "revision": 0}])
    op.create_table(
        "limit_warnings",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("value", columns.Money(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "kind", name=op.f("pk_limit_warnings")),
    )


def downgrade() -> None:
    op.drop_table("limit_warnings")
    op.drop_table("limit_revision")
    op.drop_table("limits")
    op.drop_index(op.f("ix_risk_events_scope_id"), table_name="risk_events")
    op.drop_index(op.f("ix_risk_events_at"), table_name="risk_events")
    op.drop_table("risk_events")
