"""A trading state may end by itself, says what it is held by, and may open to some bots only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was said before is held as if a person had: nothing else may lift it.
    cause = sa.Column("cause", sa.String(), server_default="person", nullable=False)
    op.add_column("trading_states", cause)
    op.add_column("trading_states", sa.Column("until", columns.Moment(), nullable=True))
    op.add_column("trading_states", sa.Column("share", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("trading_states") as states:
        for name in ("share", "until", "cause"):
            states.drop_column(name)
