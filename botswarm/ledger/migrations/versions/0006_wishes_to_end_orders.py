"""Somebody may want an order ended, or another in its place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cancels",
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("done_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_cancels_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_cancels")),
    )
    op.create_index(
        "ix_cancels_pending",
        "cancels",
        ["order_id"],
        unique=False,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.add_column("orders", sa.Column("replaces", sa.String(), nullable=True))
    op.add_column(
        "orders",
        sa.Column("is_reduce_only", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "orders", sa.Column("is_ending", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.create_index(
        "ix_orders_replacing",
        "orders",
        ["replaces"],
        unique=False,
        sqlite_where=sa.text("replaces IS NOT NULL"),
        postgresql_where=sa.text("replaces IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_orders_replacing", table_name="orders")
    with op.batch_alter_table("orders") as orders:
        for name in ("is_ending", "is_reduce_only", "replaces"):
            orders.drop_column(name)
    op.drop_table("cancels")
