"""What a drill had halted is put back as it was before, by whoever and however it was held."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from botswarm.domain.permission import TradingState
from botswarm.ledger.halts import Cause, Halt, described
from botswarm.ledger.models import AuditRow, TradingStateRow
from botswarm.ledger.session import Database

OVER = "the drill is over"


def put_back(
    database: Database,
    scopes: Collection[str],
    before: Mapping[str, Halt],
    *,
    drill: str,
    actor: str,
    now: datetime,
) -> None:
    """For the person who began the drill, and said ``drill`` as its reason.

    What somebody else has said of a scope meanwhile stays.
    """

    def work(session: Session) -> None:
        for scope in sorted(scopes):
            row = session.get(TradingStateRow, scope, with_for_update=True)
            if row is not None and (row.reason, row.actor) == (drill, actor):
                _put(session, row, before.get(scope), actor, now)

    database.write(work)


def _put(
    session: Session, row: TradingStateRow, held: Halt | None, actor: str, now: datetime
) -> None:
    if held is None:
        held = Halt(
            scope=row.scope,
            state=TradingState.ACTIVE,
            reason=OVER,
            actor=actor,
            at=now,
            cause=Cause.PERSON,
        )
    halted = {"state": row.state, "cause": row.cause, "until": None, "share": row.share}
    row.state, row.cause, row.until = held.state.value, held.cause.value, held.until
    row.reason, row.actor, row.at = held.reason, held.actor, held.at
    session.add(
        AuditRow(
            at=now,
            actor=actor,
            action="trading.set",
            subject=row.scope,
            before=halted,
            after=described(held) | {"is_human": True},
            reason=OVER,
        )
    )
