"""Look orders, fills and positions up: what people and strategies ask, and nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from typing import Any

from sqlalchemy import Select, or_, select, text
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState, Side, is_fenced, is_protective
from botswarm.errors import NotFound
from botswarm.ledger import cancels
from botswarm.ledger.cancels import Cancel
from botswarm.ledger.many import parts
from botswarm.ledger.models import AttemptRow, FillRow, OrderEventRow, OrderRow, PositionRow
from botswarm.ledger.outbox import outbox_row, placing
from botswarm.ledger.revisions import touch
from botswarm.ledger.rows import fill_of, order_of, row_of
from botswarm.ledger.session import Database

LIST_MAX = 1_000
LOOKED_BACK = 60
CAME_TO_NOTHING = frozenset({OrderState.REFUSED, OrderState.STALE, OrderState.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    before: OrderState | None
    after: OrderState
    at: datetime
    reason: str | None
    venue_order_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BotEvent:
    """One step of one of a bot's orders."""

    order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    after: OrderState
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    number: int
    signed_at: datetime
    fence_at: datetime
    payload_bytes: int

    @property
    def is_fenced(self) -> bool:
        return is_fenced(self.signed_at, self.fence_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything the ledger knows of one order."""

    order: Order
    evaluation: Mapping[str, Any] | None
    """What its bot saw, and why it decided so."""
    events: Sequence[OrderEvent]
    attempts: Sequence[Attempt]
    fills: Sequence[Fill]
    cancel: Cancel | None = None
    """Who wants it ended, where somebody does."""
    replaced_by: Sequence[str] = ()
    """Orders that were to take its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a bot holds of a market."""

    bot: str
    venue: str
    account: str
    symbol: str
    quantity: Decimal
    """Positive when long; commission paid in the base asset is already taken off."""
    cash: Decimal
    cost: Decimal
    """What the quantity held was paid for it, at average cost."""
    realised: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """A bot's latest orders came to nothing."""

    count: int
    """How many of its latest decisions to order did, in a row."""
    at: datetime
    """When the latest was decided."""
    state: OrderState
    reason: str | None


class Orders:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, order: Order, now: datetime) -> bool:
        """A READY order without a bot's decision, with its doorbell; False when it is there.

        With it the wish that the order end which it replaces.
        """

        def work(session: Session) -> bool:
            if session.get(OrderRow, order.id) is not None:
                return False
            cancels.end_replaced(session, [order], now)
            session.add(row_of(order, None, now))
            session.flush()
            session.add(outbox_row(placing(order), order.id, now))
            session.add(
                OrderEventRow(order_id=order.id, before=None, after=order.state.value, at=now)
            )
            touch(session, [order.bot])
            return True

        return self._database.write(work)

    def get(self, order_id: str) -> Order:
        """By id or client order id; raises NotFound."""
        return self._database.read(lambda session: order_of(_found(session, order_id)))

    def story(self, order_id: str) -> Story:
        def work(session: Session) -> Story:
            row = _found(session, order_id)
            events = select(OrderEventRow).where(OrderEventRow.order_id == row.id)
            attempts = select(AttemptRow).where(AttemptRow.order_id == row.id)
            fills = select(FillRow).where(FillRow.order_id == row.id)
            return Story(
                order=order_of(row),
                evaluation=row.evaluation,
                events=[_event(each) for each in session.scalars(events.order_by("id"))],
                attempts=[_attempt(each) for each in session.scalars(attempts.order_by("number"))],
                fills=[fill_of(each) for each in session.scalars(fills.order_by("trade_id"))],
                cancel=cancels.of_order(session, row.id),
                replaced_by=session.scalars(
                    select(OrderRow.id).where(OrderRow.replaces == row.id).order_by(OrderRow.id)
                ).all(),
            )

        return self._database.read(work)

    def list(
        self,
        *,
        bot: str | None = None,
        venue: str | None = None,
        symbol: str | None = None,
        states: Sequence[OrderState] = (),
        limit: int = 50,
    ) -> Sequence[Order]:
        """The latest, newest first, at most LIST_MAX."""
        question = select(OrderRow)
        if bot is not None:
            question = question.where(OrderRow.bot == bot)
        if venue is not None:
            question = question.where(OrderRow.venue == venue)
        if symbol is not None:
            question = question.where(OrderRow.symbol == symbol)
        if states:
            question = question.where(OrderRow.state.in_([state.value for state in states]))
        question = question.order_by(OrderRow.created_at.desc(), OrderRow.id)
        return self._orders(question.limit(min(limit, LIST_MAX)))

    def ready(self, venue: str, account: str, before: datetime, limit: int) -> Sequence[str]:
        """Ids of an account's orders that nobody has judged since before then, oldest first."""
        question = (
            select(OrderRow.id)
            .where(
                # In these words SQLite sees that the index of waiting orders will do.
                text("state IN ('ready', 'approved')"),
                OrderRow.state == OrderState.READY.value,
                OrderRow.venue == venue,
                OrderRow.account == account,
                OrderRow.updated_at < before,
            )
            .order_by(OrderRow.created_at, OrderRow.id)
            .limit(limit)
        )
        return self._database.read(lambda session: list(session.scalars(question)))

    def protective_waiting(self) -> int:
        """How many orders that guard positions nobody has judged yet."""
        index = text("state IN ('ready', 'approved')")
        question = select(OrderRow.id).where(index, OrderRow.state == OrderState.READY.value)
        return self._database.read(
            lambda session: sum(is_protective(each) for each in session.scalars(question))
        )

    def under_way(
        self,
        *,
        bot: str | None = None,
        venue: str | None = None,
        account: str | None = None,
        symbol: str | None = None,
    ) -> Sequence[Order]:
        """All that fit and are not at their end, sent or not, oldest first."""
        given = {"bot": bot, "venue": venue, "account": account, "symbol": symbol}
        question = (
            select(OrderRow)
            .where(or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value))
            .filter_by(**{name: value for name, value in given.items() if value is not None})
            .order_by(OrderRow.created_at, OrderRow.id)
        )
        return self._orders(question)

    def under_way_of(self, bots: Sequence[str]) -> Sequence[Order]:
        """All orders of these bots that are not at their end, oldest first."""
        found: list[Order] = []
        for some in parts(bots):
            question = (
                select(OrderRow)
                .where(or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value))
                .where(OrderRow.bot.in_(some))
                .order_by(OrderRow.created_at, OrderRow.id)
            )
            found += self._orders(question)
        return found

    def positions(
        self, *, venue: str | None = None, symbol: str | None = None, bot: str | None = None
    ) -> Sequence[Held]:
        question = select(PositionRow).order_by(
            PositionRow.bot, PositionRow.venue, PositionRow.account, PositionRow.symbol
        )
        if venue is not None:
            question = question.where(PositionRow.venue == venue)
        if symbol is not None:
            question = question.where(PositionRow.symbol == symbol)
        if bot is not None:
            question = question.where(PositionRow.bot == bot)
        return self._database.read(
            lambda session: [_held(row) for row in session.scalars(question)]
        )

    def setbacks(self, bots: Sequence[str]) -> dict[str, Setback]:
        """Of those whose latest decided orders were refused, were rejected or grew stale."""

        def work(session: Session) -> dict[str, Setback]:
            found = {bot: _setback(session, bot) for bot in bots}
            return {bot: setback for bot, setback in found.items() if setback is not None}

        return self._database.read(work)

    def fills(self, bot: str, *, limit: int = 50) -> Sequence[Fill]:
        """The latest of a bot, newest first, at most LIST_MAX."""
        question = (
            select(FillRow)
            .where(FillRow.bot == bot)
            .order_by(FillRow.at.desc(), FillRow.id.desc())
            .limit(min(limit, LIST_MAX))
        )
        return self._database.read(
            lambda session: [fill_of(row) for row in session.scalars(question)]
        )

    def events_of(
        self, bot: str, *, after: datetime | None = None, limit: int
    ) -> Sequence[BotEvent]:
        """The latest steps of its orders, oldest first."""
        question = (
            select(
                OrderEventRow.order_id,
                OrderRow.symbol,
                OrderRow.side,
                OrderRow.quantity,
                OrderEventRow.after,
                OrderEventRow.at,
                OrderEventRow.reason,
            )
            .join(OrderRow, OrderRow.id == OrderEventRow.order_id)
            .where(OrderRow.bot == bot)
            .order_by(OrderEventRow.id.desc())
            .limit(limit)
        )
        if after is not None:
            question = question.where(OrderEventRow.at > after)
        return self._database.read(
            lambda session: [_bot_event(*row) for row in session.execute(question)][::-1]
        )

    def _orders(self, question: Select[OrderRow]) -> Sequence[Order]:
        return self._database.read(
            lambda session: [order_of(row) for row in session.scalars(question)]
        )


def _setback(session: Session, bot: str) -> Setback | None:
    question = (
        select(OrderRow.id, OrderRow.created_at, OrderRow.state, OrderRow.reason)
        .where(OrderRow.bot == bot, OrderRow.state != OrderState.READY.value)
        .order_by(OrderRow.created_at.desc(), OrderRow.id)
        .limit(LOOKED_BACK)
    )
    # One decision may make many orders; that some of them passed does not make the others pass.
    decisions: dict[datetime, tuple[OrderState, str | None] | None] = {}
    for order_id, created_at, state, reason in session.execute(question):
        if is_protective(order_id):
            continue  # the bot did not decide it
        decisions.setdefault(created_at, None)
        if OrderState(state) in CAME_TO_NOTHING:
            decisions[created_at] = OrderState(state), reason
    row = list(takewhile(lambda pair: pair[1] is not None, decisions.items()))
    if not row:
        return None
    at, what = row[0]
    assert what is not None
    return Setback(count=len(row), at=at, state=what[0], reason=what[1])


def _found(session: Session, order_id: str) -> OrderRow:
    either = or_(OrderRow.id == order_id, OrderRow.client_order_id == order_id)
    row = session.scalars(select(OrderRow).where(either)).one_or_none()
    if row is None:
        raise NotFound(f"the ledger has no order {order_id!r}", cure="see: botswarm order list")
    return row


def _bot_event(
    order_id: str,
    symbol: str,
    side: str,
    quantity: Decimal,
    after: str,
    at: datetime,
    reason: str | None,
) -> BotEvent:
    return BotEvent(
        order_id=order_id,
        symbol=symbol,
        side=Side(side),
        quantity=quantity,
        after=OrderState(after),
        at=at,
        reason=reason,
    )


def _event(row: OrderEventRow) -> OrderEvent:
    return OrderEvent(
        before=None if row.before is None else OrderState(row.before),
        after=OrderState(row.after),
        at=row.at,
        reason=row.reason,
        venue_order_id=row.venue_order_id,
    )


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        number=row.number,
        signed_at=row.signed_at,
        fence_at=row.fence_at,
        payload_bytes=len(row.payload),
    )


def _held(row: PositionRow) -> Held:
    return Held(
        bot=row.bot,
        venue=row.venue,
        account=row.account,
        symbol=row.symbol,
        quantity=row.quantity,
        cash=row.cash,
        cost=row.cost,
        realised=row.realised,
        updated_at=row.updated_at,
    )
