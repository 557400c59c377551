"""Processes say what they are made of, trading opens step by step, and real money is armed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("build", sa.String(), nullable=False),
        sa.Column("strategies", sa.String(), nullable=True),
        sa.Column("settings", columns.Json, nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=False),
        sa.Column("changed_at", columns.Moment(), nullable=False),
        sa.Column("seen_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_table(
        "enablings",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("plan", columns.Json, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("stage_at", columns.Moment(), nullable=False),
        sa.Column("evaluated_at", columns.Moment(), nullable=True),
        sa.Column("figures", columns.Json, nullable=True),
        sa.Column("baseline", columns.Json, nullable=False),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enablings")),
    )
    op.create_index(op.f("ix_enablings_state"), "enablings", ["state"], unique=False)
    for column in (
        sa.Column("armed_at", columns.Moment(), nullable=True),
        sa.Column("armed_until", columns.Moment(), nullable=True),
        sa.Column("armed_by", sa.String(), nullable=True),
    ):
        op.add_column("accounts", column)


def downgrade() -> None:
    with op.batch_alter_table("accounts") as accounts:
        for name in ("armed_by", "armed_until", "armed_at"):
            accounts.drop_column(name)
    op.drop_index(op.f("ix_enablings_state"), table_name="enablings")
    op.drop_table("enablings")
    op.drop_table("processes")
