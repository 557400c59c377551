"""The tables of the ledger. Migrations make them; a test holds the two to each other."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from botswarm.ledger.columns import Json, Moment, Money

# Fixed names, so that a migration can name what it changes on either database.
CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself only in a column that it calls INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=CONVENTION)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        Decimal: Money(),
        datetime: Moment(),
        dict[str, Any]: Json,
        list[str]: Json,
        str: String(),
    }


class InstrumentRow(Table):
    __tablename__ = "instruments"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    base: Mapped[str]
    quote: Mapped[str]
    tick_size: Mapped[Decimal]
    lot_size: Mapped[Decimal]
    quantity_min: Mapped[Decimal]
    quantity_max: Mapped[Decimal]
    notional_min: Mapped[Decimal]
    is_trading: Mapped[bool]


class CandleRow(Table):
    """Closed candles only."""

    __tablename__ = "candles"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    timeframe: Mapped[str] = mapped_column(primary_key=True)
    open_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    open: Mapped[Decimal]
    high: Mapped[Decimal]
    low: Mapped[Decimal]
    close: Mapped[Decimal]
    volume: Mapped[Decimal]
    trades: Mapped[int]


class FeedSubscriptionRow(Table):
    """What people asked the feed for by hand; it reads along every few seconds."""

    __tablename__ = "feed_subscriptions"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]


class BotRow(Table):
    __tablename__ = "bots"
    __table_args__ = (
        Index(None, "venue", "symbol", "state"),
        Index(None, "venue", "symbol", "revision"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    strategy: Mapped[str]
    venue: Mapped[str]
    symbol: Mapped[str]
    account: Mapped[str]
    timeframe: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    state: Mapped[str]
    reason: Mapped[str | None] = mapped_column(Text)
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    """Of the last decision that was committed; the next one must have seen this very number."""
    memory: Mapped[dict[str, Any]]
    last_evaluation: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default="1")
    """Of its configuration; each has a row of its own."""
    others: Mapped[list[str] | None]
    """Further symbols of its venue that its strategy looks at."""
    tags: Mapped[list[str] | None]
    is_shadow: Mapped[bool] = mapped_column(server_default=false())
    """It decides and never orders."""
    armed_until: Mapped[datetime | None]
    """Until when it may run on an account of real money."""
    revision: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Its market's, when its stand changed last; a decision must have seen this very number."""


class BotVersionRow(Table):
    """A bot's configuration as it was from one moment to the next. Append only, and it stays
    when the bot is deleted: orders name the version that decided on them.
    """

    __tablename__ = "bot_versions"

    bot: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    configuration: Mapped[dict[str, Any]]


class EvaluationRow(Table):
    """An evaluation that changed something, with all it was decided on; the oldest are pruned."""

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "bot", "at"), Index(None, "at"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    bot: Mapped[str]
    at: Mapped[datetime]
    sequence: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int]
    record: Mapped[dict[str, Any]]
    """As it stands in the bot's own row while it is the last one."""
    inputs: Mapped[dict[str, Any] | None]
    """What deciding again takes; nothing where the bot was not asked."""


class MarketRevisionRow(Table):
    """How often the stands of a market's bots have changed: what has not grown is not read."""

    __tablename__ = "market_revisions"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)


class MarketPassRow(Table):
    """The last evaluation of a market: one row says of all its bots that they were looked after."""

    __tablename__ = "market_passes"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    sequence: Mapped[int] = mapped_column(BigInteger)
    bots: Mapped[int]
    passes: Mapped[int] = mapped_column(BigInteger)
    """How many there were, of every worker."""
    took_ms: Mapped[int]
    """The slowest since the row was written before."""


class AccountRow(Table):
    """An account at a venue; its row is the lock under which its limits are judged."""

    __tablename__ = "accounts"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    """By the venue's clock: what happened before is part of the opening balances."""
    reconciled_at: Mapped[datetime | None]
    is_clean: Mapped[bool] = mapped_column(server_default=false())
    """Ledger and venue agreed to the last digit when they were last compared."""
    reconciliation: Mapped[dict[str, Any] | None]
    """The last one, in short."""
    armed_at: Mapped[datetime | None]
    """Somebody let real money be traded there; without that, none is."""
    armed_until: Mapped[datetime | None]
    armed_by: Mapped[str | None]


class ExchangeKeyRow(Table):
    """The key of an account, sealed: docs/keys.md says what is bound to what."""

    __tablename__ = "exchange_keys"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    version: Mapped[int]
    master_id: Mapped[str]
    wrap_nonce: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    nonce: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    tested_at: Mapped[datetime | None]
    test: Mapped[dict[str, Any] | None]
    """What the venue said of it."""


class OrderRow(Table):
    """One intent. It names its bot without a foreign key: history outlives what it is about."""

    __tablename__ = "orders"
    __table_args__ = (
        UniqueConstraint("client_order_id"),
        # To the letter what a question says there: SQLite looks no further than that.
        Index("ix_orders_open", "venue", "account", "symbol", sqlite_where=text("is_open = 1"),
              postgresql_where=text("is_open")),
        Index(
            "ix_orders_waiting",
            "updated_at",
            sqlite_where=text("state IN ('ready', 'approved')"),
            postgresql_where=text("state IN ('ready', 'approved')"),
        ),
        Index(
            "ix_orders_replacing",
            "replaces",
            sqlite_where=text("replaces IS NOT NULL"),
            postgresql_where=text("replaces IS NOT NULL"),
        ),
        Index(None, "bot", "approved_at"),
        Index(None, "bot", "created_at"),
        Index(None, "created_at"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(primary_key=True)
    client_order_id: Mapped[str]
    bot: Mapped[str]
    venue: Mapped[str]
    account: Mapped[str]
    symbol: Mapped[str]
    side: Mapped[str]
    kind: Mapped[str]
    quantity: Mapped[Decimal]
    limit_price: Mapped[Decimal | None]
    stop_price: Mapped[Decimal | None]
    time_in_force: Mapped[str]
    reference_price: Mapped[Decimal]
    state: Mapped[str]
    created_at: Mapped[datetime]
    signal_expires_at: Mapped[datetime]
    filled_quantity: Mapped[Decimal]
    venue_order_id: Mapped[str | None]
    reason: Mapped[str | None] = mapped_column(Text)
    evaluation: Mapped[dict[str, Any] | None]
    """What the bot saw and why it decided so."""
    is_open: Mapped[bool]
    """It counts against the limits: it may be live, or not all of its fills are booked."""
    attempts: Mapped[int]
    trade_id_floor: Mapped[int | None] = mapped_column(BigInteger)
    """The highest trade id known when it was first sent: its own fills are all above."""
    approved_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    replaces: Mapped[str | None]
    """The order that has to end before this one is judged."""
    is_reduce_only: Mapped[bool] = mapped_column(server_default=false())
    is_ending: Mapped[bool] = mapped_column(server_default=false())
    """Somebody asked for its end; who and why is in ``cancels``."""


class CancelRow(Table):
    """The wish that an order end: committed first, then asked for until the order is final."""

    __tablename__ = "cancels"
    __table_args__ = (
        Index("ix_cancels_pending", "order_id", sqlite_where=text("done_at IS NULL"),
              postgresql_where=text("done_at IS NULL")),
    )  # fmt: skip

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    done_at: Mapped[datetime | None]
    """When the order was at its end, however it came there."""


class OrderEventRow(Table):
    __tablename__ = "order_events"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    before: Mapped[str | None]
    after: Mapped[str]
    at: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(Text)
    venue_order_id: Mapped[str | None]


class AttemptRow(Table):
    """The frozen bytes of one try; written before the first of them is sent."""

    __tablename__ = "attempts"

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    signed_at: Mapped[datetime]
    fence_at: Mapped[datetime]
    created_at: Mapped[datetime]


class FillRow(Table):
    """Append only. Those without an order of ours are external: kept, and nobody's position."""

    __tablename__ = "fills"
    __table_args__ = (
        UniqueConstraint("venue", "symbol", "trade_id", "account"),
        Index(None, "bot", "venue", "symbol", "account"),
    )

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    venue: Mapped[str]
    symbol: Mapped[str]
    trade_id: Mapped[int] = mapped_column(BigInteger)
    account: Mapped[str]
    client_order_id: Mapped[str]
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"), index=True)
    bot: Mapped[str | None]
    is_external: Mapped[bool]
    side: Mapped[str]
    price: Mapped[Decimal]
    quantity: Mapped[Decimal]
    commission: Mapped[Decimal]
    commission_asset: Mapped[str]
    at: Mapped[datetime]
    booked_at: Mapped[datetime]


class LedgerAccountRow(Table):
    """Where money can be: ``bot:NAME``, ``clearing:VENUE:ACCOUNT``, and likewise ``fees:…``,
    ``opening:…``, ``external:…`` and ``correction:…``.
    """

    __tablename__ = "ledger_accounts"

    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]


class AdjustmentRow(Table):
    """What moved an account's balance and was no fill: its opening, a deposit, a correction.
    Append only.
    """

    __tablename__ = "adjustments"
    __table_args__ = (UniqueConstraint("venue", "account", "reference"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    venue: Mapped[str]
    account: Mapped[str]
    kind: Mapped[str]
    asset: Mapped[str]
    amount: Mapped[Decimal]
    """What the account has more of."""
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str]
    reference: Mapped[str]
    """What it is about, by name: the same is booked once."""
    at: Mapped[datetime]


class EntryRow(Table):
    """One event of the journal, chained to the one before it. Append only.

    It is of a fill or of an adjustment, never of both.
    """

    __tablename__ = "entries"
    __table_args__ = (UniqueConstraint("fill_id"), UniqueConstraint("adjustment_id"))

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    fill_id: Mapped[int | None] = mapped_column(RowNumber, ForeignKey("fills.id"))
    adjustment_id: Mapped[int | None] = mapped_column(RowNumber, ForeignKey("adjustments.id"))
    previous_hash: Mapped[str]
    hash: Mapped[str]


class PostingRow(Table):
    """One leg of an entry; the legs of an entry sum to zero in every asset. Append only."""

    __tablename__ = "postings"

    sequence: Mapped[int] = mapped_column(ForeignKey("entries.sequence"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ledger_account: Mapped[str] = mapped_column(ForeignKey("ledger_accounts.name"))
    asset: Mapped[str]
    amount: Mapped[Decimal]


class ChainHeadRow(Table):
    """One row: where the chain ends. Whoever appends holds it, so appending is one at a time."""

    __tablename__ = "chain_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]


class PositionRow(Table):
    """A fold over the fills of one bot in one market, kept so that nobody folds them again."""

    __tablename__ = "positions"

    bot: Mapped[str] = mapped_column(primary_key=True)
    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal]
    cash: Mapped[Decimal]
    cost: Mapped[Decimal]
    """What the quantity held was paid for it, at average cost; negative when short."""
    realised: Mapped[Decimal]
    last_trade_id: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class DailyResultRow(Table):
    """What an account realised in a UTC day, at average cost, commission included."""

    __tablename__ = "daily_results"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    quote: Mapped[str] = mapped_column(primary_key=True)
    realised: Mapped[Decimal]


class TradingStateRow(Table):
    """By scope: ``swarm``, ``account:VENUE:ACCOUNT``, ``market:VENUE:SYMBOL``,
    ``strategy:NAME``, ``bot:NAME``.
    """

    __tablename__ = "trading_states"

    scope: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str]
    at: Mapped[datetime]
    cause: Mapped[str] = mapped_column(server_default="person")
    """Who holds it: a person, a limit, or the system; only the system lets go by itself."""
    until: Mapped[datetime | None]
    """From then on the scope is active again."""
    share: Mapped[int | None]
    """Of the swarm only: how many in a hundred of its bots may grow positions; null is all."""


class OutboxRow(Table):
    """Doorbells: a message about a row that was committed together with it."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("task_id"),
        Index("ix_outbox_unsent", "id", sqlite_where=text("sent_at IS NULL"),
              postgresql_where=text("sent_at IS NULL")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    task: Mapped[str]
    kwargs: Mapped[dict[str, Any]]
    queue: Mapped[str]
    task_id: Mapped[str]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    attempts: Mapped[int]


class AuditRow(Table):
    """Who changed what by hand or by rule, and why. Append only."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    reason: Mapped[str] = mapped_column(Text)


class AuditBotRow(Table):
    """Which bots an action on many of them changed: one row of the audit, however many."""

    __tablename__ = "audit_bots"

    bot: Mapped[str] = mapped_column(primary_key=True)
    audit: Mapped[int] = mapped_column(
        RowNumber, ForeignKey("audit.id"), primary_key=True, autoincrement=False
    )
