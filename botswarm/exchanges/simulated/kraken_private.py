"""Kraken's private side over REST: signed requests with a nonce, HTTP 200 whatever is said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Final

from botswarm.exchanges.simulated.feeds import Wrong
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.journal import JournalFailed
from botswarm.exchanges.simulated.kraken_desk import Desk, Said, Wish
from botswarm.exchanges.simulated.kraken_guard import Guard
from botswarm.exchanges.simulated.kraken_rest import envelope
from botswarm.exchanges.simulated.kraken_words import name
from botswarm.exchanges.simulated.mishaps import Delivery, carry, garbage
from botswarm.exchanges.simulated.service import Service

_log = logging.getLogger(__name__)

VENUE: Final = "kraken"
ROOT: Final = "/0/private/"
ACTIONS: Final[Mapping[str, str]] = {
    "AddOrder": "place",
    "add_order": "place",
    "CancelOrder": "cancel",
    "cancel_order": "cancel",
    "CancelAll": "cancel",
    "cancel_all": "cancel",
    "CancelAllOrdersAfter": "cancel",
    "cancel_all_orders_after": "cancel",
}
"""What faults are aimed at; everything else is a query."""
UNCOUNTED: Final = ("AddOrder", "CancelOrder", "CancelAll")
DEARER: Final = ("ClosedOrders", "TradesHistory", "QueryTrades")
PERMISSIONS: Final = (
    *("query-funds", "query-open-trades", "query-closed-trades"),
    *("modify-trades", "close-trades", "create-ws-token"),
)
UNKNOWN: Final = "EService:Timeout"
FAILED: Final = "EGeneral:Internal error"
Values = Mapping[str, str]


class PrivateRest:
    def __init__(
        self, service: Service, guard: Guard, desk: Desk, symbols: Mapping[str, str]
    ) -> None:
        """``symbols`` are the exchange's by the WebSocket's names of pairs."""
        self.service = service
        self.guard = guard
        self.desk = desk
        self._symbols = {
            **symbols,
            **{desk.words.altname(symbol): symbol for symbol in symbols.values()},
        }

    async def answer(self, request: Request) -> tuple[Response, Delivery]:
        what = request.path.removeprefix(ROOT)
        question = self._questions().get(what)
        is_order = what == "AddOrder"
        if (question is None and not is_order) or request.method != "POST":
            return envelope(error="EGeneral:Unknown method"), "whole"
        try:
            values = _values(request)
            self.guard.admit(request.path, request.headers, request.body, values)
            if what not in UNCOUNTED:
                self.guard.count_call(2 if what in DEARER else 1, self.service.now_ms())
            # What is wrong by itself is found on arrival, before anything can be held up.
            run = self._prepared(values) if question is None else partial(question, values)
        except Wrong as why:
            return envelope(error=why.words), "whole"
        return await self._carried(what, run)

    async def _carried(self, what: str, run: Callable[[], object]) -> tuple[Response, Delivery]:
        def answered() -> Response:
            try:
                return envelope(run())
            except Wrong as why:
                return envelope(error=why.words)
            except JournalFailed:
                raise  # the answer must not leave: nothing else remembers what was done
            except Exception:
                _log.exception("the exchange failed at Kraken's %s", what)
                return envelope(error=FAILED)

        action = ACTIONS.get(what, "query")
        carried = await carry(self.service.faults, VENUE, action, answered, answered)
        if carried.delivery == "garbage":
            return garbage(), "whole"
        if carried.instead == "timeout":
            return envelope(error=UNKNOWN), "whole"
        if carried.instead == "error":
            return Response(502, b"<html>Bad gateway</html>", {}, "text/html"), "whole"
        return carried.result or envelope(error=FAILED), carried.delivery

    def _prepared(self, values: Values) -> Callable[[], object]:
        now_ms = self.service.now_ms()
        wish = self._said(values).wish(now_ms)
        wish.check(now_ms)
        return lambda: self._add(wish)

    def _add(self, wish: Wish) -> object:
        order = self.desk.place(wish)
        if order is None:
            return {"descr": {"order": "validated"}}
        return {
            "descr": {"order": self.desk.words.described(order)},
            "txid": [name("O", order.id)],
            "cl_ord_id": order.client_order_id,
        }

    def _said(self, values: Values) -> Said:
        pair = values.get("pair", "")
        symbol = self._symbols.get(pair)
        if symbol is None:
            raise Wrong("EQuery:Unknown asset pair")
        kind = values.get("ordertype", "")
        is_stop, flags = kind.startswith("stop-loss"), values.get("oflags", "").split(",")
        return Said(
            symbol=symbol,
            side=values.get("type"),
            order_type=kind,
            quantity=values.get("volume"),
            limit_price=values.get("price2" if is_stop else "price"),
            trigger_price=values.get("price") if is_stop else None,
            time_in_force=values.get("timeinforce"),
            self_trade=values.get("stptype"),
            client_id=values.get("cl_ord_id"),
            deadline=values.get("deadline"),
            is_post_only="post" in flags,
            is_for_trial=_is_true(values, "validate"),
        )

    def _cancel(self, values: Values) -> object:
        if "cl_ord_id" not in values and "txid" not in values:
            raise Wrong("EGeneral:Invalid arguments")
        client_id, txid = values.get("cl_ord_id"), values.get("txid")
        self.desk.cancel(self.desk.named(txid=txid, client_id=client_id))
        return {"count": 1}

    def _key_info(self, values: Values) -> object:
        return {
            "apiKeyName": "simulated",
            "apiKey": self.guard.key,
            "nonce": str(self.guard.last_nonce),
            "nonceWindow": 0,
            "permissions": list(PERMISSIONS),
            "iban": "AA00 N84G 0000 0000",
            "validUntil": "0",
            "queryFrom": "0",
            "queryTo": "0",
            "createdTime": "1700000000",
            "modifiedTime": "1700000000",
            "ipAllowlist": [],
            "lastUsed": None,
        }

    def _questions(self) -> Mapping[str, Callable[[Values], object]]:
        return {
            "CancelOrder": self._cancel,
            "CancelAll": lambda values: {"count": self.desk.cancel_all()},
            "CancelAllOrdersAfter": lambda values: self.desk.hold_dead_man(values.get("timeout")),
            "OpenOrders": lambda values: {"open": self.desk.told_open(values.get("cl_ord_id"))},
            "ClosedOrders": lambda values: self.desk.told_closed(
                values.get("cl_ord_id"), _whole(values, "ofs")
            ),
            "QueryOrders": lambda values: self.desk.told_orders(
                _names(values), with_trades=_is_true(values, "trades")
            ),
            "TradesHistory": lambda values: self.desk.told_history(
                offset=_whole(values, "ofs"),
                start_s=Decimal(_whole(values, "start")),
                is_consolidated=values.get("consolidate_taker", "true").lower() != "false",
            ),
            "QueryTrades": lambda values: self.desk.told_trades(_names(values)),
            "BalanceEx": lambda values: self.desk.balances(),
            "Balance": lambda values: {
                asset: row["balance"] for asset, row in self.desk.balances().items()
            },
            "GetWebSocketsToken": lambda values: {
                "token": self.guard.token(self.service.now_ms()),
                "expires": 900,
            },
            "GetApiKeyInfo": self._key_info,
        }


def _values(request: Request) -> dict[str, str]:
    if "json" not in request.headers.get("content-type", ""):
        return dict(split_parameters(request.body))
    try:
        told = json.loads(request.body, parse_float=str)
    except ValueError:
        raise Wrong("EGeneral:Invalid arguments") from None
    if not isinstance(told, dict):
        raise Wrong("EGeneral:Invalid arguments")
    return {field: str(value) for field, value in told.items()}


def _names(values: Values) -> list[str]:
    return [each for each in values.get("txid", "").split(",") if each]


def _whole(values: Values, field: str) -> int:
    text = values.get(field, "0")
    if not (text.isascii() and text.isdecimal()):
        raise Wrong(f"EGeneral:Invalid arguments:{field}")
    return int(text)


def _is_true(values: Values, field: str) -> bool:
    return values.get(field, "").lower() == "true"
