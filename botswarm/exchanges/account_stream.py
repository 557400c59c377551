"""A connection on which a venue speaks of one account: made again for ever, whichever the venue."""

from __future__ import annotations

import json
import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, ClassVar

import websocket

from botswarm.clock import Clock
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.base import AccountEvent
from botswarm.exchanges.resting import in_words
from botswarm.exchanges.socket_pool import hang_up

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 30.0
STABLE_AFTER_S = 30.0
WAKE_EVERY_S = 1.0


class StreamEnded(Exception):
    """The connection is of no more use: make another."""


class ReconnectingStream(ABC):
    """Is an AccountStream; a venue says how to subscribe and what its frames mean."""

    silence_max_s: ClassVar[float]
    """By what the venue sends of itself: its pings, its heartbeats."""

    def __init__(self, *, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock

    @abstractmethod
    def subscribe(self, connection: websocket.WebSocket) -> None:
        """Say who we are and wait until the venue has taken it. Raises StreamEnded."""

    @abstractmethod
    def read(self, frame: str | bytes) -> Iterable[AccountEvent]:
        """What a frame says of orders. Raises StreamEnded when it is the last."""

    def run(
        self,
        on_event: Callable[[AccountEvent], object],
        on_connected: Callable[[], object],
        stop: threading.Event,
    ) -> None:
        failures = 0
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                connection = self._subscribed()
                on_connected()
                self._listen(connection, on_event, stop)
            except (
                OSError,
                ValueError,
                websocket.WebSocketException,
                StreamEnded,
                Unreachable,
                Refused,
            ) as error:
                # One that is cut off again and again must not use up the address's connections.
                is_stable = self._clock.monotonic() - began > STABLE_AFTER_S
                failures = 1 if is_stable else failures + 1
                pause = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 10))
                logger.warning("user data: %s; again in about %.1f s", in_words(error), pause)
                stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- it spreads load only

    def _subscribed(self) -> websocket.WebSocket:
        connection = websocket.create_connection(
            self._url, timeout=CONNECT_TIMEOUT_S, skip_utf8_validation=True
        )
        try:
            self.subscribe(connection)
            connection.settimeout(WAKE_EVERY_S)
        except BaseException:
            hang_up(connection)
            raise
        return connection

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
                    if self._clock.monotonic() - heard > self.silence_max_s:
                        raise StreamEnded(f"silent for {self.silence_max_s:.0f} s") from None
                    continue
                heard = self._clock.monotonic()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    raise StreamEnded("closed by the venue")
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    for event in self.read(data):
                        on_event(event)
        finally:
            hang_up(connection)


def parsed(frame: str | bytes) -> dict[str, Any]:
    """A frame's object, its numbers with every digit. Raises StreamEnded for what is none."""
    try:
        said = json.loads(frame, parse_float=Decimal)
    except RecursionError:
        said = None
    if not isinstance(said, dict):
        raise StreamEnded("a frame that is no object")
    return said
