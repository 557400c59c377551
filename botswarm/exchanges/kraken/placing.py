"""Kraken's order requests as they are frozen: all but the nonce or token they are sent with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from botswarm.domain.order import Order, OrderKind, TimeInForce
from botswarm.exchanges.kraken import symbols

# The engine refuses what comes to it later than this. REST takes nothing below two seconds.
DEADLINE = timedelta(seconds=5)
REST_ROAD = b"AddOrder?"
TYPES: Mapping[OrderKind, str] = {
    OrderKind.MARKET: "market",
    OrderKind.LIMIT: "limit",
    OrderKind.POST_ONLY: "limit",
    OrderKind.STOP: "stop-loss",
    OrderKind.STOP_LIMIT: "stop-loss-limit",
}


def is_by_rest(order: Order) -> bool:
    """Fill or kill is what REST alone takes."""
    return order.time_in_force is TimeInForce.FOK and order.kind.has_limit


def for_socket(order: Order, deadline: datetime) -> bytes:
    parameters: dict[str, Any] = {
        "order_type": TYPES[order.kind],
        "side": order.side.value,
        "order_qty": _raw(order.quantity),
        "symbol": symbols.to_stream(order.symbol),
        "cl_ord_id": order.client_order_id,
        "deadline": _text(deadline),
        # Told in the quote asset whatever it is paid in: paid in it, the books are exact.
        "fee_preference": "quote",
        # Our own bots on both sides: the resting order goes, nobody trades with himself.
        "stp_type": "cancel_oldest",
    }
    if order.limit_price is not None:
        parameters["limit_price"] = _raw(order.limit_price)
        parameters["time_in_force"] = order.time_in_force.value
    if order.stop_price is not None:
        parameters["triggers"] = {"reference": "last", "price": _raw(order.stop_price)}
    if order.kind is OrderKind.POST_ONLY:
        parameters["post_only"] = True
        parameters["time_in_force"] = TimeInForce.GTC.value
    return msgspec.json.encode({"method": "add_order", "params": parameters})


def for_rest(order: Order, pair: str, deadline: datetime) -> bytes:
    """The nonce is drawn when it is sent, as the token is added: the deadline is the fence."""
    limit = f"{order.limit_price:f}"
    parameters = {
        "pair": pair,
        "type": order.side.value,
        "ordertype": TYPES[order.kind],
        "volume": f"{order.quantity:f}",
        "price": limit if order.stop_price is None else f"{order.stop_price:f}",
        **({} if order.stop_price is None else {"price2": limit}),
        "timeinforce": order.time_in_force.value.upper(),
        "cl_ord_id": order.client_order_id,
        "deadline": _text(deadline),
        "oflags": "fciq",
        "stptype": "cancel-oldest",
    }
    return REST_ROAD + urlencode(parameters).encode("ascii")


def _raw(value: Decimal) -> msgspec.Raw:
    """A JSON number with the very digits; no float could keep them."""
    return msgspec.Raw(f"{value:f}".encode())


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def cut(at: datetime) -> datetime:
    """To the millisecond that is said, so that what is recorded is what was said."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def client_id_in(payload: bytes) -> str:
    if payload.startswith(REST_ROAD):
        return dict(parse_qsl(payload.decode("ascii")))["cl_ord_id"]
    return str(msgspec.json.decode(payload)["params"]["cl_ord_id"])
