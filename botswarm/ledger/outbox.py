"""Doorbells that were committed with what they speak of: ring them, and ring again if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from botswarm.domain.order import Order, OrderState
from botswarm.ledger.models import OrderRow, OutboxRow
from botswarm.ledger.session import Database
from botswarm.messages import Message, PlaceOrder

BATCH = 200
AGAIN_MAX = timedelta(seconds=20)
"""After an outage, however long it was, everything that waits is rung for within this time."""
KEPT_FOR = timedelta(hours=1)
"""Long enough to look at what was rung; an order that nobody has judged by then keeps its own."""
PRUNED_AT_ONCE = 2000
WAITING = (OrderState.READY.value, OrderState.APPROVED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorbell:
    """A message to be published with ``task_id``, so that ringing twice can be told apart."""

    id: int
    task: str
    kwargs: Mapping[str, Any]
    queue: str
    task_id: str


Publish = Callable[[Doorbell], None]
"""Returns when the broker has confirmed it; raises where it has not."""


def outbox_row(message: Message, task_id: str, now: datetime) -> OutboxRow:
    """To be added in the transaction that writes what the message speaks of."""
    return OutboxRow(
        task=message.task,
        kwargs=asdict(message),
        queue=message.queue,
        task_id=task_id,
        created_at=now,
        attempts=0,
    )


def placing(order: Order) -> PlaceOrder:
    """The doorbell of a new order."""
    return PlaceOrder(order_id=order.id, venue=order.venue, account=order.account)


def doorbell_of(row: OutboxRow) -> Doorbell:
    return Doorbell(
        id=row.id, task=row.task, kwargs=row.kwargs, queue=row.queue, task_id=row.task_id
    )


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self, limit: int = BATCH, *, before: datetime | None = None) -> list[Doorbell]:
        """Those nobody has published yet, oldest first; with ``before``, written before then."""
        question = select(OutboxRow).where(OutboxRow.sent_at.is_(None))
        if before is not None:
            question = question.where(OutboxRow.created_at < before)
        question = question.order_by(OutboxRow.id).limit(limit)
        return self._database.read(
            lambda session: [doorbell_of(row) for row in session.scalars(question)]
        )

    def mark_sent(self, ids: Sequence[int], now: datetime) -> None:
        def work(session: Session) -> None:
            session.execute(
                update(OutboxRow)
                .where(OutboxRow.id.in_(ids))
                .values(sent_at=now, attempts=OutboxRow.attempts + 1)
            )

        if ids:
            self._database.write(work)

    def ring(self, doorbells: Sequence[Doorbell], publish: Publish, now: datetime) -> int:
        """Publish these, which the caller has just committed, and mark them sent.

        No lock is held while the broker answers. Who dies between publishing and marking leaves
        the row to be rung again: a doorbell rung twice does no harm.
        """
        rung: list[int] = []
        try:
            for doorbell in doorbells:
                publish(doorbell)
                rung.append(doorbell.id)
        finally:
            self.mark_sent(rung, now)
        return len(rung)

    def relay(
        self,
        publish: Publish,
        now: datetime,
        *,
        before: datetime | None = None,
        limit: int = BATCH,
    ) -> int:
        """Publish what nobody has published, in order; answers how many."""
        return self.ring(self.pending(limit, before=before), publish, now)

    def sweep(
        self, publish: Publish, now: datetime, *, older_than_s: float, limit: int = BATCH
    ) -> int:
        """Ring for rows that waited ``older_than_s`` and were not looked at; answers how many.

        Those never published, and those of orders that are still READY or APPROVED; the latter
        at growing distances, so that a queue which is merely long is not made longer.
        """
        patience = timedelta(seconds=older_than_s)
        unsent = self.relay(publish, now, before=now - patience, limit=limit)
        return unsent + self.ring(self._unanswered(now, patience, limit), publish, now)

    def prune(self, now: datetime) -> int:
        """Delete what was rung long ago and waits for nobody; answers how many.

        The oldest few thousand are looked at: whoever calls this every few seconds keeps up.
        """
        oldest = (
            select(OutboxRow.id, OutboxRow.task_id, OutboxRow.sent_at)
            .order_by(OutboxRow.id)
            .limit(PRUNED_AT_ONCE)
            .subquery()
        )
        waits = (
            select(OrderRow.id)
            .where(OrderRow.id == oldest.c.task_id, OrderRow.state.in_(WAITING))
            .exists()
        )
        done = select(oldest.c.id).where(oldest.c.sent_at < now - KEPT_FOR, ~waits)
        ids = self._database.read(lambda session: session.scalars(done).all())
        if ids:
            gone = delete(OutboxRow).where(OutboxRow.id.in_(ids))
            self._database.write(lambda session: session.execute(gone))
        return len(ids)

    def _unanswered(self, now: datetime, patience: timedelta, limit: int) -> list[Doorbell]:
        question = (
            select(OutboxRow)
            .join(OrderRow, OrderRow.id == OutboxRow.task_id)
            .where(
                OrderRow.state.in_(WAITING),
                OrderRow.updated_at < now - patience,
                OutboxRow.task == PlaceOrder.task,
                OutboxRow.sent_at < now - patience,
            )
            .order_by(OutboxRow.sent_at)
        )

        def work(session: Session) -> list[Doorbell]:
            due: list[Doorbell] = []
            for row in session.scalars(question).yield_per(limit):
                if len(due) == limit:
                    break
                if row.sent_at is not None and row.sent_at + _pause(row, patience) <= now:
                    due.append(doorbell_of(row))
            return due

        return self._database.read(work)


def _pause(row: OutboxRow, patience: timedelta) -> timedelta:
    doublings = min(max(row.attempts - 1, 0), 20)
    return max(patience, min(patience * (1 << doublings), AGAIN_MAX))
