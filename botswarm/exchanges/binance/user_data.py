"""The account's own stream over Binance's WebSocket API: a doorbell, never the record."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import websocket

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.exchanges.base import AccountEvent, Report
from botswarm.exchanges.binance.signing import encoded, signature
from botswarm.exchanges.binance.trading import STATES, UNREADABLE, ms_of, number

logger = logging.getLogger(__name__)

# Binance pings every 20 s: three of them missing means that nobody is there.
SILENCE_MAX_S = 65.0
CONNECT_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 30.0
STABLE_AFTER_S = 30.0
SUBSCRIBE = "userDataStream.subscribe.signature"


class StreamEnded(Exception):
    """The connection is of no more use: make another."""


class UserData:
    """Reconnects for ever. Nothing that was missed is ever repeated by the venue."""

    def __init__(self, *, url: str, key: Secret, secret: Secret, clock: Clock) -> None:
        self._url = url
        self._key = key
        self._secret = secret
        self._clock = clock

    def run(
        self,
        on_event: Callable[[AccountEvent], object],
        on_connected: Callable[[], object],
        stop: threading.Event,
    ) -> None:
        """Until ``stop``. ``on_connected`` says: look at everything, you may have missed some."""
        failures = 0
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                connection = self._subscribed()
                on_connected()
                self._listen(connection, on_event, stop)
            except (OSError, websocket.WebSocketException, StreamEnded, ValueError) as error:
                # One that is cut off again and again must not use up the address's connections.
                is_stable = self._clock.monotonic() - began > STABLE_AFTER_S
                failures = 1 if is_stable else failures + 1
                pause = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 10))
                logger.warning("user data: %s; again in about %.1f s", _in_words(error), pause)
                stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- it spreads load only

    def _subscribed(self) -> websocket.WebSocket:
        connection = websocket.create_connection(
            self._url, timeout=CONNECT_TIMEOUT_S, skip_utf8_validation=True
        )
        try:
            connection.send(json.dumps(self._subscription()))
            answer = _parsed(connection.recv())
            if answer.get("status") != 200:
                raise StreamEnded(f"refused: {answer.get('error')}")
            connection.settimeout(1.0)
        except BaseException:
            connection.close()
            raise
        return connection

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

    def _listen(
        self,
        connection: websocket.WebSocket,
        on_event: Callable[[AccountEvent], object],
        stop: threading.Event,
    ) -> None:
        heard = self._clock.monotonic()
        try:
            while not stop.is_set():
                try:
                    opcode, data = connection.recv_data(control_frame=True)
                except websocket.WebSocketTimeoutException:
                    if self._clock.monotonic() - heard > SILENCE_MAX_S:
                        raise StreamEnded(f"silent for {SILENCE_MAX_S:.0f} s") from None
                    continue
                heard = self._clock.monotonic()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    raise StreamEnded("closed by the venue")
                if opcode == websocket.ABNF.OPCODE_TEXT and (event := parse(data)) is not None:
                    on_event(event)
        finally:
            connection.close()


def parse(frame: str | bytes) -> AccountEvent | None:
    """The event in a frame, where it speaks of an order. Raises StreamEnded when it is the last."""
    said = _parsed(frame)
    event = said.get("event")
    if not isinstance(event, dict):
        return None
    match event.get("e"):
        case "executionReport":
            return _execution(event)
        case "eventStreamTerminated" | "serverShutdown":
            raise StreamEnded(str(event["e"]))
        case _:
            return None


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


def _parsed(frame: str | bytes) -> dict[str, Any]:
    try:
        said = json.loads(frame, parse_float=Decimal)
    except RecursionError:
        said = None
    if not isinstance(said, dict):
        raise StreamEnded("a frame that is no object")
    return said


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
