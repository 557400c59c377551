"""Risk sweeps keep prices, what stands at risk by them, and what they found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from botswarm.ledger import columns

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PLACE = ("venue", "account", "symbol")
INDEXES = (
    ("outcomes", ("at",)),
    ("outcomes", ("bot", "at")),
    ("outcomes", ("venue", "symbol", "at")),
    ("risk_sweeps", ("name", "at")),
    ("risk_sweeps", ("at",)),
)


def upgrade() -> None:
    op.create_table(
        "marks",
        *_text("venue", "symbol"),
        _money("price"),
        _money("bid", nullable=True),
        _money("ask", nullable=True),
        _moment("at"),
        sa.PrimaryKeyConstraint("venue", "symbol", name=op.f("pk_marks")),
    )
    _create_of_standings()
    _create_of_outcomes()
    op.create_table(
        "risk_sweeps",
        sa.Column("id", ROW_NUMBER, nullable=False),
        *_text("name"),
        _moment("at"),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("result", columns.Json, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_risk_sweeps")),
    )
    for table, names in INDEXES:
        op.create_index(_index(table, names), table, list(names), unique=False)


def _create_of_standings() -> None:
    op.create_table(
        "standings",
        *_text("scope", "quote"),
        _moment("at"),
        *_text("day"),
        sa.Column("positions", sa.Integer(), nullable=False),
        _money("realised"),
        _money("unrealised", nullable=True),
        _money("day_result", nullable=True),
        _money("peak", nullable=True),
        _moment("peak_at", nullable=True),
        *(_money(name, nullable=True) for name in ("equity", "equity_peak", "gross", "net")),
        sa.Column("losing_streak", sa.Integer(), nullable=False),
        _moment("lost_at", nullable=True),
        _moment("marked_at", nullable=True),
        sa.Column("unknown", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "quote", name=op.f("pk_standings")),
    )
    op.create_table(
        "exposures",
        *_text(*PLACE, "quote"),
        _money("long_quantity"),
        _money("short_quantity"),
        _money("price", nullable=True),
        _moment("marked_at", nullable=True),
        _moment("at"),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint(*PLACE, name=op.f("pk_exposures")),
    )


def _create_of_outcomes() -> None:
    op.create_table(
        "outcomes",
        *_text("order_id", "bot"),
        sa.Column("strategy", sa.String(), nullable=True),
        *_text(*PLACE, "quote"),
        _money("realised"),
        _money("turnover"),
        _moment("at"),
        sa.Column("is_stop", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_outcomes")),
    )
    op.create_table(
        "outcome_holdings",
        *_text("bot", *PLACE),
        _money("quantity"),
        _money("cost"),
        sa.PrimaryKeyConstraint("bot", *PLACE, name=op.f("pk_outcome_holdings")),
    )
    op.create_table(
        "sweep_cursors",
        *_text("name"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        _moment("at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sweep_cursors")),
    )


def downgrade() -> None:
    for table, names in INDEXES:
        op.drop_index(_index(table, names), table_name=table)
    for table in (
        *("risk_sweeps", "sweep_cursors", "outcome_holdings", "outcomes"),
        *("exposures", "standings", "marks"),
    ):
        op.drop_table(table)


def _text(*names: str) -> tuple[sa.Column[str], ...]:
    return tuple(sa.Column(name, sa.String(), nullable=False) for name in names)


def _money(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, columns.Money(), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, columns.Moment(), nullable=nullable)


def _index(table: str, names: tuple[str, ...]) -> str:
    return op.f(f"ix_{table}_{'_'.join(names)}")
