"""When the swarm was seen well is kept, so that its uptime can be told over restarts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "uptimes",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("began_at", columns.Moment(), nullable=False),
        sa.Column("until", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uptimes")),
    )


def downgrade() -> None:
    op.drop_table("uptimes")
