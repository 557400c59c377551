"""Wishes that orders end: committed with their doorbells, before any venue is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from botswarm.domain.order import Order, OrderState
from botswarm.ledger.models import AuditRow, CancelRow, OrderRow, OutboxRow
from botswarm.ledger.outbox import Doorbell, doorbell_of, outbox_row
from botswarm.ledger.revisions import touch
from botswarm.ledger.rows import move, order_of
from botswarm.ledger.session import Database
from botswarm.messages import CancelOrder, SettleOrders

TOGETHER_MIN = 10
"""From so many on one doorbell of an account rings for all of them: its round asks together."""
AT_ONCE_MAX = 500
"""Orders in one transaction: nobody else can move them until it is committed."""
NOT_SENT = (OrderState.READY, OrderState.APPROVED)
AT_THE_VENUE = (OrderState.SENDING, OrderState.UNKNOWN, OrderState.LIVE, OrderState.PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Who wants an order ended, and why."""

    order_id: str
    at: datetime
    actor: str
    reason: str
    done_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """What became of a wish that orders end."""

    ended: tuple[str, ...] = ()
    """They had not been sent, so they ended at once."""
    asked: tuple[str, ...] = ()
    """The venue is asked, again and again, until they are at their end."""
    known: tuple[str, ...] = ()
    """Somebody wished it before."""
    over: tuple[str, ...] = ()
    """At their end already."""
    doorbells: tuple[Doorbell, ...] = ()
    """Committed and not yet rung."""

    def __add__(self, other: Wished) -> Wished:
        return Wished(
            ended=self.ended + other.ended,
            asked=self.asked + other.asked,
            known=self.known + other.known,
            over=self.over + other.over,
            doorbells=self.doorbells + other.doorbells,
        )


class Cancels:
    def __init__(self, database: Database) -> None:
        self._database = database

    def wish(self, ids: Collection[str], now: datetime, *, actor: str, reason: str) -> Wished:
        """Commit the wish that these orders end; ids that the ledger does not know are left out.

        What was not sent ends here and now. Of what may be at the venue the wish is kept until the
        order is at its end, however often the venue has to be asked for it.
        """
        ordered, done = sorted(set(ids)), Wished()
        for start in range(0, len(ordered), AT_ONCE_MAX):
            some = ordered[start : start + AT_ONCE_MAX]
            done += self._database.write(lambda session, some=some: _wish(  # type: ignore[misc]
                session, some, now, actor, reason
            ))  # fmt: skip
        return done

    def of(self, order_id: str) -> Cancel | None:
        return self._database.read(lambda session: of_order(session, order_id))

    def pending(self) -> Sequence[tuple[Order, Cancel]]:
        """Every wish that is not fulfilled, the oldest first."""
        question = (
            select(OrderRow, CancelRow)
            .join(CancelRow, CancelRow.order_id == OrderRow.id)
            .where(CancelRow.done_at.is_(None))
            .order_by(CancelRow.at, OrderRow.id)
        )
        return self._database.read(
            lambda session: [
                (order_of(row), _cancel(wish)) for row, wish in session.execute(question)
            ]
        )


def of_order(session: Session, order_id: str) -> Cancel | None:
    row = session.get(CancelRow, order_id)
    return None if row is None else _cancel(row)


def hold(session: Session, ids: Collection[str]) -> list[OrderRow]:
    """Lock these orders, by rising id as everybody does, and before any bot's row."""
    question = (
        select(OrderRow)
        .where(OrderRow.id.in_(ids))
        .order_by(OrderRow.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(question)) if ids else []


def wish(
    session: Session, rows: Sequence[OrderRow], now: datetime, *, actor: str, reason: str
) -> tuple[Wished, list[OutboxRow]]:
    """The wish that orders which are held end; the caller touches their bots."""
    ended, asked, known, over = [], [], [], []
    bells, places = [], set[tuple[str, str]]()
    for row in rows:
        if row.state in NOT_SENT:
            words = f"cancelled by {actor} before it was sent: {reason}"
            session.add(move(row, OrderState.REFUSED, now, reason=words))
            ended.append(row.id)
        elif row.state not in AT_THE_VENUE:
            over.append(row.id)
        elif row.is_ending:
            known.append(row.id)
        else:
            row.is_ending = True
            session.add(CancelRow(order_id=row.id, at=now, actor=actor, reason=reason))
            bells.append(outbox_row(CancelOrder(order_id=row.id), f"cancel-{row.id}", now))
            places.add((row.venue, row.account))
            asked.append(row.id)
    if len(asked) >= TOGETHER_MIN:
        bells = [
            outbox_row(SettleOrders(venue=venue, account=account), f"cancel-{uuid4()}", now)
            for venue, account in sorted(places)
        ]
    session.add_all(bells)
    session.flush()
    wished = Wished(ended=tuple(ended), asked=tuple(asked), known=tuple(known), over=tuple(over))
    return wished, bells


def end_replaced(session: Session, orders: Iterable[Order], now: datetime) -> list[OutboxRow]:
    """The wish that what these new orders replace end; the doorbells of those wishes."""
    replacing = {order.replaces: order for order in orders if order.replaces is not None}
    bells: list[OutboxRow] = []
    for row in hold(session, replacing.keys()):
        by = replacing[row.id]
        bells += wish(session, [row], now, actor=by.bot, reason=f"replaced by {by.id}")[1]
    return bells


def to_cancel(session: Session, venue: str, account: str) -> list[Order]:
    """Of one account: what somebody wants ended and the venue has not ended yet."""
    question = (
        select(OrderRow)
        .join(CancelRow, CancelRow.order_id == OrderRow.id)
        .where(
            CancelRow.done_at.is_(None),
            OrderRow.venue == venue,
            OrderRow.account == account,
            OrderRow.is_open,
            OrderRow.state.in_([state.value for state in AT_THE_VENUE]),
        )
        .order_by(CancelRow.at, OrderRow.id)
    )
    return [order_of(row) for row in session.scalars(question)]


def finish(session: Session, venue: str, account: str, now: datetime) -> None:
    """Note of fulfilled wishes that they are."""
    over = select(OrderRow.id).where(
        OrderRow.id == CancelRow.order_id,
        OrderRow.venue == venue,
        OrderRow.account == account,
        OrderRow.state.not_in([state.value for state in AT_THE_VENUE]),
    )
    session.execute(
        update(CancelRow)
        .where(CancelRow.done_at.is_(None), over.exists())
        .values(done_at=now)
        .execution_options(synchronize_session=False)
    )


def _wish(session: Session, ids: Collection[str], now: datetime, actor: str, reason: str) -> Wished:
    rows = hold(session, ids)
    wished, bells = wish(session, rows, now, actor=actor, reason=reason)
    if changed := {*wished.ended, *wished.asked}:
        session.add(
            AuditRow(
                at=now,
                actor=actor,
                action="order.cancel",
                subject=f"orders:{len(changed)}",
                before=None,
                after={"orders": sorted(changed)},
                reason=reason,
            )
        )
        touch(session, [row.bot for row in rows if row.id in changed])
    doorbells = tuple(doorbell_of(bell) for bell in bells)
    return Wished(
        ended=wished.ended,
        asked=wished.asked,
        known=wished.known,
        over=wished.over,
        doorbells=doorbells,
    )


def _cancel(row: CancelRow) -> Cancel:
    return Cancel(
        order_id=row.order_id,
        at=row.at,
        actor=row.actor,
        reason=row.reason,
        done_at=row.done_at,
    )
