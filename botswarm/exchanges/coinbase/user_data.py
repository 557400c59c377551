"""The account's own stream at Coinbase Advanced: orders as they stand, told again and again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

import websocket

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.domain.order import OrderState
from botswarm.errors import Malformed
from botswarm.exchanges.account_stream import ReconnectingStream, StreamEnded, parsed
from botswarm.exchanges.base import AccountEvent
from botswarm.exchanges.coinbase import orders
from botswarm.exchanges.coinbase.private import UNREADABLE
from botswarm.exchanges.coinbase.tokens import Signer
from botswarm.exchanges.reading import number

logger = logging.getLogger(__name__)

TOKEN_S = 60
CHANNELS = ("heartbeats", "user")
"""The venue ends a connection on which nothing happens, and heartbeats always do."""
FRAMES_BEFORE_ANSWER_MAX = 20
ORDERS_KNOWN_MAX = 10_000

Told = tuple[OrderState, Decimal]


class CoinbaseUserData(ReconnectingStream):
    """Frames are counted: when one is missing the connection is made again, and all looked at."""

    silence_max_s: ClassVar[float] = 15.0

    def __init__(self, *, url: str, key: Secret, secret: Secret, clock: Clock) -> None:
        super().__init__(url=url, clock=clock)
        self._signer = Signer(key, secret)
        self._last = -1
        self._told: dict[str, Told] = {}

    def subscribe(self, connection: websocket.WebSocket) -> None:
        self._last = -1
        for channel in CHANNELS:
            at_s = int(self._clock.now().timestamp())
            # Each message wants a token of its own.
            token = self._signer.token(at_s=at_s, lifetime_s=TOKEN_S)
            connection.send(json.dumps({"type": "subscribe", "channel": channel, "jwt": token}))
        for _ in range(FRAMES_BEFORE_ANSWER_MAX):
            said = self._counted(connection.recv())
            # What stands in the first frames is looked at after them anyway.
            if said.get("channel") == "subscriptions" and _lists(said, "user"):
                return
        raise StreamEnded("the subscription to the account was not answered")

    def read(self, frame: str | bytes) -> Iterator[AccountEvent]:
        said = self._counted(frame)
        if said.get("channel") != "user":
            return
        try:
            told = [row for event in said["events"] for row in event.get("orders", ())]
        except UNREADABLE as error:
            raise StreamEnded(f"a frame about orders that cannot be read ({error!r})") from error
        for row in told:
            event = self._event(row)
            if event is not None:
                yield event

    def _counted(self, frame: str | bytes) -> dict[str, Any]:
        said = parsed(frame)
        if said.get("type") == "error":
            raise StreamEnded(f"refused: {str(said.get('message'))[:200]}")
        sequence = said.get("sequence_num")
        if type(sequence) is not int:
            raise StreamEnded("a frame without its number")
        if sequence != self._last + 1 and self._last >= 0:
            raise StreamEnded(f"frame {sequence} came after {self._last}: something was missed")
        self._last = sequence
        return said

    def _event(self, row: Any) -> AccountEvent | None:
        """None for what was told before: the venue repeats how orders stand."""
        try:
            client_id, order_id = str(row["client_order_id"]), str(row["order_id"])
            filled = number(row["cumulative_quantity"])
            report = orders.report(client_id, order_id, orders.STATES[row["status"]], filled)
        except (*UNREADABLE, Malformed) as error:
            # Polling finds what this would have said; the stream goes on.
            logger.warning("user data: an order cannot be read (%r)", error)
            return None
        told = (report.state, report.filled_quantity)
        if self._told.get(order_id) == told:
            return None
        self._know(order_id, told)
        # An answer to a placement says no more than that it was taken.
        return AccountEvent(report=report, is_news=report.state is not OrderState.LIVE)

    def _know(self, order_id: str, told: Told) -> None:
        self._told.pop(order_id, None)
        if len(self._told) >= ORDERS_KNOWN_MAX:
            self._told.pop(next(iter(self._told)))
        self._told[order_id] = told


def _lists(said: dict[str, Any], channel: str) -> bool:
    try:
        return any(channel in event["subscriptions"] for event in said["events"])
    except UNREADABLE:
        return False
