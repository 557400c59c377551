"""The account's own stream over Binance's WebSocket API: a doorbell, never the record."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import websocket

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.exchanges.account_stream import ReconnectingStream, StreamEnded, parsed
from botswarm.exchanges.base import AccountEvent, Report
from botswarm.exchanges.binance.answers import STATES, UNREADABLE, ms_of, number
from botswarm.exchanges.binance.signing import encoded, signature

logger = logging.getLogger(__name__)

SUBSCRIBE = "userDataStream.subscribe.signature"
LAST_WORDS = ("eventStreamTerminated", "serverShutdown")
"""Said when a connection is a day old, and before a restart of the venue's own."""


class UserData(ReconnectingStream):
    """Nothing that was missed is ever repeated by the venue."""

    # Binance pings every 20 s: three of them missing means that nobody is there.
    silence_max_s: ClassVar[float] = 65.0

    def __init__(self, *, url: str, key: Secret, secret: Secret, clock: Clock) -> None:
        super().__init__(url=url, clock=clock)
        self._key = key
        self._secret = secret

    def subscribe(self, connection: websocket.WebSocket) -> None:
        connection.send(json.dumps(self._subscription()))
        answer = parsed(connection.recv())
        if answer.get("status") != 200:
            raise StreamEnded(f"refused: {answer.get('error')}")

    def _subscription(self) -> dict[str, object]:
        # What is signed here are the parameters by rising name, unlike in REST.
        now, key = ms_of(self._clock.now()), self._key.reveal()
        payload = encoded({"apiKey": key, "timestamp": str(now)})
        parameters = {
            "apiKey": key,
            "timestamp": now,
            "signature": signature(payload, self._secret),
        }
        return {"id": "user-data", "method": SUBSCRIBE, "params": parameters}

    def read(self, frame: str | bytes) -> Sequence[AccountEvent]:
        event = parse(frame)
        return () if event is None else (event,)


def parse(frame: str | bytes) -> AccountEvent | None:
    """The event in a frame, where it speaks of an order. Raises StreamEnded when it is the last."""
    said = parsed(frame)
    event = said.get("event")
    if not isinstance(event, dict):
        return None
    if event.get("e") in LAST_WORDS:
        raise StreamEnded(str(event["e"]))
    return _execution(event) if event.get("e") == "executionReport" else None


def _execution(event: Mapping[str, Any]) -> AccountEvent | None:
    try:
        kind, rested = str(event["x"]), event.get("m") is True
        return AccountEvent(
            # What happens at once, the answer to the placement tells.
            is_news=kind != "NEW" and (kind != "TRADE" or rested),
            report=Report(
                # On a cancellation ``c`` is the cancellation's own id.
                client_order_id=str(event.get("C") or event["c"]),
                venue_order_id=str(event["i"]),
                state=STATES[event["X"]],
                filled_quantity=number(event["z"]),
            ),
        )
    except UNREADABLE as error:
        # Polling finds what this would have said; the stream goes on.
        logger.warning("user data: an execution report cannot be read (%r)", error)
        return None
