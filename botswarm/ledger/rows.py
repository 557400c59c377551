"""Rows of the ledger as the values the rest of the program works with, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Candle
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.ledger.columns import as_kept
from botswarm.ledger.models import CandleRow, FillRow, InstrumentRow, OrderEventRow, OrderRow


def order_of(row: OrderRow | Row[Any]) -> Order:
    return Order(
        id=row.id,
        bot=row.bot,
        venue=row.venue,
        account=row.account,
        symbol=row.symbol,
        side=Side(row.side),
        kind=OrderKind(row.kind),
        quantity=row.quantity,
        limit_price=row.limit_price,
        stop_price=row.stop_price,
        time_in_force=TimeInForce(row.time_in_force),
        reference_price=row.reference_price,
        state=OrderState(row.state),
        created_at=row.created_at,
        signal_expires_at=row.signal_expires_at,
        filled_quantity=row.filled_quantity,
        venue_order_id=row.venue_order_id,
        reason=row.reason,
        replaces=row.replaces,
        is_reduce_only=row.is_reduce_only,
        is_ending=row.is_ending,
    )


def row_of(order: Order, evaluation: Mapping[str, Any] | None, now: datetime) -> OrderRow:
    """A new order's row: nobody has judged it, and nothing of it is filled."""
    order_is_new = order.state is OrderState.READY and not order.filled_quantity
    assert order_is_new, f"order {order.id} is {order.state}, not new"
    return OrderRow(
        id=order.id,
        client_order_id=order.client_order_id,
        bot=order.bot,
        venue=order.venue,
        account=order.account,
        symbol=order.symbol,
        side=order.side.value,
        kind=order.kind.value,
        quantity=order.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force.value,
        reference_price=order.reference_price,
        state=order.state.value,
        created_at=order.created_at,
        signal_expires_at=order.signal_expires_at,
        filled_quantity=order.filled_quantity,
        reason=order.reason,
        evaluation=None if evaluation is None else as_kept(evaluation),
        is_open=False,
        attempts=0,
        updated_at=now,
        replaces=order.replaces,
        is_reduce_only=order.is_reduce_only,
        is_ending=False,
    )


def is_open(row: OrderRow) -> bool:
    return counts_as_open(OrderState(row.state), row.filled_quantity, row.quantity)


def counts_as_open(state: OrderState, filled: Decimal, quantity: Decimal) -> bool:
    """Whether it counts against the limits: it may be live, or fills of it are not booked yet."""
    if state is OrderState.FILLED:
        return filled < quantity
    return state.may_be_live


def move(
    row: OrderRow, after: OrderState, now: datetime, *, reason: str | None = None
) -> OrderEventRow:
    """Move an order along the table of states; raises IllegalTransition."""
    order_of(row).check(after)
    event = OrderEventRow(
        order_id=row.id,
        before=row.state,
        after=after.value,
        at=now,
        reason=reason,
        venue_order_id=row.venue_order_id,
    )
    row.state = after.value
    row.updated_at = now
    row.is_open = is_open(row)
    if reason is not None:
        row.reason = reason
    return event


def fill_of(row: FillRow) -> Fill:
    return Fill(
        venue=row.venue,
        symbol=row.symbol,
        trade_id=row.trade_id,
        client_order_id=row.client_order_id,
        side=Side(row.side),
        price=row.price,
        quantity=row.quantity,
        commission=row.commission,
        commission_asset=row.commission_asset,
        at=row.at,
    )


INSTRUMENT_FIELDS = tuple(Instrument.__dataclass_fields__)
CANDLE_FIELDS = tuple(name for name in Candle.__dataclass_fields__ if name != "is_closed")


def instrument_of(row: InstrumentRow) -> Instrument:
    return Instrument(**{name: getattr(row, name) for name in INSTRUMENT_FIELDS})


def candle_of(row: CandleRow) -> Candle:
    return Candle(**{name: getattr(row, name) for name in CANDLE_FIELDS}, is_closed=True)
