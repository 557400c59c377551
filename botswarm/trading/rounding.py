"""An order as its market takes it: rounded in the safe direction, or refused with the reason."""

from __future__ import annotations

import dataclasses
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext

from botswarm.domain.amount import plain
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, Side
from botswarm.domain.permission import Approved, Refused, Verdict

# With fewer digits a quotient could be rounded up to the next whole step.
_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])


def fit(order: Order, instrument: Instrument) -> Verdict:
    """Never more than was asked for, at no worse a price; else the reason why it cannot be."""
    if not instrument.is_trading:
        return Refused(order, f"{instrument.market} is not trading")
    try:
        with localcontext(_EXACT):
            rounded = _rounded(order, instrument)
            objection = _objection(rounded, instrument)
    except ArithmeticError as error:
        return Refused(order, f"its numbers cannot be rounded exactly ({type(error).__name__})")
    return Approved(rounded) if objection is None else Refused(order, objection)


def _rounded(order: Order, instrument: Instrument) -> Order:
    quantity = order.quantity - order.quantity % instrument.lot_size
    return dataclasses.replace(
        order,
        quantity=quantity,
        limit_price=_to_a_step(order.limit_price, order.side, instrument),
        # A purchase triggers no higher, a sale no lower than was asked for: never too late.
        stop_price=_to_a_step(order.stop_price, order.side, instrument),
    )


def _to_a_step(price: Decimal | None, side: Side, instrument: Instrument) -> Decimal | None:
    """Down for a buyer and up for a seller."""
    if price is None:
        return None
    above = price % instrument.tick_size
    price -= above
    return price + instrument.tick_size if above and side is Side.SELL else price


def _objection(order: Order, instrument: Instrument) -> str | None:
    quantity = plain(order.quantity)
    if order.quantity <= 0 or order.quantity < instrument.quantity_min:
        return f"{quantity} is under the market's minimum of {plain(instrument.quantity_min)}"
    if order.quantity > instrument.quantity_max:
        return f"{quantity} is over the market's maximum of {plain(instrument.quantity_max)}"
    for price in (order.limit_price, order.stop_price):
        if price is not None and price <= 0:
            return f"its price is under one step of {plain(instrument.tick_size)}"
    if _lowest_notional(order) < instrument.notional_min:
        return (
            f"it is worth {plain(_lowest_notional(order))}, "
            f"under the market's minimum of {plain(instrument.notional_min)}"
        )
    return None


def _lowest_notional(order: Order) -> Decimal:
    return order.quantity * (order.limit_price or order.stop_price or order.reference_price)
