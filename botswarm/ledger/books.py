"""What the order path asks of the ledger and writes into it, each in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.errors import NotFound
from botswarm.ledger import booking, cancels, halts, replacing
from botswarm.ledger.columns import plain
from botswarm.ledger.fold import ZERO, Assets
from botswarm.ledger.models import (
    AccountRow,
    AttemptRow,
    DailyResultRow,
    FillRow,
    InstrumentRow,
    OrderRow,
    PositionRow,
)
from botswarm.ledger.revisions import touch
from botswarm.ledger.rows import INSTRUMENT_FIELDS, instrument_of, move, order_of
from botswarm.ledger.session import Database, save_latest
from botswarm.ledger.standing import hold_account, is_awaited, objection_of

Judge = Callable[[Order, Exposure], Verdict]
MINUTE = timedelta(minutes=1)
UNKNOWN_ACCOUNT = ""
IN_DOUBT = (OrderState.SENDING.value, OrderState.UNKNOWN.value)
Told = tuple[str, dict[str, Any]]

log = logging.getLogger(__name__)


class FrozenRequest(Protocol):
    """A signed request, as far as the ledger cares; each venue makes its own."""

    @property
    def payload(self) -> bytes: ...
    @property
    def signed_at(self) -> datetime: ...
    @property
    def fence_at(self) -> datetime: ...


class LedgerBooks:
    """botswarm.trading.books.Books on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def judge(self, order_id: str, judge: Judge, now: datetime) -> Verdict | None:
        """READY -> APPROVED, REFUSED or STALE, under the lock of the order's account.

        The order in the answer is as it stands afterwards; a stale one is answered as Refused.
        """

        def work(session: Session) -> Verdict | None:
            place = session.execute(
                select(OrderRow.venue, OrderRow.account).where(OrderRow.id == order_id)
            ).one_or_none()
            if place is None:
                return None
            account = hold_account(session, place.venue, place.account, now)
            row = _locked(session, order_id)
            if row.state != OrderState.READY or replacing.is_waiting(session, row, now):
                return None
            verdict = _decide(session, row, account, judge, now)
            touch(session, [row.bot])
            return verdict

        return self._database.write(work)

    def begin_attempt(self, order: Order, request: FrozenRequest, now: datetime) -> Order | None:
        """APPROVED -> SENDING with the bytes; None where somebody did, or trading is halted.

        The order may have been rounded since it was judged, never up.
        """

        def work(session: Session) -> Order | None:
            row = session.get(OrderRow, order.id, with_for_update=True)
            if row is None or row.state != OrderState.APPROVED:
                return None
            if _trading_state(session, row) is TradingState.HALTED:
                return None
            assert order.quantity <= row.quantity, "more would be sent than was judged"
            row.quantity = order.quantity
            row.limit_price, row.stop_price = order.limit_price, order.stop_price
            row.attempts += 1
            if row.attempts == 1:
                row.trade_id_floor = _last_known(session, row.venue, row.account, row.symbol)
            row.sent_at = now
            session.add(
                AttemptRow(
                    order_id=row.id,
                    number=row.attempts,
                    payload=request.payload,
                    signed_at=request.signed_at,
                    fence_at=request.fence_at,
                    created_at=now,
                )
            )
            session.add(move(row, OrderState.SENDING, now))
            touch(session, [row.bot])
            return order_of(row)

        return self._database.write(work)

    def record(
        self,
        order_id: str,
        after: OrderState,
        now: datetime,
        *,
        venue_order_id: str | None = None,
        reason: str | None = None,
    ) -> Order:
        def work(session: Session) -> Order:
            row = _locked(session, order_id)
            if venue_order_id is not None:
                row.venue_order_id = venue_order_id
            if row.state != after:
                session.add(move(row, after, now, reason=reason))
            touch(session, [row.bot])
            return order_of(row)

        return self._database.write(work)

    def reopen(self, order_id: str, fence_at: datetime, now: datetime) -> Order | None:
        """UNKNOWN -> APPROVED, where the last attempt is the one of this fence."""
        reason = "proven: the attempt placed nothing"
        return self._end_attempt(
            order_id, fence_at, (OrderState.UNKNOWN,), OrderState.APPROVED, now, reason
        )

    def decline(
        self, order_id: str, fence_at: datetime, now: datetime, *, reason: str
    ) -> Order | None:
        """SENDING or UNKNOWN -> REJECTED, where the last attempt is the one of this fence."""
        before = (OrderState.SENDING, OrderState.UNKNOWN)
        return self._end_attempt(order_id, fence_at, before, OrderState.REJECTED, now, reason)

    def _end_attempt(
        self,
        order_id: str,
        fence_at: datetime,
        before: tuple[OrderState, ...],
        after: OrderState,
        now: datetime,
        reason: str,
    ) -> Order | None:
        def work(session: Session) -> Order | None:
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
            told.clear()  # a transaction may be run again
            rows = booking.rows_of(session, fills, now, whose)
            new = booking.unbooked(session, rows)
            if not new:
                return 0
            for venue, name in sorted({(row.venue, row.account) for row in new}):
                hold_account(session, venue, name, now)
            # Asked again now that nobody else books for these accounts.
            new = booking.unbooked(session, rows)
            if new:
                booking.book(session, new, now)
                touch(session, [row.bot for row in new])
                told.extend(_told(session, new))
            return len(new)

        count = self._database.write(work) if fills else 0
        # Only now: what is said of money is true.
        for words, about in told:
            log.info(words, extra={"event": "fill", **about})
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


def _told(session: Session, rows: Sequence[FillRow]) -> list[Told]:
    """New fills of bots in words: who, what, at which price, and why."""
    done = {Side.BUY.value: "bought", Side.SELL.value: "sold"}
    told = []
    for row in rows:
        order = session.get(OrderRow, row.order_id) if row.order_id else None
        if order is None:
            continue
        words = f"{row.bot} {done[row.side]} {plain(row.quantity)} {row.symbol} at "
        words += plain(row.price)
        if verdict := (order.evaluation or {}).get("verdict"):
            # It begins with what to do, which the fill says already: "in: the fast average …".
            words += f" because {verdict.partition(': ')[2] or verdict}"
        told.append((words, {"bot_id": row.bot, "order_id": order.id, "trade_id": row.trade_id}))
    return told


def _decide(
    session: Session, row: OrderRow, account: AccountRow, judge: Judge, now: datetime
) -> Verdict | None:
    is_waiting = is_awaited(account, now)
    if now >= row.signal_expires_at:
        reason = "its signal was too old to be acted on"
        if is_waiting:
            reason += ": it waited for the account to be compared with its venue"
        session.add(move(row, OrderState.STALE, now, reason=reason))
        return Refused(order_of(row), reason)
    if not is_waiting and (objection := replacing.take_over(session, row)):
        session.add(move(row, OrderState.REFUSED, now, reason=objection))
        return Refused(order_of(row), objection)
    match judge(order_of(row), _exposure(session, row, now)):
        case Approved() if is_waiting:
            # It waits as it is: its doorbell rings again until the account was looked at.
            return None
        case Approved() if objection := objection_of(account):
            session.add(move(row, OrderState.REFUSED, now, reason=objection))
            return Refused(order_of(row), objection)
        case Approved():
            row.approved_at = now
            session.add(move(row, OrderState.APPROVED, now))
            return Approved(order_of(row))
        case Refused(reason=reason):
            session.add(move(row, OrderState.REFUSED, now, reason=reason))
            return Refused(order_of(row), reason)


def _exposure(session: Session, row: OrderRow, now: datetime) -> Exposure:
    """Sums of money are over the markets with the same quote asset: others cannot be added."""
    quote = Assets.of(row.symbol).quote
    others = [order_of(each) for each in session.scalars(_open_orders(row.venue, row.account))]
    comparable = [order for order in others if Assets.of(order.symbol).quote == quote]
    same = [order for order in others if (order.bot, order.symbol) == (row.bot, row.symbol)]
    position = session.get(PositionRow, (row.bot, row.venue, row.account, row.symbol))
    day = session.get(DailyResultRow, (row.venue, row.account, now.date().isoformat(), quote))
    return Exposure(
        trading_state=_trading_state(session, row),
        account_open_notional=_sum(order.open_quantity * order.price for order in comparable),
        position=position.quantity if position else ZERO,
        open_buy_quantity=_sum(order.open_quantity for order in same if order.side is Side.BUY),
        open_sell_quantity=_sum(order.open_quantity for order in same if order.side is Side.SELL),
        open_orders=len(others),
        # Those that passed the gate: counting only what was sent, workers that race would all pass.
        orders_last_minute=session.execute(
            select(func.count()).where(OrderRow.bot == row.bot, OrderRow.approved_at > now - MINUTE)
        ).scalar_one(),
        loss_today=day.realised.copy_negate() if day else ZERO,
    )


def _trading_state(session: Session, row: OrderRow) -> TradingState:
    return halts.strictest(
        session, venue=row.venue, account=row.account, bot=row.bot, symbol=row.symbol
    )


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


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


def _last_known(session: Session, venue: str, account: str, symbol: str) -> int | None:
    return session.execute(
        select(func.max(FillRow.trade_id)).where(
            FillRow.venue == venue, FillRow.account == account, FillRow.symbol == symbol
        )
    ).scalar_one()
