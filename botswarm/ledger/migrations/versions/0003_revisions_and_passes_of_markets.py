"""What changes in a market's bots is counted, and that they were looked after is one row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

REVISION_INDEX = "ix_bots_venue_symbol_revision"


def upgrade() -> None:
    op.add_column(
        "bots", sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_index(op.f(REVISION_INDEX), "bots", ["venue", "symbol", "revision"], unique=False)
    op.create_table(
        "market_revisions",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "symbol", name=op.f("pk_market_revisions")),
    )
    op.create_table(
        "market_passes",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("bots", sa.Integer(), nullable=False),
        sa.Column("passes", sa.BigInteger(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "symbol", name=op.f("pk_market_passes")),
    )


def downgrade() -> None:
    op.drop_table("market_passes")
    op.drop_table("market_revisions")
    op.drop_index(op.f(REVISION_INDEX), table_name="bots")
    with op.batch_alter_table("bots") as bots:
        bots.drop_column("revision")
