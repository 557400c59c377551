"""Stops that guard a bot's positions: it neither sees nor decides them, and sells past them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from botswarm.domain.order import Order


def own(orders: Sequence[Order]) -> Sequence[Order]:
    """Those that the bot has decided itself."""
    return [order for order in orders if not order.is_protective]


def guards_of(orders: Sequence[Order]) -> Mapping[str, Order]:
    """By symbol, the stop that guards a position and is not on its way out."""
    return {order.symbol: order for order in orders if order.is_protective and not order.is_ending}


def past(orders: Sequence[Order], guards: Mapping[str, Order]) -> tuple[Order, ...]:
    """What a bot sells takes the place of the stop, which holds at the venue what is to be sold.

    What is left of the position afterwards gets a stop anew.
    """
    return tuple(_past(order, guards.get(order.symbol)) for order in orders)


def _past(order: Order, guard: Order | None) -> Order:
    if guard is None or order.side is not guard.side or order.replaces is not None:
        return order
    # All that the stop has filled will be taken off, and the bot has reckoned with it already.
    quantity = order.quantity + guard.filled_quantity
    return replace(order, replaces=guard.id, quantity=quantity)
