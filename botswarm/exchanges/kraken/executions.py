"""What Kraken says of an account's orders by itself: the channel executions, with its sequence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import websocket

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.domain.order import OrderState
from botswarm.exchanges.account_stream import ReconnectingStream, StreamEnded, parsed
from botswarm.exchanges.allowance import Allowance, Purpose, Unlimited
from botswarm.exchanges.base import AccountEvent, Report
from botswarm.exchanges.kraken.nonces import Nonces
from botswarm.exchanges.kraken.private import UNREADABLE, PrivateRest
from botswarm.exchanges.reading import shown

logger = logging.getLogger(__name__)

STATES: Mapping[str, OrderState] = {
    "pending_new": OrderState.LIVE,
    "new": OrderState.LIVE,
    "partially_filled": OrderState.PARTIAL,
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "expired": OrderState.EXPIRED,
}
NO_NEWS = ("pending_new", "new")
"""What the answer to a placement says too; everything that is traded it never tells."""
FRAMES_BEFORE_ANSWER = 20
ORDERS_KEPT = 10_000


class Executions(ReconnectingStream):
    """A hole in the sequence ends the connection: the next begins with everything that is open."""

    # Heartbeats come every second once something was subscribed to.
    silence_max_s: ClassVar[float] = 10.0

    def __init__(
        self,
        *,
        url: str,
        stream_url: str,
        key: Secret,
        secret: Secret,
        clock: Clock,
        state_dir: Path,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(url=stream_url, clock=clock)
        self._rest = PrivateRest(
            url=url,
            key=key,
            secret=secret,
            nonces=Nonces(state_dir, key, clock),
            allowance=Unlimited() if allowance is None else allowance,
        )
        self._sequence = 0
        self._orders: dict[str, tuple[str, Decimal]] = {}
        """By the venue's id: the client's, and how much was traded. Changes tell neither."""

    def subscribe(self, connection: websocket.WebSocket) -> None:
        try:
            token = self._rest.ask("GetWebSocketsToken", purpose=Purpose.RESOLVE)["token"]
        finally:
            # Asked once for each connection: nothing needs to rest until the next.
            self._rest.close()
        parameters = {"channel": "executions", "token": token, "snap_trades": False}
        connection.send(json.dumps({"method": "subscribe", "params": parameters, "req_id": 1}))
        for _ in range(FRAMES_BEFORE_ANSWER):
            told = parsed(connection.recv())
            if told.get("method") == "subscribe":
                if told.get("success") is not True:
                    raise StreamEnded(f"refused: {shown(told.get('error'))}")
                self._sequence = 0
                self._orders.clear()
                return
        raise StreamEnded("no answer to the subscription")

    def read(self, frame: str | bytes) -> Iterator[AccountEvent]:
        told = parsed(frame)
        if told.get("channel") != "executions":
            return
        if not self._follows(told.get("sequence")):
            return
        for row in told.get("data") or ():
            event = self._event(row)
            if event is not None and told.get("type") != "snapshot":
                yield event

    def _follows(self, sequence: object) -> bool:
        """False for one that was told before. Raises StreamEnded where one is missing."""
        if type(sequence) is not int:
            raise StreamEnded("a frame without its number")
        if sequence <= self._sequence:
            return False
        if self._sequence and sequence != self._sequence + 1:
            raise StreamEnded(f"frame {self._sequence + 1} is missing")
        self._sequence = sequence
        return True

    def _event(self, row: Mapping[str, Any]) -> AccountEvent | None:
        try:
            order_id, kind = str(row["order_id"]), str(row["exec_type"])
            client_id, filled = self._orders.get(order_id, ("", Decimal(0)))
            client_id = str(row.get("cl_ord_id") or client_id)
            filled = max(filled, Decimal(str(row.get("cum_qty", 0))))
            state = STATES[row["order_status"]]
        except UNREADABLE as error:
            # Polling finds what this would have said; the stream goes on.
            logger.warning("executions: a report cannot be read (%r)", error)
            return None
        self._remember(order_id, client_id, filled)
        if not client_id:
            return None
        if state is OrderState.LIVE and filled:
            state = OrderState.PARTIAL
        report = Report(
            client_order_id=client_id,
            venue_order_id=order_id,
            state=state,
            filled_quantity=filled,
        )
        return AccountEvent(report=report, is_news=kind not in NO_NEWS)

    def _remember(self, order_id: str, client_id: str, filled: Decimal) -> None:
        if len(self._orders) >= ORDERS_KEPT and order_id not in self._orders:
            self._orders.pop(next(iter(self._orders)))
        self._orders[order_id] = client_id, filled
