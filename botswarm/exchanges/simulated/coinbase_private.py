"""Coinbase Advanced's private REST: orders, fills and balances of the account whose token it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from botswarm.domain.amount import plain
from botswarm.exchanges.simulated.coinbase_guard import Guard
from botswarm.exchanges.simulated.coinbase_rest import ROOT
from botswarm.exchanges.simulated.coinbase_words import (
    ACCOUNT,
    VENUE,
    Row,
    Words,
    failure,
    number_of,
    order_id,
    read_order,
    wallet,
)
from botswarm.exchanges.simulated.feeds import Wrong, made_up_id
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.journal import JournalFailed
from botswarm.exchanges.simulated.mishaps import Delivery, carry, garbage
from botswarm.exchanges.simulated.orders import VenueOrder
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.service import Service

_log = logging.getLogger(__name__)

PAGE_MAX: Final = 1000
PAGE_USUAL: Final = 100
CANCELS_MAX: Final = 100
Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Door:
    """One thing that can be asked for, and under which name mishaps are ordered for it."""

    run: Callable[[Values, Any], object]
    action: str = "query"


class PrivateRest:
    def __init__(
        self, service: Service, guard: Guard, words: Words, symbols: Mapping[str, str]
    ) -> None:
        self.service = service
        self.exchange = service.exchange
        self.guard = guard
        self.words = words
        self.symbols = symbols
        self._doors = {
            ("POST", "/orders"): Door(self._place, "place"),
            ("POST", "/orders/batch_cancel"): Door(self._cancel, "cancel"),
            ("GET", "/orders/historical/batch"): Door(self._orders),
            ("GET", "/orders/historical/fills"): Door(self._fills),
            ("GET", "/accounts"): Door(self._accounts),
            ("GET", "/key_permissions"): Door(self._permissions),
            ("GET", "/transaction_summary"): Door(self._summary),
        }

    def knows(self, request: Request) -> bool:
        return self._door(request) is not None

    def _door(self, request: Request) -> Door | None:
        path = request.path.removeprefix(ROOT)
        found = self._doors.get((request.method, path))
        name = path.removeprefix("/orders/historical/")
        if found is None and name != path and request.method == "GET" and "/" not in name:
            return Door(lambda values, body: {"order": self._order_row(self._named(name))})
        return found

    async def answer(self, request: Request) -> tuple[Response, Delivery]:
        door = self._door(request)
        assert door is not None
        try:
            self._admit(request)
            self.guard.count(self.service.now_ms())
        except Wrong as why:
            return _refused(why), "whole"

        def run() -> Response:
            return self._answer(door, request)

        carried = await carry(self.service.faults, VENUE, door.action, run, run)
        if carried.instead == "timeout":
            return _error("DEADLINE_EXCEEDED", "upstream request timeout", 504), "whole"
        if carried.instead == "error":
            return _error("INTERNAL", "internal server error", 503), "whole"
        if carried.delivery == "garbage":
            return garbage(), "whole"
        return carried.result or Response.json({}), carried.delivery

    def _admit(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.guard.admit(token, self.service.now_ms(), method=request.method, path=request.path)

    def _answer(self, door: Door, request: Request) -> Response:
        try:
            # Once more: what waited on the way may be too old now.
            self._admit(request)
            values: dict[str, list[str]] = {}
            for name, value in split_parameters(request.query):
                values.setdefault(name, []).append(value)
            return Response.json(door.run(values, _body(request)))
        except Wrong as why:
            return _refused(why)
        except JournalFailed:
            raise  # the answer must not leave: nothing else remembers what was done
        except Exception:
            _log.exception("the exchange failed at %s", request.path)
            return _error("INTERNAL", "internal server error", 500)

    # --- orders ---------------------------------------------------------------------------

    def _place(self, values: Values, body: Any) -> Row:
        account = self.exchange.accounts[ACCOUNT]
        try:
            wish = read_order(body, self.symbols, account.fees.taker)
            known = self._by_client_id(wish.client_order_id)
            order = known or self.service.place(wish, VENUE)
        except Refusal as why:
            return failure(why, body)
        return {
            "success": True,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "order_id": order_id(order.id),
            "success_response": {
                "order_id": order_id(order.id),
                "product_id": self.words.products[order.symbol],
                "side": order.side.upper(),
                "client_order_id": order.client_order_id,
                "attached_order_id": "",
            },
            "order_configuration": body["order_configuration"],
        }

    def _by_client_id(self, client_id: str) -> VenueOrder | None:
        """An id that was ever taken gives the order it was taken for, whatever became of that."""
        for symbol in self.words.products:
            found = self.exchange.find(ACCOUNT, symbol, client_id=client_id)
            if found is not None:
                return found
        return None

    def _cancel(self, values: Values, body: Any) -> Row:
        ids = body.get("order_ids")
        if not isinstance(ids, list) or not 1 <= len(ids) <= CANCELS_MAX:
            raise Wrong(f"between 1 and {CANCELS_MAX} order_ids are required")
        return {"results": [self._cancel_one(str(each)) for each in ids]}

    def _cancel_one(self, name: str) -> Row:
        order = self._find(name)
        reason = "UNKNOWN_CANCEL_FAILURE_REASON"
        if order is None:
            reason = "UNKNOWN_CANCEL_ORDER"
        elif not order.status.is_open:
            reason = "INVALID_CANCEL_REQUEST"
        else:
            self.service.cancel(order)
            return {"success": True, "failure_reason": reason, "order_id": name}
        return {"success": False, "failure_reason": reason, "order_id": name}

    def _find(self, name: str) -> VenueOrder | None:
        number = number_of(name)
        for symbol in self.words.products:
            found = self.exchange.find(ACCOUNT, symbol, order_id=number)
            if number is not None and found is not None:
                return found
        return None

    def _named(self, name: str) -> VenueOrder:
        order = self._find(name)
        if order is None or not self.service.is_visible(order):
            raise Wrong("order with this orderID was not found", 404)
        return order

    def _order_row(self, order: VenueOrder) -> Row:
        return self.words.order(order, self.service.now_ms())

    def _orders(self, values: Values, body: Any) -> Row:
        """Newest first, as everything here."""
        states, since = set(values.get("order_status", ())), _moment_ms(values, "start_date")
        until, now_ms = _moment_ms(values, "end_date"), self.service.now_ms()
        if "OPEN" in states and len(states) > 1:
            raise Wrong("cannot pair open orders with other order types")
        found = [
            order
            for symbol in self._symbols(values)
            for order in self.exchange.markets[symbol].orders.values()
            if order.account == ACCOUNT
            and self.service.is_visible(order)
            and (since is None or order.placed_ms >= since)
            and (until is None or order.placed_ms < until)
            and (not states or self.words.status(order, now_ms) in states)
        ]
        found.sort(key=lambda order: -order.id)
        rows, cursor = _page(found, values)
        told = [self._order_row(order) for order in rows]
        return {"orders": told, "sequence": "0", "has_next": bool(cursor), "cursor": cursor}

    def _fills(self, values: Values, body: Any) -> Row:
        wanted = {number_of(each) for each in _all(values, "order_ids", "order_id")}
        since = _moment_ms(values, "start_sequence_timestamp")
        until = _moment_ms(values, "end_sequence_timestamp")
        found = [
            trade
            for symbol in self._symbols(values)
            for trade in self.exchange.markets[symbol].trades.get(ACCOUNT, [])
            if self.service.is_visible(self.exchange.markets[symbol].orders.get(trade.order_id))
            and (not wanted or trade.order_id in wanted)
            and (since is None or trade.at_ms >= since)
            and (until is None or trade.at_ms < until)
        ]
        found.sort(key=lambda trade: (-trade.at_ms, -trade.trade_id))
        rows, cursor = _page(found, values)
        return {"fills": [self.words.fill(trade) for trade in rows], "cursor": cursor}

    def _symbols(self, values: Values) -> list[str]:
        names = _all(values, "product_ids", "product_id")
        unknown = [name for name in names if name not in self.symbols]
        if unknown:
            raise Wrong(f"invalid product_id {unknown[0]}")
        return [self.symbols[name] for name in names] if names else list(self.words.products)

    # --- account --------------------------------------------------------------------------

    def _accounts(self, values: Values, body: Any) -> Row:
        account = self.exchange.accounts[ACCOUNT]
        rows, cursor = _page(account.assets, values)
        told = [wallet(account, asset) for asset in rows]
        return {"accounts": told, "has_next": bool(cursor), "cursor": cursor, "size": len(told)}

    def _permissions(self, values: Values, body: Any) -> Row:
        return {
            "can_view": True,
            "can_trade": True,
            "can_transfer": False,
            "portfolio_uuid": made_up_id("portfolio", ACCOUNT),
            "portfolio_type": "DEFAULT",
        }

    def _summary(self, values: Values, body: Any) -> Row:
        """Asked for by client libraries before they trade anything."""
        fees = self.exchange.accounts[ACCOUNT].fees
        tier = {
            "pricing_tier": "Advanced 1",
            "taker_fee_rate": plain(fees.taker),
            "maker_fee_rate": plain(fees.maker),
        }
        return {"total_volume": 0, "total_fees": 0, "fee_tier": tier}


def _body(request: Request) -> Any:
    if request.method == "GET":
        return None
    try:
        said = json.loads(request.body or "{}")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Wrong("the body is no JSON object")
    return said


def _all(values: Values, *names: str) -> list[str]:
    return [each for name in names for each in values.get(name, ())]


def _page(found: Sequence[Any], values: Values) -> tuple[Sequence[Any], str]:
    """With what to ask for the next one; nothing where there is none."""
    limit, cursor = values.get("limit", [""])[0], values.get("cursor", [""])[0]
    size = min(int(limit), PAGE_MAX) if limit.isdecimal() and int(limit) else PAGE_USUAL
    start = int(cursor) if cursor.isdecimal() else 0
    end = start + size
    return found[start:end], str(end) if end < len(found) else ""


def _moment_ms(values: Values, name: str) -> int | None:
    text = values.get(name, [""])[0]
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise Wrong(f"{name} argument is invalid") from None


def _refused(why: Wrong) -> Response:
    if why.status == 401:
        return Response(401, b"Unauthorized\n", {}, "text/plain; charset=utf-8")
    word = {404: "NOT_FOUND", 429: "rate_limit_exceeded"}.get(why.status, "INVALID_ARGUMENT")
    return _error(word, why.words, why.status)


def _error(word: str, words: str, status: int) -> Response:
    told = {"error": word, "error_details": words, "message": words}
    return Response.json(told, status=status)
