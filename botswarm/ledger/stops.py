"""What an emergency stop does to the ledger, and what is kept of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, text, tuple_
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger.columns import Moment
from botswarm.ledger.halts import Cause, Halt, put
from botswarm.ledger.models import AccountRow, OrderRow
from botswarm.ledger.session import Database
from botswarm.ledger.stop_models import StopRow

Place = tuple[str, str]

_HURRY = text("SET LOCAL lock_timeout = '150ms'")
# Transactions that hold our rows and do nothing are those of processes that are frozen. What they
# were about is undone, and they learn it before they can send anything.
_THROW_OUT = text(
    """
    SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.usename = current_user
      AND a.pid <> pg_backend_pid() AND a.state LIKE 'idle in transaction%'
      AND a.state_change < clock_timestamp() - interval '200 milliseconds'
      AND EXISTS (
        SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = a.pid AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
          AND c.relname IN ('accounts', 'orders', 'trading_states', 'chain_head')
      )
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One emergency stop or drill; times are milliseconds since the button was pressed."""

    at: datetime
    kind: str
    actor: str
    reason: str
    said_ms: int
    in_force_ms: int
    cancelled_ms: int | None = None
    flat_ms: int | None = None
    finished_at: datetime | None = None
    is_clean: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """An order whose signed bytes are committed, and whose answer is not."""

    order_id: str
    venue: str
    account: str
    symbol: str


class Stops:
    def __init__(self, database: Database) -> None:
        self._database = database

    def halt(self, scopes: Collection[str], *, reason: str, actor: str, now: datetime) -> None:
        """Commit that these scopes are halted by a person; nobody's lock stands in the way long."""
        self._hurriedly(
            lambda session: [
                put(session, _halted(scope, reason, actor, now), is_human=True)
                for scope in sorted(scopes)
            ]
        )

    def wait_for_begun(self, places: Collection[Place] | None) -> None:
        """Until every order that began to be judged before is committed, or never will be.

        Judging holds the row of the order's account, so whoever has had all of them has seen the
        last of it. In SQLite the halt itself had to wait for every other writer.
        """
        if self._database.is_sqlite:
            return
        accounts = select(AccountRow.venue).order_by(AccountRow.venue, AccountRow.account)
        if places is not None:
            accounts = accounts.where(tuple_(AccountRow.venue, AccountRow.account).in_(places))
        self._hurriedly(lambda session: session.execute(accounts.with_for_update(read=True)).all())

    def throw_out_sleepers(self) -> int:
        """Undo the transactions of processes that are frozen; how many there were."""
        if self._database.is_sqlite:
            return 0
        return int(self._database.write(lambda session: session.scalar(_THROW_OUT)) or 0)

    def on_the_way(self, places: Collection[Place] | None) -> Sequence[OnTheWay]:
        """Of all accounts, or of these."""
        question = select(OrderRow.id, OrderRow.venue, OrderRow.account, OrderRow.symbol).where(
            OrderRow.is_open, OrderRow.state == OrderState.SENDING.value
        )
        if places is not None:
            question = question.where(tuple_(OrderRow.venue, OrderRow.account).in_(places))
        return self._database.read(
            lambda session: [OnTheWay(*row) for row in session.execute(question)]
        )

    def places(self) -> Sequence[Place]:
        """The accounts with orders that are or may be live, or that wait to be sent."""
        question = (
            select(OrderRow.venue, OrderRow.account)
            .where(or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value))
            .distinct()
            .order_by(OrderRow.venue, OrderRow.account)
        )
        return self._database.read(lambda session: [(v, a) for v, a in session.execute(question)])

    # --- what is kept ---------------------------------------------------------------------------

    def keep(self, stop: Stop) -> int:
        """Write it down, or what is known of it by now; answers its number."""

        def work(session: Session) -> int:
            row = StopRow() if stop.id is None else session.get_one(StopRow, stop.id)
            for name in _KEPT:
                setattr(row, name, getattr(stop, name))
            row.numbers = dict(stop.numbers)
            session.add(row)
            session.flush()
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

    def _hurriedly(self, work: Any) -> None:
        tries = 0

        def once(session: Session) -> None:
            nonlocal tries
            tries += 1
            if not self._database.is_sqlite:
                session.execute(_HURRY)
                if tries > 1:
                    session.execute(_THROW_OUT)
            work(session)

        self._database.write(once)


_KEPT = (
    *("at", "kind", "actor", "reason", "said_ms", "in_force_ms"),
    *("cancelled_ms", "flat_ms", "finished_at", "is_clean"),
)


def _stop(row: StopRow) -> Stop:
    kept = {name: getattr(row, name) for name in _KEPT}
    return Stop(**kept, numbers=dict(row.numbers), id=row.id)


def _halted(scope: str, reason: str, actor: str, now: datetime) -> Halt:
    return Halt(
        scope=scope,
        state=TradingState.HALTED,
        reason=reason,
        actor=actor,
        at=now,
        cause=Cause.PERSON,
    )
