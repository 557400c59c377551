"""How long each emergency stop took, and each rehearsal of one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "stops",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("said_ms", sa.Integer(), nullable=False),
        sa.Column("in_force_ms", sa.Integer(), nullable=False),
        sa.Column("cancelled_ms", sa.Integer(), nullable=True),
        sa.Column("flat_ms", sa.Integer(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.Column("is_clean", sa.Boolean(), nullable=False),
        sa.Column("numbers", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stops")),
    )


def downgrade() -> None:
    op.drop_table("stops")
