"""The one path by which an order reaches a venue: judged, frozen, committed, sent once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from botswarm import errors
from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import NOT_PLACED, IllegalTransition, Order, OrderState
from botswarm.domain.permission import (
    Approved,
    Exposure,
    Frozen,
    Refused,
    TradingState,
    Verdict,
)
from botswarm.exchanges.base import (
    Accepted,
    Answer,
    Declined,
    Report,
    SignedRequest,
    TradingRules,
    TradingVenue,
    Unclear,
)
from botswarm.risk import gate
from botswarm.risk.limits import Limits
from botswarm.trading.books import Books, Judge
from botswarm.trading.rounding import fit

logger = logging.getLogger(__name__)

SENT_WITHIN_S = 0.3
"""From when an order was judged. A process that slept longer asks first whether trading was halted
meanwhile: a stop is in force once so much time has passed, whoever still holds signed bytes.
"""
LOOKS_MAX = 5
"""A machine that cannot look and then send within that time had better not trade."""


class NotNow(errors.Unreachable):
    """The venue cannot be reached, or the clocks are too far apart: nothing was sent."""


def place(
    order_id: str, books: Books, venue: TradingVenue, limits: Limits, clock: Clock
) -> Order | None:
    """Judge an order and, if it passes, send it; None when there is nothing (more) to do.

    Safe to run twice and to die in: whatever was not committed as an attempt was not sent, and
    what was is never sent again from here.
    """
    judge, pen = _judge(venue, limits, clock.now()), _Pen(venue, clock)
    order = _sent(order_id, OrderState.READY, judge, pen, books)
    if order is not None and order.state is OrderState.APPROVED:
        # Settling sends it once that is possible, while its signal is fresh.
        logger.warning("not sent yet: %s", pen.obstacle, extra={"order_id": order_id})
    return order


def flatten(
    order_id: str, books: Books, venue: TradingVenue, limits: Limits, clock: Clock
) -> Order | None:
    """``place`` for a person who halted trading and wants out: it may only reduce, and a halt does
    not stand in its way.
    """
    usual = _judge(venue, limits, clock.now())

    def judge(order: Order, exposure: Exposure) -> Verdict:
        if not order.is_reduce_only:
            return Refused(order, "only orders that may only reduce pass a halt")
        return usual(order, replace(exposure, trading_state=TradingState.REDUCING))

    pen = _Pen(venue, clock)
    return _sent(order_id, OrderState.READY, judge, pen, books, is_flattening=True)


def send(order: Order, books: Books, venue: TradingVenue, clock: Clock) -> Order | None:
    """Make one attempt at an APPROVED order; None when somebody else does, or did.

    Raises NotNow when it should not even be tried: the order stays APPROVED then, and is sent by
    a later round while its signal is fresh.
    """
    pen = _Pen(venue, clock)
    sent = _sent(order.id, OrderState.APPROVED, gate.judge_again, pen, books)
    if sent is not None and sent.state is OrderState.APPROVED and pen.obstacle is not None:
        raise NotNow(pen.obstacle.cause, cure=pen.obstacle.cure) from pen.obstacle
    return sent


class _Pen:
    """Rounds and signs orders for a venue, which may be away."""

    def __init__(self, venue: TradingVenue, clock: Clock) -> None:
        self.venue = venue
        self.clock = clock
        self.obstacle: errors.BotswarmError | None = None
        """Why nothing can be signed."""
        try:
            # Here and not while the account is locked: it may have to be waited for.
            venue.ready()
        except (errors.Unreachable, errors.Refused) as error:
            self.obstacle = error

    def freeze(
        self, order: Order, instrument: Instrument | None
    ) -> Frozen[SignedRequest] | Refused | None:
        if instrument is None:
            return Refused(order, f"{order.venue} does not list the market {order.symbol}")
        fitting = fit(order, instrument)
        if isinstance(fitting, Refused):
            return fitting
        if self.obstacle is not None:
            return None
        try:
            signed = self.venue.sign(fitting.order, instrument, self.clock.now())
        except (errors.Unreachable, errors.Refused) as error:
            self.obstacle = error
            return None
        return Frozen(fitting.order, signed)


def _sent(
    order_id: str,
    before: OrderState,
    judge: Judge,
    pen: _Pen,
    books: Books,
    *,
    is_flattening: bool = False,
) -> Order | None:
    """Let it begin and, where the bytes are committed, send them; the order as it stands then."""
    began = pen.clock.monotonic()
    begun = books.begin(order_id, judge, pen.freeze, pen.clock.now(), before)
    match begun:
        case None:
            # An earlier delivery of the message has it, or had it; settling looks after its end.
            return None
        case Refused(order=order, reason=reason):
            logger.info("%s %s: %s", order.state, order.id, reason, extra={"order_id": order.id})
            return order
        case Approved(order=order):
            return order
        case Frozen(order=order, request=request):
            objection = None if is_flattening else _too_late(order, books, pen.clock, began)
            answer = Declined("not sent", objection) if objection else pen.venue.send(request)
            return take(answer, request, order, books, pen.clock)


def _too_late(order: Order, books: Books, clock: Clock, looked: float) -> str | None:
    """Why bytes that were committed are not sent after all; hardly ever asked."""
    for _ in range(LOOKS_MAX):
        if clock.monotonic() - looked <= SENT_WITHIN_S:
            return None
        looked = clock.monotonic()
        try:
            if books.is_halted(order, clock.now()):
                return "trading was halted before it left"
        except errors.BotswarmError as error:
            return f"it was about to leave late, and the ledger did not answer: {error.cause}"
    return "this machine is too slow to trade"


def take(
    answer: Answer, request: SignedRequest, order: Order, books: Books, clock: Clock
) -> Order | None:
    """Write down what the venue said to an attempt."""
    match answer:
        case Accepted(report=report):
            return record(report, order, report.fills, books, clock)
        case Declined(code=code, reason=reason):
            logger.info("rejected: %s (%s)", reason, code, extra={"order_id": order.id})
            return books.decline(
                order.id, request.fence_at, clock.now(), reason=f"{reason} ({code})"
            )
        case Unclear(reason=reason):
            logger.warning("unknown outcome: %s", reason, extra={"order_id": order.id})
            return move(books, order, OrderState.UNKNOWN, clock.now(), reason=reason)


def record(
    report: Report, order: Order, fills: Sequence[Fill], books: Books, clock: Clock
) -> Order | None:
    """Book fills, then move the order: nobody looks after an order that has ended.

    ``fills`` are all that are known of it; while some that the venue counts are missing, the
    order stays open.
    """
    ours = [fill for fill in fills if fill.client_order_id == order.client_order_id]
    if len(ours) < len(fills):
        books.book(fills, clock.now())
    known = max(order.filled_quantity, sum((fill.quantity for fill in fills), Decimal(0)))
    after = report.state
    if after.is_final and known < report.filled_quantity:
        after = OrderState.PARTIAL
    return move(books, order, after, clock.now(), fills=ours, venue_order_id=report.venue_order_id)


def move(
    books: Books,
    order: Order,
    after: OrderState,
    now: datetime,
    *,
    fills: Sequence[Fill] = (),
    venue_order_id: str | None = None,
    reason: str | None = None,
) -> Order | None:
    """Book its fills and move an order, unless somebody moved it further: that is old news."""
    try:
        return books.record(
            order.id, after, now, fills=fills, venue_order_id=venue_order_id, reason=reason
        )
    except IllegalTransition as error:
        is_there = after not in NOT_PLACED and after is not OrderState.UNKNOWN
        is_alarming = error.before in NOT_PLACED and is_there
        level = logging.ERROR if is_alarming else logging.INFO
        logger.log(level, "not moved: %s", error, extra={"order_id": order.id})
        return None


def _judge(venue: TradingVenue, limits: Limits, now: datetime) -> Judge:
    def judge(order: Order, exposure: Exposure) -> Verdict:
        if (order.venue, order.account) != (venue.name, venue.account):
            return Refused(
                order,
                f"this worker trades {venue.name}/{venue.account}, not "
                f"{order.venue}/{order.account}",
            )
        if objection := _not_taken(order, venue.rules):
            return Refused(order, f"{venue.name} {objection}")
        offset = venue.clock_offset_s()
        offset_s = None if offset is None else Decimal(str(offset))
        return gate.judge(order, exposure, limits, now, offset_s)

    return judge


def _not_taken(order: Order, rules: TradingRules) -> str | None:
    if order.kind not in rules.kinds:
        return f"takes no {order.kind} orders"
    if order.time_in_force not in rules.times_in_force:
        return f"takes no {order.time_in_force} orders"
    return None
