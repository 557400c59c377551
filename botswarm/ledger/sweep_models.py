"""The tables that risk sweeps keep: prices, what stands at risk by them, and what they found."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class MarkRow(Table):
    """What a market was worth when a process that follows it said so last."""

    __tablename__ = "marks"

    venue: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    price: Mapped[Decimal]
    """Of the last trade; the middle of the book where nobody has traded."""
    bid: Mapped[Decimal | None]
    ask: Mapped[Decimal | None]
    at: Mapped[datetime]
    """By the venue's clock: how old the price is, not when it was written."""


class StandingRow(Table):
    """Profit, loss and exposure of a scope in one quote asset, as a sweep reckoned them.

    Scopes are those of ``trading_states``. What rests on a price nobody knows is NULL, and
    ``unknown`` says why.
    """

    __tablename__ = "standings"

    scope: Mapped[str] = mapped_column(primary_key=True)
    quote: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    day: Mapped[str]
    """The trading day, by the boundary that is set."""
    positions: Mapped[int]
    realised: Mapped[Decimal]
    """Ever."""
    unrealised: Mapped[Decimal | None]
    day_result: Mapped[Decimal | None]
    """Realised and unrealised when the trading day began."""
    peak: Mapped[Decimal | None]
    """The highest that realised and unrealised have been together."""
    peak_at: Mapped[datetime | None]
    equity: Mapped[Decimal | None]
    """Of an account: all it has, in this asset."""
    equity_peak: Mapped[Decimal | None]
    gross: Mapped[Decimal | None]
    net: Mapped[Decimal | None]
    losing_streak: Mapped[int]
    """How many of its latest closing orders lost, in a row."""
    lost_at: Mapped[datetime | None]
    marked_at: Mapped[datetime | None]
    """The oldest price it rests on; NULL where it rests on none."""
    unknown: Mapped[str | None] = mapped_column(Text)
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """Where the journal ended when it was reckoned: entries after it are not in it."""


class ExposureRow(Table):
    """What all bots of an account hold of a market together, valued by its mark."""

    __tablename__ = "exposures"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    quote: Mapped[str]
    long_quantity: Mapped[Decimal]
    short_quantity: Mapped[Decimal]
    price: Mapped[Decimal | None]
    """NULL where nobody knows a fresh one."""
    marked_at: Mapped[datetime | None]
    at: Mapped[datetime]
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """Where the journal ended when it was reckoned."""


class OutcomeRow(Table):
    """What one order that closed a position earned or lost, at average cost."""

    __tablename__ = "outcomes"
    __table_args__ = (
        Index(None, "at"),
        Index(None, "bot", "at"),
        Index(None, "venue", "symbol", "at"),
    )

    order_id: Mapped[str] = mapped_column(primary_key=True)
    bot: Mapped[str]
    strategy: Mapped[str | None]
    venue: Mapped[str]
    account: Mapped[str]
    symbol: Mapped[str]
    quote: Mapped[str]
    realised: Mapped[Decimal]
    turnover: Mapped[Decimal]
    """What it closed, at the prices it closed at."""
    at: Mapped[datetime]
    """Of its latest fill."""
    is_stop: Mapped[bool] = mapped_column(server_default=false())


class OutcomeHoldingRow(Table):
    """What a bot held when the journal was last read for outcomes: the next fills go on there."""

    __tablename__ = "outcome_holdings"

    bot: Mapped[str] = mapped_column(primary_key=True)
    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal]
    cost: Mapped[Decimal]


class SweepCursorRow(Table):
    """How far a sweep has read."""

    __tablename__ = "sweep_cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]


class RiskSweepRow(Table):
    """One sweep: how much it looked at, what it found, and how long that took."""

    __tablename__ = "risk_sweeps"
    __table_args__ = (Index(None, "name", "at"), Index(None, "at"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    name: Mapped[str]
    at: Mapped[datetime]
    took_ms: Mapped[int]
    looked: Mapped[int]
    found: Mapped[int]
    result: Mapped[dict[str, Any]]
    error: Mapped[str | None] = mapped_column(Text)


class FindingRow(Table):
    """What a sweep finds wrong now. It goes when a sweep finds it no more; events remember it."""

    __tablename__ = "risk_findings"

    sweep: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    """A scope, an order, a process: what the finding is about."""
    scope: Mapped[str]
    severity: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    limit_value: Mapped[Decimal | None]
    value: Mapped[Decimal | None]
    words: Mapped[str] = mapped_column(Text)
    numbers: Mapped[dict[str, Any] | None]


class ProtectionRow(Table):
    """A protection that people switched on, for a scope; what it was before is in the audit."""

    __tablename__ = "protections"

    scope: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    parameters: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class GuardRow(Table):
    """The stop that protects a position: where it stands, and which order keeps it there."""

    __tablename__ = "guards"

    bot: Mapped[str] = mapped_column(primary_key=True)
    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    best_price: Mapped[Decimal | None]
    """The best the market has been at since the position was opened."""
    stop_price: Mapped[Decimal]
    quantity: Mapped[Decimal]
    order_id: Mapped[str | None]
    """NULL where none is at the venue, and the sweep itself has to act."""
    number: Mapped[int]
    """How many orders it has had: the next one's id is made of it."""
    at: Mapped[datetime]
    words: Mapped[str | None] = mapped_column(Text)
    """Why none is at the venue."""
