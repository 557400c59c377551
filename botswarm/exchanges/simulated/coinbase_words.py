"""Orders, fills and balances in the words of Coinbase Advanced, and the orders it is asked for."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from botswarm.domain.amount import plain
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.accounts import Account
from botswarm.exchanges.simulated.exchange import Exchange, OwnTrade
from botswarm.exchanges.simulated.feeds import Wrong, made_up_id, moment
from botswarm.exchanges.simulated.orders import (
    ZERO,
    Force,
    NewOrder,
    OrderType,
    Status,
    VenueOrder,
)
from botswarm.exchanges.simulated.refusal import Refusal

ACCOUNT: Final = "coinbase"
VENUE: Final = "coinbase"
PENDING_MS: Final = 100
"""So long an order that rests is not told of among the open ones."""
Row = dict[str, Any]

_PREFIX: Final = 0xC01BA5E0 << 96 | 4 << 76 | 8 << 60
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_ENDED: Final[Mapping[Status, str]] = {
    Status.FILLED: "FILLED",
    Status.CANCELED: "CANCELLED",
    # What a limited time in force leaves over was cancelled, in its words.
    Status.EXPIRED: "CANCELLED",
    Status.EXPIRED_IN_MATCH: "CANCELLED",
}
_KINDS: Final[Mapping[str, tuple[OrderType, Force]]] = {
    "market_market_ioc": (OrderType.MARKET, Force.GTC),
    "limit_limit_gtc": (OrderType.LIMIT, Force.GTC),
    "sor_limit_ioc": (OrderType.LIMIT, Force.IOC),
    "limit_limit_fok": (OrderType.LIMIT, Force.FOK),
    "stop_limit_stop_limit_gtc": (OrderType.STOP_LOSS_LIMIT, Force.GTC),
}
_FORCES: Final[Mapping[Force, str]] = {
    Force.GTC: "GOOD_UNTIL_CANCELLED",
    Force.IOC: "IMMEDIATE_OR_CANCEL",
    Force.FOK: "FILL_OR_KILL",
}
REASONS: Final[Mapping[str, str]] = {
    "Filter failure: PRICE_FILTER": "INVALID_PRICE_PRECISION",
    "Filter failure: LOT_SIZE": "INVALID_SIZE_PRECISION",
    "Filter failure: MARKET_LOT_SIZE": "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE",
    "Filter failure: NOTIONAL": "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL",
    "Filter failure: MAX_NUM_ORDERS": "COMMANDER_REJECTED_NEW_ORDER",
    "Account has insufficient balance for requested action.": "INSUFFICIENT_FUND",
    "Order would immediately match and take.": "INVALID_LIMIT_PRICE_POST_ONLY",
    "Invalid symbol.": "INVALID_PRODUCT_ID",
}


def order_id(number: int) -> str:
    return str(UUID(int=_PREFIX | number))


def number_of(order_id: str) -> int | None:
    try:
        number = UUID(order_id).int
    except ValueError:
        return None
    return number & (1 << 60) - 1 if number >> 60 == _PREFIX >> 60 else None


def trade_name(symbol: str, trade_id: int, order_id: int) -> str:
    """Trades are named here, and each side of one by itself."""
    return made_up_id("trade", symbol, trade_id, order_id)


class Words:
    def __init__(self, exchange: Exchange, products: Mapping[str, str]) -> None:
        """``products`` are the venue's names of our symbols."""
        self.exchange = exchange
        self.products = products

    # --- orders ---------------------------------------------------------------------------

    def status(self, order: VenueOrder, now_ms: int) -> str:
        if not order.status.is_open:
            return _ENDED[order.status]
        return "PENDING" if now_ms < order.placed_ms + PENDING_MS else "OPEN"

    def order(self, order: VenueOrder, now_ms: int) -> Row:
        fees = sum((trade.commission for trade in self.trades(order)), ZERO)
        average = order.filled_quote / order.filled if order.filled else ZERO
        total = order.filled_quote + (fees if order.side is Side.BUY else -fees)
        return {
            "order_id": order_id(order.id),
            "product_id": self.products[order.symbol],
            "user_id": made_up_id("user", ACCOUNT),
            "order_configuration": self._configuration(order),
            "side": order.side.upper(),
            "client_order_id": order.client_order_id,
            "status": self.status(order, now_ms),
            "time_in_force": _FORCES[self._force(order)],
            "created_time": moment(order.placed_ms),
            "completion_percentage": plain(
                (order.filled / order.quantity * 100).quantize(Decimal("0.01"))
                if order.quantity
                else ZERO
            ),
            "filled_size": plain(order.filled),
            "average_filled_price": plain(average),
            "fee": "",
            "number_of_fills": str(len(order.trade_ids)),
            "filled_value": plain(order.filled_quote),
            "pending_cancel": False,
            "size_in_quote": False,
            "total_fees": plain(fees),
            "size_inclusive_of_fees": False,
            "total_value_after_fees": plain(total),
            "trigger_status": self._trigger(order),
            "order_type": self._type(order),
            "reject_reason": "REJECT_REASON_UNSPECIFIED",
            "settled": order.status is Status.FILLED,
            "product_type": "SPOT",
            "reject_message": "",
            "cancel_message": "User requested cancel" if order.status is Status.CANCELED else "",
            "order_placement_source": "RETAIL_ADVANCED",
            "outstanding_hold_amount": plain(order.locked),
            "last_fill_time": moment(order.updated_ms) if order.trade_ids else None,
        }

    def told(self, order: VenueOrder, status: str, filled: Decimal, value: Decimal) -> Row:
        """As the user channel tells it, with what it had filled by then."""
        return {
            "avg_price": plain(value / filled if filled else ZERO),
            "cancel_reason": "User requested cancel" if status == "CANCELLED" else "",
            "client_order_id": order.client_order_id,
            "completion_percentage": "",
            "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE",
            "cumulative_quantity": plain(filled),
            "filled_value": plain(value),
            "leaves_quantity": plain(order.quantity - filled if status == "OPEN" else ZERO),
            "limit_price": plain(order.price),
            "number_of_fills": str(len(order.trade_ids)),
            "order_id": order_id(order.id),
            "order_side": order.side.upper(),
            "order_type": self._type(order).replace("_", " ").title(),
            "outstanding_hold_amount": plain(order.locked),
            "post_only": "true" if order.type is OrderType.LIMIT_MAKER else "false",
            "product_id": self.products[order.symbol],
            "product_type": "SPOT",
            "reject_reason": "",
            "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE",
            "status": status,
            "stop_price": plain(order.stop_price) if order.stop_price else "",
            "time_in_force": _FORCES[self._force(order)],
            "total_fees": plain(sum((each.commission for each in self.trades(order)), ZERO)),
            "total_value_after_fees": plain(value),
            "trigger_status": self._trigger(order),
            "creation_time": moment(order.placed_ms),
        }

    def _force(self, order: VenueOrder) -> Force:
        return Force.IOC if order.type is OrderType.MARKET else order.force

    def _type(self, order: VenueOrder) -> str:
        if order.type is OrderType.MARKET:
            return "MARKET"
        return "STOP_LIMIT" if order.type.waits_for_a_price else "LIMIT"

    def _trigger(self, order: VenueOrder) -> str:
        if not order.type.waits_for_a_price:
            return "INVALID_ORDER_TYPE"
        return "STOP_TRIGGERED" if order.is_working else "STOP_PENDING"

    def _configuration(self, order: VenueOrder) -> Row:
        size = {"base_size": plain(order.quantity)}
        limit = size | {"limit_price": plain(order.price)}
        if order.type is OrderType.MARKET:
            return {"market_market_ioc": size}
        if order.type.waits_for_a_price:
            way = "UP" if order.side is Side.BUY else "DOWN"
            stop = {"stop_price": plain(order.stop_price)}
            direction = {"stop_direction": f"STOP_DIRECTION_STOP_{way}"}
            return {"stop_limit_stop_limit_gtc": limit | stop | direction}
        if order.force is Force.GTC:
            post_only = {"post_only": order.type is OrderType.LIMIT_MAKER}
            return {"limit_limit_gtc": limit | post_only}
        return {"sor_limit_ioc" if order.force is Force.IOC else "limit_limit_fok": limit}

    # --- fills ----------------------------------------------------------------------------

    def trades(self, order: VenueOrder) -> list[OwnTrade]:
        trades = self.exchange.markets[order.symbol].trades.get(order.account, [])
        if not order.trade_ids:
            return []
        first = bisect_left(trades, order.trade_ids[0], key=lambda each: each.trade_id)
        last = order.trade_ids[-1]
        found = (each for each in trades[first:] if each.order_id == order.id)
        return [each for each in found if each.trade_id <= last]

    def fill(self, trade: OwnTrade) -> Row:
        return {
            "entry_id": made_up_id("entry", trade.symbol, trade.trade_id, trade.order_id),
            "trade_id": trade_name(trade.symbol, trade.trade_id, trade.order_id),
            "order_id": order_id(trade.order_id),
            "trade_time": moment(trade.at_ms, 9),
            "trade_type": "FILL",
            "price": plain(trade.price),
            "size": plain(trade.quantity),
            "commission": plain(trade.commission),
            "product_id": self.products[trade.symbol],
            "sequence_timestamp": moment(trade.at_ms),
            "liquidity_indicator": "MAKER" if trade.is_maker else "TAKER",
            "size_in_quote": False,
            "user_id": made_up_id("user", ACCOUNT),
            "side": trade.side.upper(),
            "retail_portfolio_id": made_up_id("portfolio", ACCOUNT),
        }


def wallet(account: Account, asset: str) -> Row:
    def amount(value: Decimal) -> Row:
        return {"value": plain(value), "currency": asset}

    return {
        "uuid": made_up_id("wallet", account.name, asset),
        "name": f"{asset} Wallet",
        "currency": asset,
        "available_balance": amount(account.free[asset]),
        "default": True,
        "active": True,
        "created_at": "2023-01-04T06:20:06.456Z",
        "updated_at": "2023-01-04T06:20:07.181Z",
        "deleted_at": None,
        "type": "ACCOUNT_TYPE_CRYPTO",
        "ready": True,
        "hold": amount(account.locked[asset]),
        "retail_portfolio_id": made_up_id("portfolio", account.name),
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def failure(why: Refusal, body: Mapping[str, Any]) -> Row:
    """Each reason has its field, and the others say that they do not know it."""
    reason = REASONS.get(why.text, why.text if why.text.isupper() else "INVALID_REQUEST")
    if why.text == "Stop price would trigger immediately.":
        way = "BELOW" if body.get("side") == "BUY" else "ABOVE"
        reason = f"PREVIEW_STOP_PRICE_{way}_LAST_TRADE_PRICE"
    error = {"error": reason, "message": why.text, "error_details": ""}
    if reason.startswith("PREVIEW_"):
        unknown = {"error": "UNKNOWN_FAILURE_REASON"}
        error |= unknown | {"preview_failure_reason": reason}
    else:
        preview = {"preview_failure_reason": f"PREVIEW_{reason}"}
        error |= preview | {"new_order_failure_reason": reason}
    return {
        "success": False,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": "",
        "error_response": error,
        "order_configuration": body.get("order_configuration"),
    }


def read_order(said: Mapping[str, Any], symbols: Mapping[str, str], taker: Decimal) -> NewOrder:
    """Raises Wrong for what is no order, Refusal for one the venue does not have."""
    client_id, product = said.get("client_order_id"), said.get("product_id")
    if not isinstance(client_id, str) or not 1 <= len(client_id) <= 128:
        raise Wrong("client_order_id is required")
    if said.get("side") not in ("BUY", "SELL"):
        raise Wrong("side is required")
    wanted = said.get("order_configuration")
    if not isinstance(wanted, dict) or len(wanted) != 1:
        raise Wrong("order_configuration is required")
    ((name, values),) = wanted.items()
    if name not in _KINDS or not isinstance(values, dict):
        raise Refusal(-1116, "UNSUPPORTED_ORDER_CONFIGURATION")
    if product not in symbols:
        raise Refusal(-1121, "Invalid symbol.")
    kind, force = _KINDS[name]
    if name == "limit_limit_gtc" and values.get("post_only") is True:
        kind = OrderType.LIMIT_MAKER
    worth = _number(values, "quote_size") if kind is OrderType.MARKET else None
    if worth is not None:
        # The fee is within what it may spend.
        worth = (worth / (1 + taker)).quantize(Decimal("0.00000001"), "ROUND_DOWN")
    return NewOrder(
        account=ACCOUNT,
        symbol=symbols[str(product)],
        side=Side(str(said["side"]).lower()),
        type=kind,
        client_order_id=client_id,
        quantity=None if worth is not None else _needed(values, "base_size"),
        quote_quantity=worth,
        price=_needed(values, "limit_price") if kind.is_priced else None,
        stop_price=_needed(values, "stop_price") if kind.waits_for_a_price else None,
        force=force,
        fee_in_quote=True,
    )


def _number(values: Mapping[str, Any], name: str) -> Decimal | None:
    text = values.get(name)
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise Wrong(f"{name} is no number")
    return Decimal(text)


def _needed(values: Mapping[str, Any], name: str) -> Decimal:
    value = _number(values, name)
    if value is None:
        raise Wrong(f"{name} is required")
    return value
