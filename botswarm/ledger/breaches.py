"""Write down what the gate found against a limit: the event, the warning line, the halt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from sqlalchemy import delete, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.limits import Finding
from botswarm.domain.order import Order
from botswarm.domain.permission import Approved, TradingState, Verdict
from botswarm.ledger import halts, risk_events
from botswarm.ledger.columns import LARGEST
from botswarm.ledger.fold import EXACT, QUANTUM, ZERO
from botswarm.ledger.halts import Cause, Halt
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.risk_models import LimitWarningRow

_CROSS = {
    name: kind.insert(LimitWarningRow)
    .on_conflict_do_nothing()
    .returning(LimitWarningRow.scope, LimitWarningRow.kind)
    for name, kind in (("sqlite", sqlite), ("postgresql", postgresql))
}


def note(session: Session, verdict: Verdict, now: datetime) -> None:
    """In the transaction of the verdict. Most orders have nothing to be noted."""
    if isinstance(verdict, Approved):
        if verdict.warnings:
            _warn(session, verdict.order, verdict.warnings, now)
        if verdict.calmed:
            _calm(session, verdict.calmed)
    elif verdict.breach is not None:
        found = verdict.breach
        risk_events.note(session, _event(verdict.order, found, now))
        if found.limit.rule.halts and found.value is not None:
            halts.restrict(session, _halt(found, now))


def _warn(session: Session, order: Order, found: Iterable[Finding], now: datetime) -> None:
    events = {(each.scope, each.limit.kind.value): _event(order, each, now) for each in found}
    lines = [
        {"scope": scope, "kind": kind, "at": now, "value": event.value or ZERO}
        for (scope, kind), event in events.items()
    ]
    session.flush()
    # Another account's order may have crossed the line in the same moment, and told it.
    connection = session.connection()
    crossed = connection.execute(_CROSS[connection.dialect.name], lines)
    risk_events.note(session, *(events[row.scope, row.kind] for row in crossed))


def _calm(session: Session, lines: Iterable[tuple[str, str]]) -> None:
    key = tuple_(LimitWarningRow.scope, LimitWarningRow.kind)
    session.execute(delete(LimitWarningRow).where(key.in_(list(lines))))


def _halt(found: Finding, now: datetime) -> Halt:
    return Halt(
        scope=found.scope,
        state=TradingState.REDUCING,
        reason=found.words,
        actor=f"limit:{found.limit.kind}",
        at=now,
        cause=Cause.LIMIT,
    )


def _kept(value: Decimal | None) -> Decimal | None:
    """As the table can keep it; to the last digit it stands in the numbers."""
    if value is None or abs(value) >= LARGEST:
        return None
    return value.quantize(QUANTUM, context=EXACT)


def _event(order: Order, found: Finding, now: datetime) -> RiskEvent:
    limit = found.limit
    line = limit.breach if found.is_breach else limit.warn
    return RiskEvent(
        at=now,
        scope=found.scope,
        kind=limit.kind.value,
        severity=Severity.BREACH if found.is_breach else Severity.WARN,
        words=found.words,
        limit_value=line,
        value=_kept(found.value),
        venue=order.venue,
        account=order.account,
        symbol=order.symbol,
        bot=order.bot,
        order_id=order.id,
        numbers={
            "limit": plain(limit.breach),
            "warn": plain_or_none(limit.warn),
            "value": plain_or_none(found.value),
            "limit_of": limit.scope,
            "source": limit.source,
            "side": order.side.value,
            "quantity": plain(order.quantity),
            "reference_price": plain(order.reference_price),
            "limit_price": plain_or_none(order.limit_price),
        },
    )
