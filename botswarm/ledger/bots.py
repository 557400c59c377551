"""The bots as the ledger keeps them, and the one way their decisions get into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import Update, bindparam, or_, select, update
from sqlalchemy.orm import Session

from botswarm.domain.order import Order, OrderState
from botswarm.errors import NotFound
from botswarm.ledger import cancels, evaluations
from botswarm.ledger.booking import holding_of
from botswarm.ledger.bot import NEVER, Bot, BotState
from botswarm.ledger.changes import Changes
from botswarm.ledger.columns import as_kept
from botswarm.ledger.fold import Holding
from botswarm.ledger.models import BotRow, OrderEventRow, OrderRow, OutboxRow, PositionRow
from botswarm.ledger.outbox import Doorbell, doorbell_of, outbox_row, placing
from botswarm.ledger.revisions import advance
from botswarm.ledger.rows import order_of, row_of
from botswarm.ledger.session import Database

__all__ = ["NEVER", "Bot", "BotState", "Bots", "Decided", "Decision", "Stand", "stands_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A bot with what it holds of its market and has under way there, at one moment."""

    bot: Bot
    position: Decimal
    orders: Sequence[Order]
    """Its own that are not at their end, sent or not, oldest first, of all its markets."""
    revision: int = 0
    """Of its market when it last changed; a decision on it says which it has seen."""
    held: Mapping[str, Holding] = field(default_factory=dict)
    """By symbol, what it holds of every market of its venue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a bot made of one look at its market. Without orders, memory and evaluation nothing
    is written for it: an unchanged bot costs nothing.
    """

    bot: str
    sequence: int
    seen_sequence: int
    """The bot's last_sequence when its view was made: a decision on an older view is void."""
    seen_revision: int | None = None
    """Of the stand it was made on: where the stand has changed since, it is void."""
    orders: Sequence[Order] = ()
    memory: Mapping[str, Any] | None = None
    """None leaves it as it is."""
    evaluation: Mapping[str, Any] | None = None
    """None leaves the last one standing. Plain values; NaN is refused. Kept with the orders."""
    version: int | None = None
    """Of the configuration it was taken with: where the bot has another by now, it is void."""
    is_change: bool = False
    """The evaluation is kept for later, not only until the next one."""
    inputs: Mapping[str, Any] | None = None
    """What deciding again takes; kept with an evaluation that is a change."""
    cancels: Sequence[str] = ()
    """Ids of its own orders that it wants ended; others are left alone."""

    @property
    def is_empty(self) -> bool:
        is_silent = self.memory is None and self.evaluation is None
        return not self.orders and not self.cancels and is_silent

    @property
    def ending(self) -> set[str]:
        """Whose end it wishes for, replaced ones with them."""
        replaced = {order.replaces for order in self.orders if order.replaces is not None}
        return {*self.cancels, *replaced}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    bots: frozenset[str]
    """Whose decisions count; the others were overtaken, or run no more."""
    doorbells: tuple[Doorbell, ...]
    """Committed and not yet rung: publish them and mark them sent, or leave them to the relay."""
    revisions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Of the markets (venue, symbol), as they are with these decisions."""


class Bots:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, bot: Bot, now: datetime, *, actor: str) -> Bot:
        """Raises Refused where the name is taken."""
        Changes(self._database).save(now, new=[bot], actor=actor, reason="created")
        return self.get(bot.name)

    def get(self, name: str) -> Bot:
        row = self._database.read(lambda session: session.get(BotRow, name))
        if row is None:
            raise self._unknown(name)
        return _bot(row)

    def list(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        state: BotState | None = None,
    ) -> Sequence[Bot]:
        """By name; of one venue, market or state, where that is asked for."""
        question = select(BotRow).order_by(BotRow.name)
        if venue is not None:
            question = question.where(BotRow.venue == venue)
        if symbol is not None:
            question = question.where(BotRow.symbol == symbol)
        if state is not None:
            question = question.where(BotRow.state == state.value)
        return self._database.read(lambda session: [_bot(row) for row in session.scalars(question)])

    def stands(self, venue: str, symbol: str) -> Sequence[Stand]:
        """The running bots of a market, by name.

        All of it from one snapshot: a fill booked between two of its questions would be counted
        twice, or not at all.
        """
        running = (
            select(BotRow)
            .where(
                BotRow.venue == venue,
                BotRow.symbol == symbol,
                BotRow.state == BotState.RUNNING.value,
            )
            .order_by(BotRow.name)
        )
        return self._database.read(
            lambda session: stands_of(session, session.scalars(running).all())
        )

    def stand(self, name: str) -> Stand:
        """One bot's, whether it runs or not; raises NotFound."""
        question = select(BotRow).where(BotRow.name == name)
        found = self._database.read(
            lambda session: stands_of(session, session.scalars(question).all())
        )
        if not found:
            raise self._unknown(name)
        return found[0]

    def delete(self, name: str, now: datetime, *, actor: str) -> None:
        """Raises NotFound, and Refused while it runs or an order of it is not at its end."""
        Changes(self._database).delete([name], now, actor=actor, reason="deleted")

    def running_markets(self, venue: str) -> frozenset[str]:
        """The symbols in which bots run or at which their strategies look, however many."""
        running = (BotRow.venue == venue, BotRow.state == BotState.RUNNING.value)
        own = select(BotRow.symbol).where(*running).distinct()
        others = select(BotRow.others).where(*running, BotRow.others.is_not(None)).distinct()

        def work(session: Session) -> frozenset[str]:
            looked_at = (symbol for found in session.scalars(others) for symbol in found or ())
            return frozenset((*session.scalars(own), *looked_at))

        return self._database.read(work)

    def set_state(
        self, name: str, state: BotState, now: datetime, *, reason: str, actor: str
    ) -> Bot:
        """Audited; raises NotFound."""
        Changes(self._database).move([name], state, now, actor=actor, reason=reason)
        return self.get(name)

    def decide(self, decision: Decision, now: datetime) -> bool:
        """Commit one decision; False when another worker was there first, or the bot has ended."""
        return decision.bot in self.decide_many([decision], now).bots

    def decide_many(self, decisions: Sequence[Decision], now: datetime) -> Decided:
        """Commit the decisions of many bots in one transaction, each by compare-and-set.

        With each go its memory, its evaluation, its READY orders and their doorbells: all of
        it or nothing.
        """
        empty = frozenset(each.bot for each in decisions if each.is_empty)
        weighty = [each for each in decisions if not each.is_empty]
        if not weighty:
            return Decided(bots=empty, doorbells=())

        def work(session: Session) -> Decided:
            # Orders before bots, as everybody locks them who moves an order.
            held = cancels.hold(session, {each for one in weighty for each in one.ending})
            valid = _still_valid(session, weighty)
            counted = [each for each, _ in valid]
            revisions = advance(session, {market for _, market in valid})
            _save(session, valid, revisions, now)
            evaluations.add(session, counted, now)
            rows = _cancel_orders(session, held, counted, now)
            rows += _add_orders(session, counted, now)
            return Decided(
                revisions=revisions,
                bots=empty | {each.bot for each in counted},
                doorbells=tuple(doorbell_of(row) for row in rows),
            )

        return self._database.write(work)

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"there is no bot {name!r}", cure="see: botswarm bot list")


# Locked by rising name: two workers must not wait for each other in a circle.
_locked = (
    select(
        *(BotRow.name, BotRow.last_sequence, BotRow.state, BotRow.version, BotRow.revision),
        *(BotRow.venue, BotRow.symbol),
    )
    .where(BotRow.name.in_(bindparam("names", expanding=True)))
    .order_by(BotRow.name)
    .with_for_update()
)


def _still_valid(
    session: Session, decisions: Sequence[Decision]
) -> list[tuple[Decision, tuple[str, str]]]:
    """With the market of each."""
    by_bot = {each.bot: each for each in decisions}
    found = session.connection().execute(_locked, {"names": list(by_bot)})
    return [
        (by_bot[name], (venue, symbol))
        for name, last_sequence, state, version, revision, venue, symbol in found
        if state == BotState.RUNNING
        and last_sequence == by_bot[name].seen_sequence < by_bot[name].sequence
        and by_bot[name].version in (None, version)
        and by_bot[name].seen_revision in (None, revision)
    ]


def _save(
    session: Session,
    decisions: Sequence[tuple[Decision, tuple[str, str]]],
    revisions: Mapping[tuple[str, str], int],
    now: datetime,
) -> None:
    """One statement per kind of change, so that a hundred bots are one round trip."""
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for each, market in decisions:
        values: dict[str, Any] = {
            "last_sequence": each.sequence,
            "updated_at": now,
            "revision": revisions[market],
        }
        if each.memory is not None:
            values["memory"] = as_kept(each.memory)
        if each.evaluation is not None:
            values["last_evaluation"] = as_kept(each.evaluation)
        kinds.setdefault(tuple(values), []).append({"bot": each.bot, **values})
    for columns, rows in kinds.items():
        session.connection().execute(_update_of(columns), rows)


@cache
def _update_of(columns: tuple[str, ...]) -> Update:
    values: dict[str, Any] = {column: bindparam(column) for column in columns}
    return update(BotRow).where(BotRow.name == bindparam("bot")).values(values)


def _cancel_orders(
    session: Session, held: Sequence[OrderRow], decisions: Sequence[Decision], now: datetime
) -> list[OutboxRow]:
    by_bot = {each.bot: each for each in decisions}
    rows: list[OutboxRow] = []
    for order in held:
        decision = by_bot.get(order.bot)
        if decision is None or order.id not in decision.ending:
            continue
        new = [each.id for each in decision.orders if each.replaces == order.id]
        verdict = (decision.evaluation or {}).get("verdict")
        reason = f"replaced by {new[0]}" if new else str(verdict or "it decided so")
        rows += cancels.wish(session, [order], now, actor=order.bot, reason=reason)[1]
    return rows


def _add_orders(session: Session, decisions: Sequence[Decision], now: datetime) -> list[OutboxRow]:
    wanted = {order.id: (order, each) for each in decisions for order in each.orders}
    if not wanted:
        return []
    known = set(session.scalars(select(OrderRow.id).where(OrderRow.id.in_(wanted))))
    new = [pair for order_id, pair in wanted.items() if order_id not in known]
    session.add_all(row_of(order, each.evaluation, now) for order, each in new)
    session.flush()
    doorbells = [outbox_row(placing(order), order.id, now) for order, _ in new]
    session.add_all(doorbells)
    session.add_all(
        OrderEventRow(order_id=order.id, before=None, after=order.state.value, at=now)
        for order, _ in new
    )
    session.flush()
    return doorbells


def stands_of(session: Session, rows: Sequence[BotRow]) -> list[Stand]:
    names = [row.name for row in rows]
    positions = {
        (row.bot, row.venue, row.account, row.symbol): holding_of(row)
        for row in session.scalars(select(PositionRow).where(PositionRow.bot.in_(names)))
    }
    held: dict[tuple[str, str, str], dict[str, Holding]] = {}
    for (bot, venue, account, symbol), holding in positions.items():
        held.setdefault((bot, venue, account), {})[symbol] = holding
    orders: dict[str, list[Order]] = {}
    under_way = or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value)
    for row in session.scalars(
        select(OrderRow)
        .where(OrderRow.bot.in_(names), under_way)
        .order_by(OrderRow.created_at, OrderRow.id)
    ):
        orders.setdefault(row.bot, []).append(order_of(row))
    return [
        Stand(
            bot=_bot(row),
            position=(
                positions.get((row.name, row.venue, row.account, row.symbol)) or Holding()
            ).quantity,
            orders=orders.get(row.name, []),
            revision=row.revision,
            held=held.get((row.name, row.venue, row.account), {}),
        )
        for row in rows
    ]


def _bot(row: BotRow) -> Bot:
    return Bot(
        name=row.name,
        strategy=row.strategy,
        venue=row.venue,
        symbol=row.symbol,
        account=row.account,
        timeframe=row.timeframe,
        parameters=row.parameters,
        state=BotState(row.state),
        reason=row.reason,
        last_sequence=row.last_sequence,
        memory=row.memory,
        last_evaluation=row.last_evaluation,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
        others=tuple(row.others or ()),
        tags=tuple(row.tags or ()),
        is_shadow=row.is_shadow,
        armed_until=row.armed_until,
    )
