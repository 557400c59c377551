"""What sweeps find is kept while it lasts, and protections and their stops have a place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "risk_findings",
        *_text("sweep", "kind", "subject", "scope", "severity"),
        sa.Column("first_at", columns.Moment(), nullable=False),
        sa.Column("last_at", columns.Moment(), nullable=False),
        sa.Column("limit_value", columns.Money(), nullable=True),
        sa.Column("value", columns.Money(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("numbers", columns.Json, nullable=True),
        sa.PrimaryKeyConstraint("sweep", "kind", "subject", name=op.f("pk_risk_findings")),
    )
    op.create_table(
        "protections",
        *_text("scope", "kind"),
        sa.Column("parameters", columns.Json, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        *_text("actor"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "kind", name=op.f("pk_protections")),
    )
    op.create_table(
        "guards",
        *_text("bot", "venue", "account", "symbol", "kind"),
        sa.Column("best_price", columns.Money(), nullable=True),
        sa.Column("stop_price", columns.Money(), nullable=False),
        sa.Column("quantity", columns.Money(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("bot", "venue", "account", "symbol", name=op.f("pk_guards")),
    )


def downgrade() -> None:
    for table in ("guards", "protections", "risk_findings"):
        op.drop_table(table)


def _text(*names: str) -> tuple[sa.Column[str], ...]:
    return tuple(sa.Column(name, sa.String(), nullable=False) for name in names)
