"""What is kept of each emergency stop and drill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderState
from botswarm.ledger.columns import Moment
from botswarm.ledger.halting import SWARM
from botswarm.ledger.models import OrderRow
from botswarm.ledger.risk_events import RiskEvent, Severity, note
from botswarm.ledger.session import Database
from botswarm.ledger.stop_models import StopRow

Place = tuple[str, str]
DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One emergency stop or drill; times are milliseconds since the button was pressed."""

    at: datetime
    kind: str
    actor: str
    reason: str
    said_ms: int
    in_force_ms: int | None = None
    cancelled_ms: int | None = None
    flat_ms: int | None = None
    finished_at: datetime | None = None
    is_clean: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None


class Stops:
    def __init__(self, database: Database) -> None:
        self._database = database

    def places(self) -> Sequence[Place]:
        """The accounts with orders that are or may be live, or that wait to be sent."""
        question = (
            select(OrderRow.venue, OrderRow.account)
            .where(or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value))
            .distinct()
            .order_by(OrderRow.venue, OrderRow.account)
        )
        return self._database.read(lambda session: [(v, a) for v, a in session.execute(question)])

    def keep(self, stop: Stop) -> int:
        """Write it down, or what is known of it by now; answers its number.

        The first time with an event, for whoever is to be told.
        """

        def work(session: Session) -> int:
            row = StopRow() if stop.id is None else session.get_one(StopRow, stop.id)
            for name in _KEPT:
                setattr(row, name, getattr(stop, name))
            row.numbers = dict(stop.numbers)
            session.add(row)
            session.flush()
            if stop.id is None:
                note(session, _event(stop))
            return row.id

        return self._database.write(work)

    def history(self, kind: str | None = None, limit: int = 20) -> Sequence[Stop]:
        """The latest first."""
        question = select(StopRow).order_by(StopRow.id.desc()).limit(limit)
        if kind is not None:
            question = question.where(StopRow.kind == kind)
        return self._database.read(
            lambda session: [_stop(row) for row in session.scalars(question)]
        )

    def last_at(self, kind: str) -> datetime | None:
        question = select(func.max(StopRow.at, type_=Moment())).where(StopRow.kind == kind)
        return self._database.read(lambda session: session.scalar(question))


_KEPT = (
    *("at", "kind", "actor", "reason", "said_ms", "in_force_ms"),
    *("cancelled_ms", "flat_ms", "finished_at", "is_clean"),
)


def _event(stop: Stop) -> RiskEvent:
    is_drill = stop.kind == DRILL
    return RiskEvent(
        at=stop.at,
        scope=SWARM,
        kind="drill" if is_drill else "emergency_stop",
        # What it halted is told of by itself, for as long as that lasts.
        severity=Severity.INFO,
        words=f"{'drill' if is_drill else 'emergency stop'} by {stop.actor}: {stop.reason}",
        numbers={"said_ms": stop.said_ms, "in_force_ms": stop.in_force_ms},
    )


def _stop(row: StopRow) -> Stop:
    kept = {name: getattr(row, name) for name in _KEPT}
    return Stop(**kept, numbers=dict(row.numbers), id=row.id)
