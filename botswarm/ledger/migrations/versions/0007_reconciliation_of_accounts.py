"""Accounts are held against their venue, and the journal takes what no fill explains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FILL_KEY = "fk_entries_fill_id_fills"
ADJUSTMENT_KEY = "fk_entries_adjustment_id_adjustments"
ADJUSTMENT_ONCE = "uq_entries_adjustment_id"


def upgrade() -> None:
    for column in (
        sa.Column("opened_at", columns.Moment(), nullable=True),
        sa.Column("reconciled_at", columns.Moment(), nullable=True),
        sa.Column("is_clean", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reconciliation", columns.Json, nullable=True),
    ):
        op.add_column("accounts", column)
    _create_of_accounts()
    _create_of_reconciliations()
    op.create_table(
        "adjustments",
        sa.Column("id", ROW_NUMBER, nullable=False),
        *_place(),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("amount", columns.Money(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
        sa.UniqueConstraint(
            "venue", "account", "reference", name=op.f("uq_adjustments_venue_account_reference")
        ),
    )
    with op.batch_alter_table("entries", copy_from=_entries()) as entries:
        entries.alter_column("fill_id", existing_type=ROW_NUMBER, nullable=True)
        entries.add_column(sa.Column("adjustment_id", ROW_NUMBER, nullable=True))
        entries.create_unique_constraint(ADJUSTMENT_ONCE, ["adjustment_id"])
        entries.create_foreign_key(ADJUSTMENT_KEY, "adjustments", ["adjustment_id"], ["id"])


def _create_of_accounts() -> None:
    op.create_table(
        "account_folds",
        *_place(),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("balances", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("venue", "account", name=op.f("pk_account_folds")),
    )
    op.create_table(
        "account_markets",
        *_place(),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("trade_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "account", "symbol", name=op.f("pk_account_markets")),
    )
    op.create_table(
        "external_orders",
        *_place(),
        sa.Column("venue_order_id", sa.String(), nullable=False),
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("first_at", columns.Moment(), nullable=False),
        sa.Column("last_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint(
            "venue", "account", "venue_order_id", name=op.f("pk_external_orders")
        ),
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
    )


def _create_of_reconciliations() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("id", ROW_NUMBER, nullable=False),
        *_place(),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("is_clean", sa.Boolean(), nullable=False),
        sa.Column("result", columns.Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliations")),
    )
    op.create_index(
        op.f("ix_reconciliations_venue_account_at"),
        "reconciliations",
        ["venue", "account", "at"],
        unique=False,
    )
    op.create_table(
        "differences",
        sa.Column("id", ROW_NUMBER, nullable=False),
        *_place(),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("asset", sa.String(), nullable=True),
        sa.Column("amount", columns.Money(), nullable=True),
        sa.Column("first_at", columns.Moment(), nullable=False),
        sa.Column("last_at", columns.Moment(), nullable=False),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_differences")),
    )
    op.create_index(
        op.f("ix_differences_venue_account_subject"),
        "differences",
        ["venue", "account", "subject"],
        unique=False,
    )


def downgrade() -> None:
    """What was booked without a fill goes, and with it the chain from there on."""
    op.execute(
        "DELETE FROM postings WHERE sequence IN (SELECT sequence FROM entries"
        " WHERE adjustment_id IS NOT NULL)"
    )
    op.execute("DELETE FROM entries WHERE adjustment_id IS NOT NULL")
    with op.batch_alter_table("entries") as entries:
        entries.drop_constraint(ADJUSTMENT_KEY, type_="foreignkey")
        entries.drop_constraint(ADJUSTMENT_ONCE, type_="unique")
        entries.drop_column("adjustment_id")
        entries.alter_column("fill_id", existing_type=ROW_NUMBER, nullable=False)
    for table in ("adjustments", "heartbeats", "external_orders", "account_markets"):
        op.drop_table(table)
    op.drop_table("account_folds")
    op.drop_index(op.f("ix_differences_venue_account_subject"), table_name="differences")
    op.drop_table("differences")
    op.drop_index(op.f("ix_reconciliations_venue_account_at"), table_name="reconciliations")
    op.drop_table("reconciliations")
    with op.batch_alter_table("accounts") as accounts:
        for column in ("reconciliation", "is_clean", "reconciled_at", "opened_at"):
            accounts.drop_column(column)


def _place() -> tuple[sa.Column[str], ...]:
    return (
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
    )


def _entries() -> sa.Table:
    """As the first migration made it: SQLite alters a table by making it anew."""
    return sa.Table(
        "entries",
        sa.MetaData(),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fill_id", ROW_NUMBER, nullable=False),
        sa.Column("previous_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["fill_id"], ["fills.id"], name=op.f(FILL_KEY)),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_entries")),
        sa.UniqueConstraint("fill_id", name=op.f("uq_entries_fill_id")),
    )
