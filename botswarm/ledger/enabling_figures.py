"""What an enabling is watched by, measured in the ledger: orders, fills, losses, prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from botswarm.domain.enabling import FILLED_MIN, ORDERS_LOOKED_AT, Enabling, Figures
from botswarm.domain.order import OrderState, Side
from botswarm.ledger.bot import BotState
from botswarm.ledger.fold import ZERO
from botswarm.ledger.halts import SWARM
from botswarm.ledger.models import BotRow, FillRow, OrderEventRow, OrderRow
from botswarm.ledger.risk_standings import standings_of
from botswarm.ledger.sweep_models import MarkRow

STANDING_MAX = timedelta(seconds=60)
"""Sums that no sweep has reckoned for so long say nothing of now."""
HUNDRED = Decimal(100)
PLACES = Decimal("0.0001")
TROUBLE = (OrderState.UNKNOWN.value, OrderState.STALE.value)
Results = Mapping[str, Decimal]


def measure(session: Session, enabling: Enabling, before: Results, now: datetime) -> Figures:
    """Of the stage that is held now, but for losses, which count from the beginning."""
    orders = _orders(session, enabling.stage_at)
    venue, age = _silence(session, enabling, now)
    results = results_now(session, now)
    losses = None
    if results is not None:
        losses = {quote: before.get(quote, now_) - now_ for quote, now_ in results.items()}
    errors = _with_event(session, orders, TROUBLE)
    rejected = _with_event(session, orders, (OrderState.REJECTED.value,))
    return Figures(
        orders=len(orders),
        error_rate=_share_of(orders, errors),
        rejects=_share_of(orders, rejected),
        errors=errors,
        rejected=rejected,
        slippage=_slippage(session, orders),
        losses=losses,
        data_age=age,
        silent=venue,
    )


def results_now(session: Session, now: datetime) -> dict[str, Decimal] | None:
    """What the swarm has won or lost ever, by quote asset; None where no sweep says so of now."""
    found: dict[str, Decimal] = {}
    for (_, quote), standing in standings_of(session, [SWARM]).items():
        if standing.result is None or abs(now - standing.at) > STANDING_MAX:
            return None
        found[quote] = standing.result
    return found


def _orders(session: Session, since: datetime) -> Sequence[Any]:
    """The latest that passed the gate, or grew too old before they could."""
    question = (
        select(OrderRow.id, OrderRow.side, OrderRow.reference_price)
        .where(
            OrderRow.created_at >= since,
            or_(OrderRow.approved_at.is_not(None), OrderRow.state == OrderState.STALE.value),
        )
        .order_by(OrderRow.created_at.desc())
        .limit(ORDERS_LOOKED_AT)
    )
    return session.execute(question).all()


def _with_event(session: Session, orders: Sequence[Any], after: Sequence[str]) -> int:
    """How many of them were in one of these states, if only for a moment."""
    question = (
        select(OrderEventRow.order_id)
        .where(
            and_(
                OrderEventRow.order_id.in_([order.id for order in orders]),
                OrderEventRow.after.in_(after),
            )
        )
        .distinct()
    )
    return len(session.execute(question).all())


def _share_of(orders: Sequence[Any], part: int) -> Decimal | None:
    if not orders:
        return None
    return (HUNDRED * part / len(orders)).quantize(PLACES)


def _slippage(session: Session, orders: Sequence[Any]) -> Decimal | None:
    """How much dearer they bought and cheaper they sold than they meant to, by worth."""
    known = {order.id: order for order in orders}
    columns = (FillRow.order_id, FillRow.price, FillRow.quantity)
    fills = session.execute(select(*columns).where(FillRow.order_id.in_(known))).all()
    if len({fill.order_id for fill in fills}) < FILLED_MIN:
        return None
    worse, worth = ZERO, ZERO
    with localcontext():
        for fill in fills:
            order = known[fill.order_id]
            sign = 1 if order.side == Side.BUY else -1
            worse += sign * (fill.price - order.reference_price) * fill.quantity
            worth += order.reference_price * fill.quantity
        return (HUNDRED * worse / worth).quantize(PLACES) if worth else None


def _silence(
    session: Session, enabling: Enabling, now: datetime
) -> tuple[str | None, Decimal | None]:
    """Of the venues where bots run, the one last heard of longest ago, and how long in seconds."""
    running = BotRow.state == BotState.RUNNING.value
    venues = session.scalars(select(BotRow.venue).where(running).distinct()).all()
    heard: dict[str, datetime] = {}
    for venue, at in session.execute(select(MarkRow.venue, MarkRow.at)):
        heard[venue] = max(heard.get(venue, at), at)
    # Of whom nothing is known, it is as if it fell silent when we began to look.
    ages = [(now - heard.get(venue, enabling.stage_at), venue) for venue in venues]
    if not ages:
        return None, ZERO
    age, venue = max(ages)
    return venue, max(ZERO, Decimal(age.total_seconds()).quantize(PLACES))
