"""The tables in which the ledger keeps what may be risked, and what was found against it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class RiskEventRow(Table):
    """A warning or a breach, with the numbers that caused it. Append only."""

    __tablename__ = "risk_events"
    __table_args__ = (Index(None, "at"), Index(None, "scope", "id"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    scope: Mapped[str]
    kind: Mapped[str]
    severity: Mapped[str]
    limit_value: Mapped[Decimal | None]
    value: Mapped[Decimal | None]
    venue: Mapped[str | None]
    account: Mapped[str | None]
    symbol: Mapped[str | None]
    bot: Mapped[str | None]
    order_id: Mapped[str | None]
    words: Mapped[str] = mapped_column(Text)
    numbers: Mapped[dict[str, Any] | None]
    """Amounts are text."""


class LimitRow(Table):
    """What may be risked within a scope, written as those of trading states are."""

    __tablename__ = "limits"

    scope: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    warn: Mapped[Decimal | None]
    breach: Mapped[Decimal]
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class LimitRevisionRow(Table):
    """One row: how often the limits have changed. Who changes one holds it, so what was read at
    a revision is all there was at it.
    """

    __tablename__ = "limit_revision"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)


class LimitWarningRow(Table):
    """A warning line that is crossed now: it was told once, and is again after it was left."""

    __tablename__ = "limit_warnings"

    scope: Mapped[str] = mapped_column(primary_key=True)
    """Of what the value is, which may be narrower than what the limit was set for."""
    kind: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    value: Mapped[Decimal]
