"""The plainest client of a WebSocket there can be, for what is told by the simulated exchange."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import websocket

from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import wait_until

DEADLINE_S = 10.0
Message = dict[str, Any]


class Client:
    """The plainest there can be: it sends JSON and reads JSON, exact numbers and all."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url, timeout=DEADLINE_S)

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message))

    def hear(self) -> Message:
        text = self.socket.recv()
        if not text:
            raise ConnectionError("the exchange hung up")
        message: Message = json.loads(text, parse_float=Decimal)
        return message

    def to_the_end(self) -> None:
        """Raises what ends it."""
        while True:
            self.hear()

    def until(self, wanted: Callable[[Message], bool]) -> Message:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if wanted(message := self.hear()):
                return message
        raise AssertionError("what was waited for did not come")


@contextmanager
def client(url: str) -> Iterator[Client]:
    made = Client(url)
    try:
        yield made
    finally:
        made.socket.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def trading_exchange() -> Iterator[SimulatedExchangeServer]:
    """It writes down what it streams, and every market of it has traded."""
    with SimulatedExchangeServer(options=["--stream-journal"]) as running:
        markets = running.stream_counts()["markets"]
        wait_until(
            lambda: all(each["trades"] for each in running.stream_counts()["markets"].values()),
            f"a trade in each of {len(markets)} markets",
            DEADLINE_S,
        )
        yield running
