"""What ledger and venue do not agree on: it stands until it is gone, or a person accepts it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from botswarm.domain.reconciliation import Adjustment, Difference, Kind, Reconciliation
from botswarm.errors import NotFound, Refused
from botswarm.ledger import adjusting
from botswarm.ledger.account_models import DifferenceRow
from botswarm.ledger.models import AuditRow
from botswarm.ledger.standing import hold_account

BY_PROOF = "proof"
BY_CHANGE = "change"
"""It is another difference now, which is written down by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A difference that stands, or stood."""

    id: int
    venue: str
    account: str
    kind: str
    subject: str
    words: str
    asset: str | None
    amount: Decimal | None
    first_at: datetime
    last_at: datetime


def standing(session: Session) -> Sequence[Raised]:
    return [_raised(row) for row in session.scalars(_standing().order_by(DifferenceRow.id))]


def accepted(session: Session, venue: str, account: str) -> Collection[str]:
    """Subjects of what persons have accepted."""
    question = (
        select(DifferenceRow.subject)
        .distinct()
        .where(
            DifferenceRow.venue == venue,
            DifferenceRow.account == account,
            DifferenceRow.ended_at.is_not(None),
            DifferenceRow.ended_by.not_in((BY_PROOF, BY_CHANGE)),
        )
    )
    return set(session.scalars(question))


def note(session: Session, done: Reconciliation) -> None:
    """Those that are new are written down, and those that are gone have ended by proof."""
    known = session.scalars(
        _standing().where(DifferenceRow.venue == done.venue, DifferenceRow.account == done.account)
    ).all()
    found = {each.identity: each for each in done.raised}
    subjects = {each.subject for each in done.raised}
    undecided = {each.subject for each in done.undecided}
    for row in known:
        if (row.kind, row.subject, row.amount) in found:
            del found[row.kind, row.subject, row.amount]
            row.last_at = done.at
        elif row.subject not in undecided:
            row.ended_at = done.at
            row.ended_by = BY_CHANGE if row.subject in subjects else BY_PROOF
    session.add_all(_row_of(each, done) for each in found.values())


def _row_of(each: Difference, done: Reconciliation) -> DifferenceRow:
    return DifferenceRow(
        venue=done.venue,
        account=done.account,
        kind=each.kind.value,
        subject=each.subject,
        words=each.words,
        asset=each.asset,
        amount=each.amount,
        first_at=done.at,
        last_at=done.at,
    )


def accept(
    session: Session, number: int, actor: str, reason: str, now: datetime, *, is_external: bool
) -> Raised:
    """End it by a person's word; what it moved is booked, and it is audited."""
    place = session.get(DifferenceRow, number)
    if place is None:
        raise NotFound(f"there is no difference {number}", cure="see: ledger reconcile")
    hold_account(session, place.venue, place.account, now)
    row = session.get_one(DifferenceRow, number, populate_existing=True)
    if row.ended_at is not None:
        raise Refused(
            f"difference {number} ended at {row.ended_at:%Y-%m-%d %H:%M:%S}, by {row.ended_by}",
            cure="nothing has to be done about it",
        )
    row.ended_at, row.ended_by, row.reason = now, actor, reason
    if row.asset is not None and row.amount is not None:
        adjustment = Adjustment(
            kind=(Kind.EXTERNAL if is_external else Kind.CORRECTION).value,
            asset=row.asset,
            amount=row.amount,
            reason=reason,
            reference=f"difference {number}",
            actor=actor,
        )
        adjusting.adjust(session, row.venue, row.account, [adjustment], now)
    session.add(
        AuditRow(
            at=now,
            actor=actor,
            action="reconciliation.accept",
            subject=f"account:{row.venue}:{row.account}",
            before={"difference": number, "subject": row.subject, "words": row.words},
            after={"asset": row.asset, "amount": row.amount},
            reason=reason,
        )
    )
    return _raised(row)


def _standing() -> Select[DifferenceRow]:
    return select(DifferenceRow).where(DifferenceRow.ended_at.is_(None))


def _raised(row: DifferenceRow) -> Raised:
    return Raised(
        id=row.id,
        venue=row.venue,
        account=row.account,
        kind=row.kind,
        subject=row.subject,
        words=row.words,
        asset=row.asset,
        amount=row.amount,
        first_at=row.first_at,
        last_at=row.last_at,
    )
