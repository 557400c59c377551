"""A stop is written down while venues may still take what was signed before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _alter(is_known=False)


def downgrade() -> None:
    op.execute("UPDATE stops SET in_force_ms = said_ms WHERE in_force_ms IS NULL")
    _alter(is_known=True)


def _alter(*, is_known: bool) -> None:
    with op.batch_alter_table("stops", copy_from=_stops(is_known=not is_known)) as stops:
        stops.alter_column("in_force_ms", existing_type=sa.Integer(), nullable=not is_known)


def _stops(*, is_known: bool) -> sa.Table:
    """SQLite alters a table by making it anew."""
    return sa.Table(
        "stops",
        sa.MetaData(),
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("said_ms", sa.Integer(), nullable=False),
        sa.Column("in_force_ms", sa.Integer(), nullable=not is_known),
        sa.Column("cancelled_ms", sa.Integer(), nullable=True),
        sa.Column("flat_ms", sa.Integer(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.Column("is_clean", sa.Boolean(), nullable=False),
        sa.Column("numbers", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stops")),
    )
