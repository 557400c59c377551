"""The first tables of the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.clock import SystemClock
from botswarm.ledger import columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "account", name=op.f("pk_accounts")),
    )
    op.create_table(
        "audit",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("before", columns.Json, nullable=True),
        sa.Column("after", columns.Json, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)

    op.create_table(
        "bots",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("timeframe", sa.String(), nullable=False),
        sa.Column("parameters", columns.Json, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("memory", columns.Json, nullable=False),
        sa.Column("last_evaluation", columns.Json, nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_bots")),
    )
    op.create_index(
        op.f("ix_bots_venue_symbol_state"), "bots", ["venue", "symbol", "state"], unique=False
    )

    op.create_table(
        "candles",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("timeframe", sa.String(), nullable=False),
        sa.Column("open_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("open", columns.Money(), nullable=False),
        sa.Column("high", columns.Money(), nullable=False),
        sa.Column("low", columns.Money(), nullable=False),
        sa.Column("close", columns.Money(), nullable=False),
        sa.Column("volume", columns.Money(), nullable=False),
        sa.Column("trades", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "symbol", "timeframe", "open_ms", name=op.f("pk_candles")),
    )
    head = op.create_table(
        "chain_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_head")),
    )
    op.create_table(
        "daily_results",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("realised", columns.Money(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "account", "day", "quote", name=op.f("pk_daily_results")),
    )
    op.create_table(
        "instruments",
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("tick_size", columns.Money(), nullable=False),
        sa.Column("lot_size", columns.Money(), nullable=False),
        sa.Column("quantity_min", columns.Money(), nullable=False),
        sa.Column("quantity_max", columns.Money(), nullable=False),
        sa.Column("notional_min", columns.Money(), nullable=False),
        sa.Column("is_trading", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "symbol", name=op.f("pk_instruments")),
    )
    op.create_table(
        "ledger_accounts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_accounts")),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("bot", sa.String(), nullable=False),
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("quantity", columns.Money(), nullable=False),
        sa.Column("limit_price", columns.Money(), nullable=True),
        sa.Column("time_in_force", sa.String(), nullable=False),
        sa.Column("reference_price", columns.Money(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("signal_expires_at", columns.Moment(), nullable=False),
        sa.Column("filled_quantity", columns.Money(), nullable=False),
        sa.Column("venue_order_id", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evaluation", columns.Json, nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("trade_id_floor", sa.BigInteger(), nullable=True),
        sa.Column("approved_at", columns.Moment(), nullable=True),
        sa.Column("sent_at", columns.Moment(), nullable=True),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("client_order_id", name=op.f("uq_orders_client_order_id")),
    )
    op.create_index(
        op.f("ix_orders_bot_approved_at"), "orders", ["bot", "approved_at"], unique=False
    )
    op.create_index(op.f("ix_orders_bot_created_at"), "orders", ["bot", "created_at"], unique=False)
    op.create_index(op.f("ix_orders_created_at"), "orders", ["created_at"], unique=False)
    op.create_index(
        "ix_orders_open",
        "orders",
        ["venue", "account", "symbol"],
        unique=False,
        sqlite_where=sa.text("is_open"),
        postgresql_where=sa.text("is_open"),
    )
    op.create_index(
        "ix_orders_waiting",
        "orders",
        ["updated_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('ready', 'approved')"),
        postgresql_where=sa.text("state IN ('ready', 'approved')"),
    )

    op.create_table(
        "outbox",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("kwargs", columns.Json, nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("sent_at", columns.Moment(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("task_id", name=op.f("uq_outbox_task_id")),
    )
    op.create_index(
        "ix_outbox_unsent",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )

    op.create_table(
        "positions",
        sa.Column("bot", sa.String(), nullable=False),
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("quantity", columns.Money(), nullable=False),
        sa.Column("cash", columns.Money(), nullable=False),
        sa.Column("cost", columns.Money(), nullable=False),
        sa.Column("realised", columns.Money(), nullable=False),
        sa.Column("last_trade_id", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("bot", "venue", "account", "symbol", name=op.f("pk_positions")),
    )
    states = op.create_table(
        "trading_states",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_trading_states")),
    )
    op.create_table(
        "attempts",
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", columns.Moment(), nullable=False),
        sa.Column("fence_at", columns.Moment(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_attempts_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_attempts")),
    )
    op.create_table(
        "fills",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("venue", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("trade_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=True),
        sa.Column("bot", sa.String(), nullable=True),
        sa.Column("is_external", sa.Boolean(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("price", columns.Money(), nullable=False),
        sa.Column("quantity", columns.Money(), nullable=False),
        sa.Column("commission", columns.Money(), nullable=False),
        sa.Column("commission_asset", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("booked_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_fills_order_id_orders")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fills")),
        sa.UniqueConstraint(
            "venue",
            "symbol",
            "trade_id",
            "account",
            name=op.f("uq_fills_venue_symbol_trade_id_account"),
        ),
    )
    op.create_index(
        op.f("ix_fills_bot_venue_symbol_account"),
        "fills",
        ["bot", "venue", "symbol", "account"],
        unique=False,
    )
    op.create_index(op.f("ix_fills_order_id"), "fills", ["order_id"], unique=False)

    op.create_table(
        "order_events",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("venue_order_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_events_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_events")),
    )
    op.create_index(op.f("ix_order_events_order_id"), "order_events", ["order_id"], unique=False)

    op.create_table(
        "entries",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fill_id", ROW_NUMBER, nullable=False),
        sa.Column("previous_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["fill_id"], ["fills.id"], name=op.f("fk_entries_fill_id_fills")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_entries")),
        sa.UniqueConstraint("fill_id", name=op.f("uq_entries_fill_id")),
    )
    op.create_table(
        "postings",
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ledger_account", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("amount", columns.Money(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ledger_account"],
            ["ledger_accounts.name"],
            name=op.f("fk_postings_ledger_account_ledger_accounts"),
        ),
        sa.ForeignKeyConstraint(
            ["sequence"], ["entries.sequence"], name=op.f("fk_postings_sequence_entries")
        ),
        sa.PrimaryKeyConstraint("sequence", "line", name=op.f("pk_postings")),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": "0" * 64}])
    # Without its row the swarm counts as halted.
    swarm = {
        "scope": "swarm",
        "state": "active",
        "reason": "a new ledger",
        "actor": "migration 0001",
        "at": SystemClock().now(),
    }
    op.bulk_insert(states, [swarm])


def downgrade() -> None:
    op.drop_table("postings")
    op.drop_table("entries")
    op.drop_index(op.f("ix_order_events_order_id"), table_name="order_events")

    op.drop_table("order_events")
    op.drop_index(op.f("ix_fills_order_id"), table_name="fills")
    op.drop_index(op.f("ix_fills_bot_venue_symbol_account"), table_name="fills")

    op.drop_table("fills")
    op.drop_table("attempts")
    op.drop_table("trading_states")
    op.drop_table("positions")
    op.drop_index(
        "ix_outbox_unsent",
        table_name="outbox",
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )

    op.drop_table("outbox")
    op.drop_index(
        "ix_orders_waiting",
        table_name="orders",
        sqlite_where=sa.text("state IN ('ready', 'approved')"),
        postgresql_where=sa.text("state IN ('ready', 'approved')"),
    )
    op.drop_index(
        "ix_orders_open",
        table_name="orders",
        sqlite_where=sa.text("is_open"),
        postgresql_where=sa.text("is_open"),
    )
    op.drop_index(op.f("ix_orders_created_at"), table_name="orders")
    op.drop_index(op.f("ix_orders_bot_created_at"), table_name="orders")
    op.drop_index(op.f("ix_orders_bot_approved_at"), table_name="orders")

    op.drop_table("orders")
    op.drop_table("ledger_accounts")
    op.drop_table("instruments")
    op.drop_table("daily_results")
    op.drop_table("chain_head")
    op.drop_table("candles")
    op.drop_index(op.f("ix_bots_venue_symbol_state"), table_name="bots")

    op.drop_table("bots")
    op.drop_index(op.f("ix_audit_subject"), table_name="audit")

    op.drop_table("audit")
    op.drop_table("accounts")
