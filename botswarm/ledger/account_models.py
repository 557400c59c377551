"""The tables in which the ledger keeps what it found when it was held against the venues."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class AccountFoldRow(Table):
    """What an account has by the journal, up to an entry: the next fold goes on from there."""

    __tablename__ = "account_folds"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    balances: Mapped[dict[str, Any]]


class AccountMarketRow(Table):
    """Up to which trade of a market ledger and venue agreed."""

    __tablename__ = "account_markets"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    trade_id: Mapped[int] = mapped_column(BigInteger)


class ExternalOrderRow(Table):
    """An order at the venue that is not ours. It is kept, and nobody adopts it."""

    __tablename__ = "external_orders"

    venue: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    venue_order_id: Mapped[str] = mapped_column(primary_key=True)
    client_order_id: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class ReconciliationRow(Table):
    """One comparison of an account with its venue; the oldest are pruned."""

    __tablename__ = "reconciliations"
    __table_args__ = (Index(None, "venue", "account", "at"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    venue: Mapped[str]
    account: Mapped[str]
    at: Mapped[datetime]
    is_clean: Mapped[bool]
    result: Mapped[dict[str, Any]]


class DifferenceRow(Table):
    """What ledger and venue do not agree on. It stands until it is gone, or somebody accepts it."""

    __tablename__ = "differences"
    __table_args__ = (Index(None, "venue", "account", "subject"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    venue: Mapped[str]
    account: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    words: Mapped[str] = mapped_column(Text)
    asset: Mapped[str | None]
    amount: Mapped[Decimal | None]
    """What the venue has more of."""
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    reason: Mapped[str | None] = mapped_column(Text)


class HeartbeatRow(Table):
    """When a process was last able to say that it is well."""

    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    at: Mapped[datetime]
