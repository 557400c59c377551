"""SQLite finds open orders by their index: it has to say what questions say, to the letter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = "ix_orders_open"


def upgrade() -> None:
    _index("is_open = 1")


def downgrade() -> None:
    _index("is_open")


def _index(where: str) -> None:
    """PostgreSQL asks by the bare column, and has the index for that."""
    if op.get_context().dialect.name != "sqlite":
        return
    op.drop_index(NAME, table_name="orders")
    columns = ["venue", "account", "symbol"]
    op.create_index(NAME, "orders", columns, unique=False, sqlite_where=sa.text(where))
