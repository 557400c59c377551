"""Orders that sweeps make of a position, and those that are under way there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.standing import HeldPosition
from botswarm.ledger.protections import Place
from botswarm.sweeps.sweep import Tools

LIFE = timedelta(seconds=10)


def place_of(each: HeldPosition | Order) -> Place:
    return each.bot, each.venue, each.account, each.symbol


def under_way(bots: Iterable[str], tools: Tools) -> Mapping[Place, Sequence[Order]]:
    """Orders of these bots that are not at their end, oldest first."""
    found: dict[Place, list[Order]] = {}
    for order in tools.ledger.orders.under_way_of(sorted(set(bots))):
        found.setdefault(place_of(order), []).append(order)
    return found


def reducing_order(
    held: HeldPosition,
    order_id: str,
    now: datetime,
    *,
    side: Side,
    kind: OrderKind,
    quantity: Decimal,
    reference_price: Decimal,
    replaced: Order | None,
    limit_price: Decimal | None = None,
    stop_price: Decimal | None = None,
) -> Order:
    """It never grows the position, whatever becomes of it meanwhile."""
    return Order(
        id=order_id,
        bot=held.bot,
        venue=held.venue,
        account=held.account,
        symbol=held.symbol,
        side=side,
        kind=kind,
        quantity=quantity,
        limit_price=limit_price,
        stop_price=stop_price,
        time_in_force=TimeInForce.GTC,
        reference_price=reference_price,
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + LIFE,
        replaces=None if replaced is None else replaced.id,
        is_reduce_only=True,
    )
