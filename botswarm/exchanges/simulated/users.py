"""User data: what happens to a customer's orders and balances, told on the WebSocket API."""

from __future__ import annotations

import json
from collections.abc import Iterable

from botswarm.exchanges.simulated import wire
from botswarm.exchanges.simulated.exchange import (
    Ended,
    Exchange,
    Fact,
    Opened,
    Traded,
    Triggered,
)
from botswarm.exchanges.simulated.faults import Faults
from botswarm.exchanges.simulated.options import ACCOUNT
from botswarm.exchanges.simulated.orders import VenueOrder
from botswarm.exchanges.simulated.streams import VENUE, Line
from botswarm.exchanges.simulated.websocket import WebSocket

SUBSCRIPTIONS_MAX = 1_000


class UserLine(Line):
    """A WebSocket API connection; it may listen to accounts as well as ask."""

    def __init__(self, socket: WebSocket, now_s: float) -> None:
        super().__init__(socket, now_s)
        self.subscriptions: dict[int, str] = {}
        self.last_subscription = -1

    def subscribe(self, account: str) -> int:
        self.last_subscription += 1
        self.subscriptions[self.last_subscription] = account
        return self.last_subscription


class UserData:
    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self.exchange = exchange
        self.faults = faults
        self.lines: set[UserLine] = set()
        self._executions = 0

    def publish(self, facts: Iterable[Fact], now_ms: int) -> None:
        touched: dict[str, set[str]] = {}
        for fact in facts:
            if isinstance(fact, Traded):
                for share in fact.shares:
                    if share.order.account == ACCOUNT:
                        report = wire.traded_report(fact, share, self._next(), now_ms)
                        self._tell(share.order, report, touched)
            elif fact.order.account == ACCOUNT:
                self._tell(fact.order, self._report(fact, now_ms), touched)
        for account, symbols in touched.items():
            self._send(account, self._position(account, symbols, now_ms))

    def _report(self, fact: Opened | Triggered | Ended, now_ms: int) -> dict[str, object]:
        if isinstance(fact, Opened | Triggered):
            return wire.opened_report(fact, self._next(), now_ms)
        return wire.ended_report(fact, self._next(), now_ms)

    def _next(self) -> int:
        self._executions += 1
        return self._executions

    def _tell(
        self, order: VenueOrder, report: dict[str, object], touched: dict[str, set[str]]
    ) -> None:
        touched.setdefault(order.account, set()).add(order.symbol)
        if self.faults.take_kind("lose_event", VENUE):
            return
        self._send(order.account, report)
        if self.faults.take_kind("repeat_event", VENUE):
            self._send(order.account, report)

    def _position(self, account: str, symbols: set[str], now_ms: int) -> dict[str, object]:
        rules = [self.exchange.markets[symbol].rules for symbol in symbols]
        assets = sorted({asset for each in rules for asset in (each.base, each.quote)})
        owned = self.exchange.accounts[account]
        return {
            "e": "outboundAccountPosition",
            "E": now_ms,
            "u": now_ms,
            "B": [
                {
                    "a": asset,
                    "f": wire.amount(owned.free[asset]),
                    "l": wire.amount(owned.locked[asset]),
                }
                for asset in assets
            ],
        }

    def _send(self, account: str, event: dict[str, object]) -> None:
        for line in self.lines:
            for number, listens_to in line.subscriptions.items():
                if listens_to == account:
                    message = {"subscriptionId": number, "event": event}
                    line.socket.send_text(json.dumps(message, separators=(",", ":")))
