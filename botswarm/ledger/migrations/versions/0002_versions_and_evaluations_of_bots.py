"""Versions of bots' configurations, evaluations that are kept, and audit rows for many bots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # Version 1 of bots that exist is written when the second one is: it is what they are now.
    op.add_column("bots", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("bots", sa.Column("others", columns.Json, nullable=True))
    op.add_column("bots", sa.Column("tags", columns.Json, nullable=True))
    op.add_column(
        "bots", sa.Column("is_shadow", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("bots", sa.Column("armed_until", columns.Moment(), nullable=True))
    op.create_table(
        "bot_versions",
        sa.Column("bot", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("configuration", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("bot", "version", name=op.f("pk_bot_versions")),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("bot", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("record", columns.Json, nullable=False),
        sa.Column("inputs", columns.Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    op.create_index(op.f("ix_evaluations_bot_at"), "evaluations", ["bot", "at"], unique=False)
    op.create_index(op.f("ix_evaluations_at"), "evaluations", ["at"], unique=False)
    op.create_table(
        "audit_bots",
        sa.Column("bot", sa.String(), nullable=False),
        sa.Column("audit", ROW_NUMBER, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["audit"], ["audit.id"], name=op.f("fk_audit_bots_audit_audit")),
        sa.PrimaryKeyConstraint("bot", "audit", name=op.f("pk_audit_bots")),
    )


def downgrade() -> None:
    op.drop_table("audit_bots")
    op.drop_index(op.f("ix_evaluations_at"), table_name="evaluations")
    op.drop_index(op.f("ix_evaluations_bot_at"), table_name="evaluations")
    op.drop_table("evaluations")
    op.drop_table("bot_versions")
    with op.batch_alter_table("bots") as bots:
        for name in ("armed_until", "is_shadow", "tags", "others", "version"):
            bots.drop_column(name)
