"""What was found against a limit or a protection: written once, with its numbers, and read on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session

from botswarm.ledger.risk_models import RiskEventRow

AT_ONCE_MAX = 1000
"""Events in one answer; who reads on asks again from the last one's id."""


class Severity(StrEnum):
    INFO = "info"
    WARN = "warn"
    BREACH = "breach"


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskEvent:
    """``scope`` is written as that of a trading state; amounts in ``numbers`` are text."""

    at: datetime
    scope: str
    kind: str
    severity: Severity
    words: str
    limit_value: Decimal | None = None
    value: Decimal | None = None
    venue: str | None = None
    account: str | None = None
    symbol: str | None = None
    bot: str | None = None
    order_id: str | None = None
    numbers: Mapping[str, Any] | None = None
    id: int | None = None
    """Its place among all events; nothing before it is written."""


_KEPT = tuple(each.name for each in fields(RiskEvent) if each.name != "id")


def note(session: Session, *events: RiskEvent) -> None:
    """Written with the transaction of what caused them."""
    if events:
        session.connection().execute(insert(RiskEventRow), [values_of(event) for event in events])


def values_of(event: RiskEvent) -> dict[str, Any]:
    """As a row of the table."""
    values = {name: getattr(event, name) for name in _KEPT}
    values["severity"] = event.severity.value
    values["numbers"] = None if event.numbers is None else dict(event.numbers)
    return values


def since(
    session: Session,
    number: int,
    *,
    scope: str | None = None,
    kind: str | None = None,
    severity: Severity | None = None,
    after: datetime | None = None,
    limit: int = AT_ONCE_MAX,
) -> Sequence[RiskEvent]:
    """Events with a higher id, oldest first, at most ``limit``.

    In PostgreSQL an id may become visible after a higher one, for as long as its transaction
    takes: who must not miss any goes back a little and leaves out what it knows.
    """
    newer = select(RiskEventRow).where(RiskEventRow.id > number)
    question = _wanted(newer, scope, kind, severity, after)
    rows = session.scalars(question.order_by(RiskEventRow.id).limit(limit))
    return [_event(row) for row in rows]


def latest(
    session: Session,
    *,
    scope: str | None = None,
    kind: str | None = None,
    severity: Severity | None = None,
    after: datetime | None = None,
    limit: int = AT_ONCE_MAX,
) -> Sequence[RiskEvent]:
    """The newest first, at most ``limit``."""
    question = _wanted(select(RiskEventRow), scope, kind, severity, after)
    rows = session.scalars(question.order_by(RiskEventRow.id.desc()).limit(limit))
    return [_event(row) for row in rows]


def last_id(session: Session) -> int:
    return session.execute(select(func.coalesce(func.max(RiskEventRow.id), 0))).scalar_one()


def _wanted(
    question: Select[RiskEventRow],
    scope: str | None,
    kind: str | None,
    severity: Severity | None,
    after: datetime | None,
) -> Select[RiskEventRow]:
    if scope is not None:
        question = question.where(RiskEventRow.scope == scope)
    if kind is not None:
        question = question.where(RiskEventRow.kind == kind)
    if severity is not None:
        question = question.where(RiskEventRow.severity == severity.value)
    return question if after is None else question.where(RiskEventRow.at > after)


def _event(row: RiskEventRow) -> RiskEvent:
    values = {name: getattr(row, name) for name in _KEPT}
    return RiskEvent(**{**values, "severity": Severity(row.severity)}, id=row.id)
