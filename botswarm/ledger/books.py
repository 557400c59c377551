"""What the order path asks of the ledger and writes into it, each in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import IllegalTransition, Order, OrderState, Side
from botswarm.domain.permission import Frozen, FrozenRequest, TradingState, Verdict
from botswarm.errors import NotFound
from botswarm.ledger import booking, cancels, placing, replacing
from botswarm.ledger.halts import Halts
from botswarm.ledger.models import AttemptRow, AuditRow, FillRow, InstrumentRow, OrderRow
from botswarm.ledger.placing import Begun, Freeze, Judge, Request
from botswarm.ledger.revisions import touch
from botswarm.ledger.rows import INSTRUMENT_FIELDS, instrument_of, move, order_of
from botswarm.ledger.session import Database, save_latest
from botswarm.ledger.standing import hold_account
from botswarm.ledger.steps import Step, held_order, held_orders
from botswarm.ledger.writes import Writes

UNKNOWN_ACCOUNT = ""
IN_DOUBT = (OrderState.SENDING.value, OrderState.UNKNOWN.value)
Told = tuple[str, dict[str, Any]]

log = logging.getLogger(__name__)


class LedgerBooks:
    """botswarm.trading.books.Books on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._halts = Halts(database)

    # --- instruments ----------------------------------------------------------------------

    def instrument(self, venue: str, symbol: str) -> Instrument:
        row = self._database.read(lambda session: session.get(InstrumentRow, (venue, symbol)))
        if row is None:
            raise NotFound(
                f"the ledger does not know the market {venue}:{symbol}",
                cure="check the name; the feed and the order worker save what the venue lists",
            )
        return instrument_of(row)

    def instruments(self, venue: str | None = None) -> list[Instrument]:
        question = select(InstrumentRow).order_by(InstrumentRow.venue, InstrumentRow.symbol)
        if venue is not None:
            question = question.where(InstrumentRow.venue == venue)
        return self._database.read(
            lambda session: [instrument_of(row) for row in session.scalars(question)]
        )

    def save_instruments(self, instruments: Sequence[Instrument]) -> None:
        # By rising name: two that save the same list must not wait for each other in a circle.
        ordered = sorted(instruments, key=lambda each: each.market)
        rows = [{name: getattr(each, name) for name in INSTRUMENT_FIELDS} for each in ordered]
        if rows:
            self._database.write(lambda session: save_latest(session, InstrumentRow, rows))

    # --- one order on its way --------------------------------------------------------------

    def begin(
        self,
        order_id: str,
        judge: Judge,
        freeze: Freeze[Request] | None,
        now: datetime,
        before: OrderState = OrderState.READY,
    ) -> Begun[Request] | None:
        """READY or APPROVED -> SENDING with the bytes, under the lock of the order's account.

        Without ``freeze`` it goes no further than APPROVED. The order in the answer is as it
        stands afterwards; a stale one is answered as Refused.
        """
        return self._database.write(
            lambda session: placing.begin(session, order_id, judge, freeze, now, before)
        )

    def judge(self, order_id: str, judge: Judge, now: datetime) -> Verdict | None:
        """READY -> APPROVED, REFUSED or STALE, and nothing is sent."""
        begun: Begun[FrozenRequest] | None = self.begin(order_id, judge, None, now)
        assert not isinstance(begun, Frozen), "nobody froze it"
        return begun

    def is_halted(self, order: Order, now: datetime) -> bool:
        place = {"venue": order.venue, "account": order.account, "symbol": order.symbol}
        return self._halts.strictest(**place, bot=order.bot, now=now) is TradingState.HALTED

    def record(
        self,
        order_id: str,
        after: OrderState,
        now: datetime,
        *,
        fills: Sequence[Fill] = (),
        venue_order_id: str | None = None,
        reason: str | None = None,
    ) -> Order:
        """Book the order's own fills and move it; raises IllegalTransition, the fills booked."""
        done: list[IllegalTransition] = []
        told: list[Told] = []

        def work(session: Session) -> Order:
            done.clear()  # a transaction may be run again
            told.clear()
            row = held_order(session, order_id)
            if row is None:
                raise NotFound(
                    f"the ledger has no order {order_id}", cure="see: botswarm order list"
                )
            step, writes = Step.of(row, now), Writes(session)
            if venue_order_id is not None:
                step.change(venue_order_id=venue_order_id)
            new = booking.enter(session, booking.rows_of(fills, [row], now, row.account))
            for quantity in booking.filled_by(new).values():
                step.fill(quantity)
            try:
                if step.order.state is not after:
                    step.move(after, reason)
            except IllegalTransition as error:
                done.append(error)
            booking.book(session, writes, new, now)
            step.write(writes)
            writes.send()
            told.extend(_told(new, [row]))
            return step.order

        order = self._database.write(work)
        _tell(told)
        if done:
            raise done[0]
        return order

    def reopen(self, order_id: str, fence_at: datetime, now: datetime) -> Order | None:
        """UNKNOWN -> APPROVED, where the last attempt is the one of this fence."""
        reason = "proven: the attempt placed nothing"
        before = (OrderState.UNKNOWN,)
        return self._database.write(
            lambda session: _end_attempt(
                session, order_id, fence_at, before, OrderState.APPROVED, now, reason
            )
        )

    def decline(
        self, order_id: str, fence_at: datetime, now: datetime, *, reason: str
    ) -> Order | None:
        """SENDING or UNKNOWN -> REJECTED, where the last attempt is the one of this fence."""
        return self._database.write(
            lambda session: _end_attempt(
                session, order_id, fence_at, IN_DOUBT, OrderState.REJECTED, now, reason
            )
        )

    def declare_not_placed(
        self, order_id: str, fence_at: datetime, now: datetime, *, actor: str, reason: str
    ) -> Order | None:
        """``decline`` by a person's word, for a person to call and nobody else; it is audited.

        Where the word was wrong, reconciliation finds the order, or its fills, and raises it.
        """

        def work(session: Session) -> Order | None:
            before = {"state": _locked(session, order_id).state}
            words = f"not placed, by the word of {actor}: {reason}"
            after = OrderState.REJECTED
            ended = _end_attempt(session, order_id, fence_at, IN_DOUBT, after, now, words)
            if ended is not None:
                session.add(
                    AuditRow(
                        at=now,
                        actor=actor,
                        action="order.not-placed",
                        subject=f"order:{order_id}",
                        before=before,
                        after={"state": after.value},
                        reason=reason,
                    )
                )
            return ended

        return self._database.write(work)

    # --- fills ------------------------------------------------------------------------------

    def book(self, fills: Sequence[Fill], now: datetime, *, account: str | None = None) -> int:
        """Book fills once each; answers how many were new.

        ``account`` is the one whose history they were read from: a fill that fills no order of
        ours is external there. Without it nobody knows whose an external fill is.
        """
        whose = UNKNOWN_ACCOUNT if account is None else account
        told: list[Told] = []

        def work(session: Session) -> int:
            told.clear()
            for venue, name in _accounts_of(session, fills, whose):
                hold_account(session, venue, name, now)
            orders = held_orders(session, {fill.client_order_id for fill in fills})
            new = booking.enter(session, booking.rows_of(fills, orders, now, whose))
            if not new:
                return 0
            writes, filled = Writes(session), booking.filled_by(new)
            booking.book(session, writes, new, now)
            for order in orders:
                if order.client_order_id in filled:
                    step = Step.of(order, now)
                    step.fill(filled[order.client_order_id])
                    step.write(writes)
            writes.send()
            told.extend(_told(new, orders))
            return len(new)

        count = self._database.write(work) if fills else 0
        _tell(told)
        return count

    def last_trade_id(self, venue: str, account: str, symbol: str) -> int | None:
        """After which trade to ask for fills, so that none of an unsettled order is passed over.

        Fills can become known out of order: what is known last says nothing of an order that
        was sent before it. So it is the lowest of what was known when each was first sent.
        """

        def work(session: Session) -> int | None:
            floors = session.scalars(
                select(OrderRow.trade_id_floor).where(
                    OrderRow.venue == venue,
                    OrderRow.account == account,
                    OrderRow.symbol == symbol,
                    OrderRow.is_open,
                    OrderRow.attempts > 0,
                )
            ).all()
            known = _last_known(session, venue, account, symbol)
            if known is None or None in floors:
                return None
            return min([known, *(floor for floor in floors if floor is not None)])

        return self._database.read(work)

    # --- what has to be looked after ---------------------------------------------------------

    def approved(self, venue: str, account: str) -> Sequence[Order]:
        question = _open_orders(venue, account).where(OrderRow.state == OrderState.APPROVED.value)
        return self._database.read(
            lambda session: [order_of(row) for row in session.scalars(question)]
        )

    def unsettled(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        """Orders that may be live, or are filled and lack a fill, with their last fence."""
        return self._fenced(
            _open_orders(venue, account).where(OrderRow.state != OrderState.APPROVED.value)
        )

    def in_doubt(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        """Those of the unsettled of which nobody knows whether they are at the venue."""
        return self._fenced(_open_orders(venue, account).where(OrderRow.state.in_(IN_DOUBT)))

    def unsettled_one(self, order_id: str) -> tuple[Order, datetime | None] | None:
        """This order, where it is among the unsettled."""
        question = select(OrderRow).where(
            OrderRow.id == order_id,
            OrderRow.is_open,
            OrderRow.state != OrderState.APPROVED.value,
        )
        return next(iter(self._fenced(question)), None)

    def to_cancel(self, venue: str, account: str) -> Sequence[Order]:
        """Orders that somebody wants ended and that may be at the venue, the oldest wish first."""
        return self._database.read(lambda session: cancels.to_cancel(session, venue, account))

    def finish_cancels(self, venue: str, account: str, now: datetime) -> None:
        """Note of wishes whose order is at its end that they are fulfilled."""
        self._database.write(lambda session: cancels.finish(session, venue, account, now))

    def freed(self, venue: str, account: str) -> Sequence[str]:
        """Orders that waited for the end of what they replace, and need not wait any more."""
        return self._database.read(lambda session: replacing.freed(session, venue, account))

    def _fenced(self, question: Select[OrderRow]) -> list[tuple[Order, datetime | None]]:
        fence = (
            select(AttemptRow.fence_at)
            .where(AttemptRow.order_id == OrderRow.id, AttemptRow.number == OrderRow.attempts)
            .scalar_subquery()
        )
        fenced = question.add_columns(fence)
        return self._database.read(
            lambda session: [(order_of(row), until) for row, until in session.execute(fenced)]
        )


def _accounts_of(session: Session, fills: Sequence[Fill], whose: str) -> Sequence[tuple[str, str]]:
    """Those that fills move, by name."""
    names = {fill.client_order_id for fill in fills}
    found = session.execute(
        select(OrderRow.client_order_id, OrderRow.venue, OrderRow.account).where(
            OrderRow.client_order_id.in_(names)
        )
    )
    ours = {row.client_order_id: (row.venue, row.account) for row in found}
    return sorted({ours.get(fill.client_order_id, (fill.venue, whose)) for fill in fills})


def _told(rows: Sequence[FillRow], orders: Sequence[Row[Any]]) -> list[Told]:
    """New fills of bots in words: who, what, at which price, and why."""
    done = {Side.BUY.value: "bought", Side.SELL.value: "sold"}
    verdicts = {order.id: order.verdict for order in orders}
    told = []
    for row in rows:
        if row.order_id not in verdicts:
            continue
        words = f"{row.bot} {done[row.side]} {plain(row.quantity)} {row.symbol} at "
        words += plain(row.price)
        if verdict := verdicts[row.order_id]:
            # It begins with what to do, which the fill says already: "in: the fast average …".
            words += f" because {verdict.partition(': ')[2] or verdict}"
        told.append(
            (words, {"bot_id": row.bot, "order_id": row.order_id, "trade_id": row.trade_id})
        )
    return told


def _tell(told: Sequence[Told]) -> None:
    """After the commit: what is said of money is true."""
    for words, about in told:
        log.info(words, extra={"event": "fill", **about})


def _open_orders(venue: str, account: str) -> Select[OrderRow]:
    return (
        select(OrderRow)
        .where(OrderRow.venue == venue, OrderRow.account == account, OrderRow.is_open)
        .order_by(OrderRow.created_at, OrderRow.id)
    )


def _locked(session: Session, order_id: str) -> OrderRow:
    row = session.get(OrderRow, order_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound(f"the ledger has no order {order_id}", cure="see: botswarm order list")
    return row


def _end_attempt(
    session: Session,
    order_id: str,
    fence_at: datetime,
    before: Collection[str],
    after: OrderState,
    now: datetime,
    reason: str,
) -> Order | None:
    """By compare-and-set on the last attempt's fence; None where it is not to be sent (again)."""
    row = _locked(session, order_id)
    attempt = session.get(AttemptRow, (row.id, row.attempts))
    if row.state not in before or attempt is None or attempt.fence_at != fence_at:
        return None
    session.add(move(row, after, now, reason=reason))
    is_unwanted = after is OrderState.APPROVED and row.is_ending
    if is_unwanted:
        words = "nothing was placed, and somebody wanted it cancelled"
        session.add(move(row, OrderState.REFUSED, now, reason=words))
    touch(session, [row.bot])
    return None if is_unwanted else order_of(row)


def _last_known(session: Session, venue: str, account: str, symbol: str) -> int | None:
    return session.execute(
        select(func.max(FillRow.trade_id)).where(
            FillRow.venue == venue, FillRow.account == account, FillRow.symbol == symbol
        )
    ).scalar_one()
