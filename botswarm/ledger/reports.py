"""What a day came to, added up out of the ledger and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.ledger.alert_models import AlertRow
from botswarm.ledger.models import AuditRow, DailyResultRow, FillRow, OrderRow
from botswarm.ledger.risk_models import RiskEventRow
from botswarm.ledger.schedule_models import ReportRow, ScheduleMissRow
from botswarm.ledger.session import Database, save_latest

DAILY = "daily"
HALTS = "trading.set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    kind: str
    day: str
    made_at: datetime
    data: Mapping[str, Any]


class Reports:
    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, day: date, now: datetime) -> Report:
        """Added up and kept; made again, it says what the ledger knows by then."""

        def work(session: Session) -> Report:
            report = Report(
                kind=DAILY, day=day.isoformat(), made_at=now, data=_of_day(session, day)
            )
            row = {"kind": DAILY, "day": report.day, "made_at": now, "data": dict(report.data)}
            save_latest(session, ReportRow, [row])
            return report

        return self._database.write(work)

    def now(self, day: date, now: datetime) -> Report:
        """Added up and not kept."""
        data = self._database.read(lambda session: _of_day(session, day))
        return Report(kind=DAILY, day=day.isoformat(), made_at=now, data=data)

    def of(self, day: date) -> Report | None:
        return next(iter(self._found(ReportRow.day == day.isoformat(), 1)), None)

    def latest(self, limit: int) -> Sequence[Report]:
        return self._found(ReportRow.kind == DAILY, limit)

    def _found(self, condition: Any, limit: int) -> Sequence[Report]:
        question = select(ReportRow).where(ReportRow.kind == DAILY, condition)
        question = question.order_by(ReportRow.day.desc()).limit(limit)
        return self._database.read(
            lambda session: [
                Report(kind=row.kind, day=row.day, made_at=row.made_at, data=row.data)
                for row in session.scalars(question)
            ]
        )


def _of_day(session: Session, day: date) -> dict[str, Any]:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + timedelta(days=1)

    def within(column: Any) -> tuple[Any, Any]:
        return column >= begin, column < end

    orders = select(OrderRow.state, func.count()).where(*within(OrderRow.created_at))
    fills = select(FillRow.venue, FillRow.account, func.count()).where(*within(FillRow.at))
    events = select(RiskEventRow.severity, func.count()).where(*within(RiskEventRow.at))
    alerts = select(func.count()).select_from(AlertRow).where(*within(AlertRow.began_at))
    halts = select(func.count()).select_from(AuditRow)
    halts = halts.where(AuditRow.action == HALTS, *within(AuditRow.at))
    missed = select(ScheduleMissRow.entry, func.sum(ScheduleMissRow.slots)).where(
        *within(ScheduleMissRow.to_at), ScheduleMissRow.reason.not_like("paused%")
    )
    return {
        "orders": _counts(session, orders.group_by(OrderRow.state)),
        "fills": {
            f"{venue}:{account}": int(count)
            for venue, account, count in session.execute(
                fills.group_by(FillRow.venue, FillRow.account)
            )
        },
        "realised": _realised(session, day),
        "commission": _commissions(session, within(FillRow.at)),
        "risk_events": _counts(session, events.group_by(RiskEventRow.severity)),
        "alerts": int(session.scalars(alerts).one()),
        "changes_of_trading_state": int(session.scalars(halts).one()),
        "missed_slots": _counts(session, missed.group_by(ScheduleMissRow.entry)),
    }


def _counts(session: Session, question: Select[str, int]) -> dict[str, int]:
    return {str(name): int(count) for name, count in session.execute(question)}


def _realised(session: Session, day: date) -> dict[str, str]:
    rows = session.scalars(select(DailyResultRow).where(DailyResultRow.day == day.isoformat()))
    return {f"{row.venue}:{row.account} {row.quote}": plain(row.realised) for row in rows}


def _commissions(session: Session, when: tuple[Any, Any]) -> dict[str, str]:
    """Added up here: SQLite would add amounts as floats."""
    sums: dict[str, Decimal] = {}
    question = select(FillRow.commission_asset, FillRow.commission).where(*when)
    for asset, amount in session.execute(question.execution_options(yield_per=5_000)):
        sums[asset] = sums.get(asset, Decimal(0)) + amount
    return {asset: plain(amount) for asset, amount in sorted(sums.items())}
