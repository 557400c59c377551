"""Orders in Coinbase's words and back: how one is asked for, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Malformed, Refused
from botswarm.exchanges.answers import unreadable
from botswarm.exchanges.base import Answer, Declined, Report, Unclear
from botswarm.exchanges.coinbase import order_errors
from botswarm.exchanges.coinbase.private import UNREADABLE
from botswarm.exchanges.reading import number

STATES: Mapping[str, OrderState] = {
    "PENDING": OrderState.LIVE,
    "QUEUED": OrderState.LIVE,
    "OPEN": OrderState.LIVE,
    "EDIT_QUEUED": OrderState.LIVE,
    "CANCEL_QUEUED": OrderState.LIVE,
    "FILLED": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELED,
    "EXPIRED": OrderState.EXPIRED,
    # It was taken, and then failed: what it had filled by then stays filled.
    "FAILED": OrderState.EXPIRED,
}


def configuration(order: Order) -> dict[str, Any]:
    """Raises Refused for what the venue does not have."""
    size, limit = {"base_size": f"{order.quantity:f}"}, {"limit_price": f"{order.limit_price}"}
    if order.limit_price is not None:
        limit = {"limit_price": f"{order.limit_price:f}"}
    match order.kind, order.time_in_force:
        case OrderKind.MARKET, _:
            return {"market_market_ioc": size}
        case OrderKind.POST_ONLY, _:
            return {"limit_limit_gtc": size | limit | {"post_only": True}}
        case OrderKind.LIMIT, TimeInForce.GTC:
            return {"limit_limit_gtc": size | limit | {"post_only": False}}
        case OrderKind.LIMIT, TimeInForce.IOC:
            return {"sor_limit_ioc": size | limit}
        case OrderKind.LIMIT, TimeInForce.FOK:
            return {"limit_limit_fok": size | limit}
        case OrderKind.STOP_LIMIT, TimeInForce.GTC:
            way = "UP" if order.side is Side.BUY else "DOWN"
            stop = {"stop_price": f"{order.stop_price:f}"}
            way_of = {"stop_direction": f"STOP_DIRECTION_STOP_{way}"}
            return {"stop_limit_stop_limit_gtc": size | limit | stop | way_of}
    raise Refused(
        f"Coinbase has no {order.kind} order that is {order.time_in_force}",
        cure="place a limit order, or a stop-limit order that is gtc",
    )


def declined(error: Mapping[str, Any]) -> Answer:
    """Several fields name the reason, and those that do not say that they do not know it."""
    names = ("new_order_failure_reason", "preview_failure_reason", "error")
    reasons = [str(error.get(each) or "") for each in names]
    told = [each for each in dict.fromkeys(reasons) if each not in order_errors.SILENT]
    words = str(error.get("message") or error.get("error_details") or ", ".join(told))
    if order_errors.of_placement(reasons).is_definite:
        return Declined(told[0], words)
    return Unclear(f"not successful: {', '.join(told) or 'no reason is told'}; {words}")


def report(client_id: str, order_id: str, state: OrderState, filled: Decimal) -> Report:
    if state is OrderState.LIVE and filled:
        state = OrderState.PARTIAL
    return Report(
        client_order_id=client_id, venue_order_id=order_id, state=state, filled_quantity=filled
    )


def read(row: Any) -> Report:
    """Raises Unreachable for what has another shape than an order."""
    try:
        state, filled = STATES[row["status"]], number(row["filled_size"])
        return report(str(row["client_order_id"]), str(row["order_id"]), state, filled)
    except (*UNREADABLE, Malformed) as error:
        raise unreadable("an order", error) from error
