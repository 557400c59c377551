"""What sweeps find wrong: told when it begins, grows worse and is over, and never twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from botswarm.domain.finding import Finding, Gravity
from botswarm.ledger import risk_events
from botswarm.ledger.fold import EXACT, QUANTUM
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.session import Database, insert_new
from botswarm.ledger.sweep_models import FindingRow, RiskSweepRow, SweepCursorRow

KEPT_FOR = timedelta(days=30)
PRUNED_MAX = 5_000
AT_ONCE_MAX = 200
"""Findings of one sweep that are kept one by one: of more the first are, and the count is told."""
RANK = {Severity.INFO: 0, Severity.WARN: 1, Severity.BREACH: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A finding as it stands now."""

    sweep: str
    finding: Finding
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDone:
    name: str
    at: datetime
    took_ms: int
    looked: int
    found: int
    result: dict[str, Any]
    error: str | None = None


class Findings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def standing(self) -> Sequence[Standing]:
        """The gravest first, then the oldest."""

        def work(session: Session) -> list[Standing]:
            rows = session.scalars(select(FindingRow).order_by(FindingRow.first_at))
            found = [_standing(row) for row in rows]
            return sorted(found, key=lambda each: -RANK[Severity(each.finding.severity)])

        return self._database.read(work)

    def keep(self, sweep: str, findings: Iterable[Finding], now: datetime) -> Sequence[Finding]:
        """Those that are new or graver than before, each told as an event; so is what is over."""
        known = select(FindingRow.kind).where(FindingRow.sweep == sweep).limit(1)
        some = list(findings)
        if not some and self._database.read(lambda session: session.scalar(known)) is None:
            return ()  # as nearly always: nothing to lock, nothing to write
        return self._database.write(lambda session: keep(session, sweep, some, now))

    def did(self, done: SweepDone) -> None:
        """One row for each sweep; the oldest go."""

        def work(session: Session) -> None:
            values = {name: getattr(done, name) for name in SweepDone.__dataclass_fields__}
            session.add(RiskSweepRow(**values))
            oldest = (
                select(RiskSweepRow.id)
                .where(RiskSweepRow.at < done.at - KEPT_FOR)
                .limit(PRUNED_MAX)
            )
            session.execute(delete(RiskSweepRow).where(RiskSweepRow.id.in_(oldest)))

        self._database.write(work)

    def sweeps(self, name: str | None = None, limit: int = 50) -> Sequence[SweepDone]:
        """The latest first."""
        question = select(RiskSweepRow).order_by(RiskSweepRow.id.desc()).limit(limit)
        if name is not None:
            question = question.where(RiskSweepRow.name == name)
        return self._database.read(
            lambda session: [_done(row) for row in session.scalars(question)]
        )

    def last_sweeps(self, names: Iterable[str]) -> dict[str, SweepDone]:
        def work(session: Session) -> dict[str, SweepDone]:
            found = {}
            for name in names:
                question = select(RiskSweepRow).where(RiskSweepRow.name == name)
                row = session.scalars(question.order_by(RiskSweepRow.at.desc()).limit(1)).first()
                if row is not None:
                    found[name] = _done(row)
            return found

        return self._database.read(work)

    def events(self, number: int = 0, **wanted: Any) -> Sequence[RiskEvent]:
        """As botswarm.ledger.risk_events.since."""
        return self._database.read(lambda session: risk_events.since(session, number, **wanted))


def keep(
    session: Session, sweep: str, findings: Sequence[Finding], now: datetime
) -> Sequence[Finding]:
    hold(session, f"findings:{sweep}", now)
    known = {
        (row.kind, row.subject): row
        for row in session.scalars(select(FindingRow).where(FindingRow.sweep == sweep))
    }
    news: list[Finding] = []
    seen: set[tuple[str, str]] = set()
    for finding in findings:
        key = finding.kind, finding.subject
        if key in seen:
            continue
        seen.add(key)
        row = known.get(key)
        is_graver = row is None or RANK[Severity(finding.severity)] > RANK[Severity(row.severity)]
        if is_graver:
            news.append(finding)
        if row is None:
            row = FindingRow(sweep=sweep, kind=finding.kind, subject=finding.subject, first_at=now)
            session.add(row)
        _take(row, finding, now)
    gone = [row for key, row in known.items() if key not in seen]
    risk_events.note(
        session, *(_event(each, now) for each in news), *(_over(row, now) for row in gone)
    )
    for row in gone:
        session.delete(row)
    return news


def hold(session: Session, name: str, now: datetime) -> SweepCursorRow:
    """One at a time from here to the end of the transaction: two of the same would tell twice."""
    question = select(SweepCursorRow).where(SweepCursorRow.name == name).with_for_update()
    row = session.scalars(question.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        insert_new(session, SweepCursorRow, [{"name": name, "position": 0, "at": now}])
        row = session.scalars(question.execution_options(populate_existing=True)).one()
    return row


def _take(row: FindingRow, finding: Finding, now: datetime) -> None:
    row.scope, row.severity, row.last_at = finding.scope, finding.severity, now
    row.limit_value, row.value = _kept(finding.limit_value), _kept(finding.value)
    row.words = finding.words
    row.numbers = dict(finding.numbers)


def _event(finding: Finding, now: datetime) -> RiskEvent:
    return RiskEvent(
        at=now,
        scope=finding.scope,
        kind=finding.kind,
        severity=Severity(finding.severity),
        words=finding.words,
        limit_value=_kept(finding.limit_value),
        value=_kept(finding.value),
        order_id=finding.order_id,
        **_named(finding),
        numbers=dict(finding.numbers),
    )


def _named(finding: Finding) -> dict[str, Any]:
    """What it is about, as an event's columns; what it does not say its scope does."""
    level, _, rest = finding.scope.partition(":")
    first, _, second = rest.partition(":")
    has_venue = level in ("account", "market")
    return {
        "venue": finding.venue or (first if has_venue else None),
        "account": finding.account or (second if level == "account" else None),
        "symbol": finding.symbol or (second if level == "market" else None),
        "bot": finding.bot or (rest if level == "bot" else None),
    }


def _over(row: FindingRow, now: datetime) -> RiskEvent:
    lasted = (now - row.first_at).total_seconds()
    return RiskEvent(
        at=now,
        scope=row.scope,
        kind=row.kind,
        severity=Severity.INFO,
        words=f"over after {lasted:.0f} s: {row.words}",
        limit_value=row.limit_value,
        value=row.value,
        numbers={"subject": row.subject, "lasted_s": f"{lasted:.0f}"},
    )


def _kept(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(QUANTUM, context=EXACT)


def _standing(row: FindingRow) -> Standing:
    finding = Finding(
        kind=row.kind,
        subject=row.subject,
        scope=row.scope,
        severity=cast("Gravity", row.severity),
        words=row.words,
        limit_value=row.limit_value,
        value=row.value,
        numbers=row.numbers or {},
    )
    return Standing(sweep=row.sweep, finding=finding, first_at=row.first_at, last_at=row.last_at)


def _done(row: RiskSweepRow) -> SweepDone:
    return SweepDone(**{name: getattr(row, name) for name in SweepDone.__dataclass_fields__})
