"""What a request asks for: its parameters read by name, checked, and none left over unread."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from botswarm.domain.order import Side
from botswarm.exchanges.simulated import refusal
from botswarm.exchanges.simulated.orders import Force, NewOrder, OrderType, SelfTrade
from botswarm.exchanges.simulated.refusal import Refusal

_DECIMAL: Final = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_INTEGER: Final = "^[0-9]{1,20}$"
_CLIENT_ID: Final = "^[a-zA-Z0-9-_]{1,36}$"
_ABOUT_REQUEST: Final = ("timestamp", "recvWindow", "signature", "apiKey")
_UNDERSTOOD_TYPES: Final = ("TAKE_PROFIT", "TAKE_PROFIT_LIMIT")


class Parameters:
    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.values: dict[str, str] = {}
        for name, value in pairs:
            if name in self.values:
                raise Refusal(-1101, "Duplicate values for a parameter detected.")
            self.values[name] = value
        self._read: set[str] = set(_ABOUT_REQUEST)

    def text(self, name: str) -> str | None:
        self._read.add(name)
        value = self.values.get(name)
        if value == "":
            raise Refusal(-1105, f"Parameter '{name}' was empty.")
        return value

    def required(self, name: str) -> str:
        value = self.values.get(name)
        self._read.add(name)
        if not value:
            raise refusal.missing(name)
        return value

    def decimal(self, name: str) -> Decimal | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(_DECIMAL, value):
            raise refusal.illegal(name, _DECIMAL)
        return Decimal(value)

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(_INTEGER, value):
            raise refusal.illegal(name, _INTEGER)
        return int(value)

    def limit(self, default: int, most: int) -> int:
        value = self.integer("limit")
        if value is None:
            return default
        if not value:
            raise Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, most)

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not re.fullmatch(_CLIENT_ID, value):
            raise refusal.illegal(name, _CLIENT_ID)
        return value

    def check_all_read(self) -> None:
        if unread := self.values.keys() - self._read:
            sent = len(self.values)
            raise Refusal(
                -1104,
                f"Not all sent parameters were read; read '{sent - len(unread)}' parameter(s) "
                f"but was sent '{sent}'.",
            )


def read_new_order(parameters: Parameters, account: str) -> NewOrder:
    symbol = parameters.required("symbol")
    side = _side(parameters.required("side"))
    kind = _type(parameters.required("type"))
    force = _force(parameters, kind)
    quantity, quote_quantity = _quantities(parameters, kind)
    price = _price(parameters, "price", is_needed=kind.is_priced)
    stop_price = _price(parameters, "stopPrice", is_needed=kind.waits_for_a_price)
    client_id = parameters.client_id("newClientOrderId") or generated_id()
    return NewOrder(
        account=account,
        symbol=symbol,
        side=side,
        type=kind,
        client_order_id=client_id,
        quantity=quantity,
        quote_quantity=quote_quantity,
        price=price,
        stop_price=stop_price,
        force=force,
        self_trade=_self_trade(parameters),
    )


def generated_id() -> str:
    """What the exchange calls orders and cancels whose sender did not name them."""
    return secrets.token_hex(11)


def _side(text: str) -> Side:
    if text not in ("BUY", "SELL"):
        raise Refusal(-1117, "Invalid side.")
    return Side(text.lower())


def _type(text: str) -> OrderType:
    if text in _UNDERSTOOD_TYPES:
        raise Refusal(-1116, "Invalid orderType: the simulated exchange has no such orders.")
    if text not in OrderType.__members__:
        raise Refusal(-1116, "Invalid orderType.")
    return OrderType(text)


def _force(parameters: Parameters, kind: OrderType) -> Force:
    text = parameters.text("timeInForce")
    if kind in (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT):
        if text is None:
            raise refusal.missing("timeInForce")
        if text not in Force.__members__:
            raise Refusal(-1115, "Invalid timeInForce.")
        return Force(text)
    if text is not None:
        raise refusal.not_required("timeInForce")
    return Force.GTC


def _price(parameters: Parameters, name: str, *, is_needed: bool) -> Decimal | None:
    price = parameters.decimal(name)
    if price is not None and not is_needed:
        raise refusal.not_required(name)
    if price is None and is_needed:
        raise refusal.missing(name)
    return price


def _quantities(parameters: Parameters, kind: OrderType) -> tuple[Decimal | None, Decimal | None]:
    quantity = parameters.decimal("quantity")
    quote_quantity = parameters.decimal("quoteOrderQty")
    if kind is not OrderType.MARKET:
        if quote_quantity is not None:
            raise refusal.not_required("quoteOrderQty")
        if quantity is None:
            raise refusal.missing("quantity")
    elif (quantity is None) is (quote_quantity is None):
        if quantity is None:
            raise refusal.missing("quantity")
        raise Refusal(-1128, "Combination of optional parameters invalid.")
    return quantity, quote_quantity


def _self_trade(parameters: Parameters) -> SelfTrade:
    text = parameters.text("selfTradePreventionMode")
    if text is None:
        return SelfTrade.EXPIRE_MAKER
    if text not in SelfTrade.__members__:
        raise Refusal(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
    return SelfTrade(text)
