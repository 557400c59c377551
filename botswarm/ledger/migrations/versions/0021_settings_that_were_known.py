"""What processes have set is kept, so that a change of it can be told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_settings",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("settings", columns.Json, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_known_settings")),
    )
    op.add_column("processes", sa.Column("own", columns.Json, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("processes") as processes:
        processes.drop_column("own")
    op.drop_table("known_settings")
