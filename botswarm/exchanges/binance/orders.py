"""An order in Binance's words."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.domain.order import Order, OrderKind

TYPES: Mapping[OrderKind, str] = {
    OrderKind.MARKET: "MARKET",
    OrderKind.LIMIT: "LIMIT",
    OrderKind.POST_ONLY: "LIMIT_MAKER",
    OrderKind.STOP: "STOP_LOSS",
    OrderKind.STOP_LIMIT: "STOP_LOSS_LIMIT",
}


def wish(order: Order, market: str) -> dict[str, str]:
    """Its parameters, but for the time in which it may be placed and the signature."""
    parameters = {
        "symbol": market,
        "side": order.side.value.upper(),
        "type": TYPES[order.kind],
        "quantity": f"{order.quantity:f}",
        "newClientOrderId": order.client_order_id,
        "newOrderRespType": "FULL",
        # Our own bots on both sides: the resting order goes, nobody trades with himself.
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
    if order.limit_price is not None:
        parameters["price"] = f"{order.limit_price:f}"
    if order.stop_price is not None:
        parameters["stopPrice"] = f"{order.stop_price:f}"
    if order.kind in (OrderKind.LIMIT, OrderKind.STOP_LIMIT):
        parameters["timeInForce"] = order.time_in_force.value.upper()
    return parameters
