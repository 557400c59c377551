"""Kraken's private side over WebSocket v2: orders by a session's token, and what came of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec

from botswarm.exchanges.simulated.exchange import Ended, Fact, Opened, Traded, Triggered
from botswarm.exchanges.simulated.feeds import Wrong, by_name, moment
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.kraken_desk import ACCOUNT, Desk, Said
from botswarm.exchanges.simulated.kraken_guard import Guard
from botswarm.exchanges.simulated.kraken_private import (
    ACTIONS,
    ROOT,
    VENUE,
    PrivateRest,
)
from botswarm.exchanges.simulated.kraken_words import Row, Words, name
from botswarm.exchanges.simulated.mishaps import GARBAGE, Delivery, carry
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.streams import Line
from botswarm.exchanges.simulated.websocket import WebSocket, encode_frame

_log = logging.getLogger(__name__)

STREAM_PATH: Final = "/auth/v2"
MAX_RATE_COUNT: Final = 180


@dataclass(slots=True)
class Answer:
    """What a message is answered with: one frame, or one for each order it named."""

    results: list[Row] = field(default_factory=list)


class TradingLine(Line):
    venue = VENUE

    def __init__(self, socket: WebSocket, peer: str, now_s: float) -> None:
        super().__init__(socket, now_s)
        self.peer = peer
        self.tokens: set[str] = set()
        self.sequence: int | None = None
        """Of the channel executions; None where it was not subscribed to."""


class KrakenTeller:
    def __init__(self, service: Service, key: str, secret: str, tier: str) -> None:
        service.open_account(ACCOUNT)
        self.service = service
        self.guard = Guard(key, secret, tier)
        pairs = by_name(service.publisher.boards.values(), "/")
        self.symbols = {pair: board.market.rules.symbol for pair, board in pairs.items()}
        self.words = Words(service.exchange, {s: pair for pair, s in self.symbols.items()})
        self.desk = Desk(service, self.guard, self.words)
        self._private = PrivateRest(service, self.guard, self.desk, self.symbols)
        self._lines: set[TradingLine] = set()

    def is_door(self, request: Request) -> bool:
        return request.path == STREAM_PATH or request.path.startswith(ROOT)

    async def rest(self, request: Request) -> tuple[Response, Delivery]:
        return await self._private.answer(request)

    # --- WebSocket ------------------------------------------------------------------------

    @property
    def lines(self) -> Collection[Line]:
        return self._lines

    def open(self, socket: WebSocket, peer: str, now_s: float) -> Line:
        line = TradingLine(socket, peer, now_s)
        line.number = self.service.next_connection()
        self._lines.add(line)
        self._tell_system(line, "online")
        return line

    def leave(self, line: Line) -> None:
        self._lines.discard(line)

    def _tell_system(self, line: Line, system: str) -> None:
        data = {"version": "2.0.10", "system": system, "api_version": "v2"}
        _send(line, {"channel": "status", "type": "update", "data": [data]})

    async def receive(self, line: Line, text: str) -> None:
        assert isinstance(line, TradingLine)
        at = moment(self.service.now_ms())
        try:
            message = json.loads(text, parse_float=Decimal)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            _send(line, {"error": "Malformed request", "success": False})
            return
        method, params = message.get("method"), message.get("params")
        frame = {"req_id": message["req_id"]} if "req_id" in message else {}
        frame |= {"method": method, "time_in": at}
        if method == "ping":
            if line.socket.answers_pings:
                _send(line, {**frame, "method": "pong", "time_out": self._time()})
            return
        try:
            run = self._understood(line, method, params if isinstance(params, dict) else {})
        except Wrong as why:
            self._answer(line, frame, [{"success": False, "error": why.words}], "whole")
            return
        await self._perform(line, str(method), frame, run)

    async def _perform(
        self, line: TradingLine, method: str, frame: Row, run: Callable[[], Answer]
    ) -> None:
        def results() -> list[Row]:
            try:
                return run().results
            except Wrong as why:
                return [{"success": False, "error": why.words}]

        action = ACTIONS.get(method, "query")
        carried = await carry(self.service.faults, VENUE, action, results, results)
        if carried.delivery == "garbage":
            line.socket.send(encode_frame(GARBAGE))
        elif carried.instead:
            words = (
                "EService:Timeout" if carried.instead == "timeout" else "EGeneral:Internal error"
            )
            self._answer(line, frame, [{"success": False, "error": words}], "whole")
        else:
            self._answer(line, frame, carried.result or [], carried.delivery)

    def _answer(
        self, line: TradingLine, frame: Row, results: Sequence[Row], delivery: Delivery
    ) -> None:
        if delivery == "none":
            line.socket.abort()
            return
        for result in results:
            encoded = encode_frame(_dump({**frame, **result, "time_out": self._time()}))
            if delivery == "half":
                line.socket.send(encoded[: len(encoded) // 2])
                line.socket.abort()
                return
            line.socket.send(encoded)

    def _understood(self, line: TradingLine, method: object, params: Row) -> Callable[[], Answer]:
        """What is to be done, by who may do it; what is wrong by itself is found here."""
        self.guard.check_token(params.get("token"), line.tokens, self.service.now_ms())
        match method:
            case "add_order":
                wish = self._wished(params).wish(self.service.now_ms())
                wish.check(self.service.now_ms())
                return lambda: self._added(self.desk.place(wish))
            case "cancel_order":
                return lambda: self._cancelled(params)
            case "cancel_all":
                return lambda: _done({"count": self.desk.cancel_all()})
            case "cancel_all_orders_after":
                return lambda: _done(self.desk.hold_dead_man(params.get("timeout")))
            case "subscribe" if params.get("channel") == "executions":
                return lambda: self._subscribed(line, params)
            case "unsubscribe" if params.get("channel") == "executions":
                return lambda: self._unsubscribed(line)
        raise Wrong("Unsupported event")

    def _wished(self, params: Row) -> Said:
        pair = str(params.get("symbol"))
        if pair not in self.symbols:
            raise Wrong(f"Currency pair not supported {pair}")
        triggers = params.get("triggers")
        force = params.get("time_in_force")
        if force == "fok":
            raise Wrong("EGeneral:Invalid arguments:time_in_force")  # REST only
        return Said(
            symbol=self.symbols[pair],
            side=params.get("side"),
            order_type=params.get("order_type"),
            quantity=params.get("order_qty"),
            limit_price=params.get("limit_price"),
            trigger_price=triggers.get("price") if isinstance(triggers, dict) else None,
            time_in_force=force,
            self_trade=params.get("stp_type"),
            client_id=params.get("cl_ord_id"),
            deadline=params.get("deadline"),
            is_post_only=params.get("post_only") is True,
            is_for_trial=params.get("validate") is True,
        )

    def _added(self, order: Any) -> Answer:
        if order is None:
            return _done({"warnings": ["validated only"]})
        return _done({"order_id": name("O", order.id), "cl_ord_id": order.client_order_id})

    def _cancelled(self, params: Row) -> Answer:
        """One answer for each order that was named."""
        wanted = [("txid", each) for each in params.get("order_id") or ()]
        wanted += [("client_id", each) for each in params.get("cl_ord_id") or ()]
        if not wanted:
            raise Wrong("EGeneral:Invalid arguments")
        answer = Answer()
        for how, each in wanted:
            try:
                order = self.desk.named(**{how: str(each)})
                self.desk.cancel(order)
            except Wrong as why:
                answer.results.append({"success": False, "error": why.words})
                continue
            result = {"order_id": name("O", order.id), "cl_ord_id": order.client_order_id}
            answer.results.append({"success": True, "result": result})
        return answer

    # --- executions -----------------------------------------------------------------------

    def _subscribed(self, line: TradingLine, params: Row) -> Answer:
        if line.sequence is not None:
            raise Wrong("Already subscribed")
        line.sequence = 0
        result = {"channel": "executions", "maxratecount": MAX_RATE_COUNT, "snap_orders": True}
        encoded = {"method": "subscribe", "result": result, "success": True}
        _send(line, {**encoded, "time_in": self._time(), "time_out": self._time()})
        rows = [
            self.words.placed(order, "new", order.updated_ms)
            for order in self.desk.open_orders()
            if self.service.is_visible(order)
        ]
        self._tell(line, rows if params.get("snap_orders", True) else [], "snapshot")
        return Answer()

    def _unsubscribed(self, line: TradingLine) -> Answer:
        line.sequence = None
        return _done({"channel": "executions"})

    def publish(self, facts: Sequence[Fact], now_ms: int) -> None:
        for fact in facts:
            for row in self._rows(fact):
                self._publish(row)

    def _rows(self, fact: Fact) -> list[Row]:
        words = self.words
        if isinstance(fact, Traded):
            rows = []
            for share in fact.shares:
                if share.order.account == ACCOUNT:
                    rows.append(words.traded(fact, share))
                    if not share.status.is_open:
                        rows.append(words.changed(share.order, "filled", fact.at_ms))
            return rows
        if fact.order.account != ACCOUNT:
            return []
        match fact:
            case Opened():
                first = words.placed(fact.order, "pending_new", fact.at_ms)
                second = words.changed(fact.order, "new", fact.at_ms)
                return [first, {**second, "order_status": "new"}]
            case Triggered():
                return [words.changed(fact.order, "status", fact.at_ms)]
            case Ended():
                return [words.ended(fact)]

    def _publish(self, row: Row) -> None:
        faults = self.service.faults
        is_lost = faults.take_kind("lose_event", VENUE) is not None
        is_repeated = not is_lost and faults.take_kind("repeat_event", VENUE) is not None
        for line in self._lines:
            if line.sequence is None:
                continue
            if is_lost:
                # It was said as far as the venue knows: the next one's number tells.
                line.sequence += 1
                continue
            self._tell(line, [row], "update")
            if is_repeated:
                line.sequence -= 1
                self._tell(line, [row], "update")

    def _tell(self, line: TradingLine, rows: list[Row], kind: str) -> None:
        assert line.sequence is not None
        line.sequence += 1
        told = {"channel": "executions", "type": kind, "data": rows, "sequence": line.sequence}
        _send(line, told)

    def on_second(self, now_ms: int) -> None:
        self.desk.on_second(now_ms)
        for line in self._lines:
            if line.sequence is not None and line.sends_pings:
                _send(line, {"channel": "heartbeat"})

    def _time(self) -> str:
        return moment(self.service.now_ms())


def _done(result: Row) -> Answer:
    return Answer([{"success": True, "result": result}])


def _send(line: Line, message: Row) -> None:
    line.socket.send(encode_frame(_dump(message)))


def _dump(message: Row) -> bytes:
    return msgspec.json.encode(message)
