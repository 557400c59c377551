"""Accounts of real money: off until a person arms them, and checked where orders begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import Exposure, Refused, Verdict
from botswarm.ledger import placing
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.models import AccountRow, AuditRow
from botswarm.ledger.placing import Begun, Freeze, Judge, Request
from botswarm.ledger.session import Database
from botswarm.ledger.standing import hold_account

Shrinks = Callable[[Order, Exposure], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arming:
    """What was last said of an account."""

    venue: str
    account: str
    at: datetime
    until: datetime | None
    by: str

    def is_armed(self, now: datetime) -> bool:
        return self.at <= now and (self.until is None or now < self.until)


class Armings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[Arming]:
        """Accounts that were ever armed."""
        question = (
            select(AccountRow)
            .where(AccountRow.armed_at.is_not(None))
            .order_by(AccountRow.venue, AccountRow.account)
        )
        return self._database.read(
            lambda session: [found for row in session.scalars(question) if (found := _of(row))]
        )

    def was_armed(self, venue: str, account: str) -> bool:
        """Ever: then its orders may have to be looked after, whatever holds now."""
        return self._database.read(lambda session: _read(session, venue, account) is not None)

    def arm(
        self,
        venue: str,
        account: str,
        *,
        actor: str,
        reason: str,
        now: datetime,
        until: datetime | None = None,
    ) -> Arming:
        """For a person to call, and nobody else."""

        def work(session: Session) -> Arming:
            row = hold_account(session, venue, account, now)
            before = _of(row)
            row.armed_at, row.armed_until, row.armed_by = now, until, actor
            after = Arming(venue=venue, account=account, at=now, until=until, by=actor)
            _audit(session, "account.arm", before, after, reason, actor, now)
            return after

        return self._database.write(work)

    def disarm(
        self, venue: str, account: str, *, actor: str, reason: str, now: datetime
    ) -> Arming | None:
        """Orders that shrink a position still pass, and cancels; None where it never was armed."""

        def work(session: Session) -> Arming | None:
            before = _read(session, venue, account)
            if before is None:
                return None
            row = hold_account(session, venue, account, now)
            row.armed_until = now
            after = _of(row)
            assert after is not None
            _audit(session, "account.disarm", before, after, reason, actor, now)
            return after

        return self._database.write(work)


class LiveBooks(LedgerBooks):
    """Of an account of real money: what grows a position begins only while it is armed."""

    def __init__(self, database: Database, shrinks: Shrinks) -> None:
        super().__init__(database)
        self._shrinks = shrinks

    def begin(
        self,
        order_id: str,
        judge: Judge,
        freeze: Freeze[Request] | None,
        now: datetime,
        before: OrderState = OrderState.READY,
    ) -> Begun[Request] | None:
        def work(session: Session) -> Begun[Request] | None:
            def armed_judge(order: Order, exposure: Exposure) -> Verdict:
                objection = objection_to(session, order, now)
                if objection is None or self._is_sure_to_shrink(order, exposure):
                    return judge(order, exposure)
                return Refused(order, objection)

            return placing.begin(session, order_id, armed_judge, freeze, now, before)

        return self._database.write(work)

    def _is_sure_to_shrink(self, order: Order, exposure: Exposure) -> bool:
        try:
            return self._shrinks(order, exposure)
        except (ArithmeticError, TypeError, ValueError):
            return False  # its numbers cannot be computed with

    def is_halted(self, order: Order, now: datetime) -> bool:
        if super().is_halted(order, now):
            return True
        return self._database.read(lambda session: objection_to(session, order, now)) is not None


def objection_to(session: Session, order: Order, now: datetime) -> str | None:
    """Read in the transaction that holds the account, so that nobody disarms it meanwhile."""
    said = _read(session, order.venue, order.account)
    if said is not None and said.is_armed(now):
        return None
    place = f"{order.venue}:{order.account}"
    since = ""
    if said is not None and said.until is not None:
        since = f" any more since {said.until:%Y-%m-%d %H:%M:%S}"
    return f"{place} is real money, and it is not armed{since} (botswarm trading arm {place})"


def _read(session: Session, venue: str, account: str) -> Arming | None:
    names = ("venue", "account", "armed_at", "armed_until", "armed_by")
    question = select(*(getattr(AccountRow, name) for name in names)).where(
        AccountRow.venue == venue, AccountRow.account == account
    )
    row = session.execute(question).one_or_none()
    return None if row is None else _of(row)


def _of(row: Any) -> Arming | None:
    if row.armed_at is None:
        return None
    return Arming(
        venue=row.venue,
        account=row.account,
        at=row.armed_at,
        until=row.armed_until,
        by=row.armed_by or "",
    )


def _audit(
    session: Session,
    action: str,
    before: Arming | None,
    after: Arming,
    reason: str,
    actor: str,
    now: datetime,
) -> None:
    session.add(
        AuditRow(
            at=now,
            actor=actor,
            action=action,
            subject=f"account:{after.venue}:{after.account}",
            before=None if before is None else _described(before),
            after=_described(after),
            reason=reason,
        )
    )


def _described(said: Arming) -> dict[str, object]:
    until = None if said.until is None else said.until.isoformat()
    return {"at": said.at.isoformat(), "until": until, "by": said.by}
