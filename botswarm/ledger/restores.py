"""A ledger that was brought back: the swarm is halted until every account agrees with its venue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger.backup_models import RestoreRow
from botswarm.ledger.halts import SWARM, Cause, Halts
from botswarm.ledger.models import (
    AccountRow,
    AttemptRow,
    AuditRow,
    OrderRow,
    TradingStateRow,
)
from botswarm.ledger.session import Database
from botswarm.ledger.steps import Step, held_order
from botswarm.ledger.writes import Writes

IN_DOUBT = (OrderState.SENDING.value, OrderState.UNKNOWN.value)
WAITING = (OrderState.READY.value, OrderState.APPROVED.value)
FENCE = timedelta(seconds=60)
"""No venue takes a request so long after it was made."""
LOST_ATTEMPT = "it may have been sent after the backup that this ledger was restored from"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What still has to happen before a restored ledger trades again."""

    backup: str
    at: datetime
    words: str


class Restores:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._halts = Halts(database)

    def hold(self, backup: str, actor: str, now: datetime) -> None:
        """Of a ledger that nobody uses yet: nothing in it is believed of any venue."""

        def work(session: Session) -> None:
            row = session.get(TradingStateRow, SWARM)
            before = TradingState.HALTED if row is None else TradingState(row.state)
            session.add(RestoreRow(at=now, backup=backup, actor=actor, state_before=before.value))
            session.execute(update(AccountRow).values(is_clean=False, reconciled_at=None))
            _doubt(session, now)
            session.add(
                AuditRow(
                    at=now,
                    actor=actor,
                    action="backup.restore",
                    subject="ledger",
                    before=None,
                    after={"backup": backup},
                    reason=f"restored from backup {backup}",
                )
            )

        self._database.write(work)
        self._halts.restrict(
            SWARM,
            TradingState.HALTED,
            reason=f"restored from backup {backup}: every account has to agree with its venue",
            actor=_holder(backup),
            now=now,
            cause=Cause.SYSTEM,
        )

    def waiting(self) -> Waiting | None:
        """None where nothing was restored, or all that was is trading again."""
        return self._database.read(_waiting)

    def release(self, now: datetime) -> str | None:
        """Let the swarm go on where everything agrees; answers the backup it came from.

        A halt that somebody else said since is left alone.
        """
        found = self.waiting()
        if found is None or found.words:
            return None
        row = self._database.read(_open)
        assert row is not None, "what waits has a row"
        words = "every account agrees with its venue"
        state = self._database.read(lambda session: session.get(TradingStateRow, SWARM))
        before = TradingState(row.state_before)
        if state is None or state.actor != _holder(row.backup):
            words = "somebody decided about the swarm since"
        elif state.cause != Cause.SYSTEM:
            words = "a person or a limit had held the swarm: botswarm trading resume"
        elif before is not TradingState.HALTED:
            # What the system held it for it finds again, and holds it again.
            self._halts.set(
                SWARM,
                TradingState.ACTIVE,
                reason=f"restored from backup {row.backup}: {words}",
                actor=_holder(row.backup),
                now=now,
                cause=Cause.SYSTEM,
            )
        done = update(RestoreRow).where(RestoreRow.id == row.id)
        self._database.write(
            lambda session: session.execute(done.values(released_at=now, words=words))
        )
        return row.backup


def _doubt(session: Session, now: datetime) -> None:
    """Whatever waited to be sent may have been sent since: what became of it is asked, by proof.

    For each the attempt is written down that was lost. Where nothing was placed, it is too late.
    """
    writes = Writes(session)
    waiting = select(OrderRow.id).where(OrderRow.state.in_(WAITING)).order_by(OrderRow.id)
    for order_id in session.scalars(waiting).all():
        row = held_order(session, order_id)
        assert row is not None, "it was just read"
        step = Step.of(row, now)
        if step.order.state is OrderState.READY:
            step.move(OrderState.APPROVED)
            step.approved_at = now
        step.move(OrderState.SENDING)
        step.move(OrderState.UNKNOWN, LOST_ATTEMPT)
        step.attempts += 1
        step.sent_at = step.sent_at or step.order.created_at
        step.write(writes)
        attempt = {
            "order_id": order_id,
            "number": step.attempts,
            "payload": b"",
            "signed_at": now,
            "fence_at": now + FENCE,
            "created_at": now,
        }
        writes.insert(AttemptRow, [attempt])
        late = update(OrderRow).where(OrderRow.id == order_id, OrderRow.signal_expires_at > now)
        session.execute(late.values(signal_expires_at=now))
    writes.send()


def _open(session: Session) -> RestoreRow | None:
    question = select(RestoreRow).where(RestoreRow.released_at.is_(None))
    return session.scalars(question.order_by(RestoreRow.id.desc()).limit(1)).one_or_none()


def _waiting(session: Session) -> Waiting | None:
    row = _open(session)
    if row is None:
        return None
    accounts = session.execute(
        select(AccountRow.venue, AccountRow.account, AccountRow.is_clean, AccountRow.reconciled_at)
    ).all()
    unclear = sorted(
        f"{each.venue}:{each.account}"
        for each in accounts
        if not each.is_clean or each.reconciled_at is None or each.reconciled_at <= row.at
    )
    doubtful = session.scalars(
        select(func.count()).select_from(OrderRow).where(OrderRow.state.in_(IN_DOUBT))
    ).one()
    words = [f"not reconciled since: {', '.join(unclear[:5])}"] if unclear else []
    words += [f"{doubtful} orders in doubt"] if doubtful else []
    return Waiting(row.backup, row.at, "; ".join(words))


def _holder(backup: str) -> str:
    return f"restore:{backup}"
