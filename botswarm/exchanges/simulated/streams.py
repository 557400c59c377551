"""Market-data streams: who listens to what, and one encoded frame for all who do."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

from botswarm.exchanges.simulated.faults import Faults
from botswarm.exchanges.simulated.limits import (
    MESSAGES_PER_SECOND,
    STREAMS_PER_CONNECTION,
    Recent,
)
from botswarm.exchanges.simulated.stream_faults import Spoiler
from botswarm.exchanges.simulated.stream_journal import StreamJournal
from botswarm.exchanges.simulated.websocket import POLICY_VIOLATION, WebSocket, encode_frame

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


VENUE: Final = "binance"
CHANNEL_OF: Final = {"trade": "trade", "aggTrade": "trade", "bookTicker": "quote"}


class Line:
    """A WebSocket that is kept alive: pings, their answers, its age."""

    venue = VENUE
    number = 0
    """Of the connection, since the exchange started."""
    peer = ""
    sends_pings = True

    def __init__(self, socket: WebSocket, now_s: float) -> None:
        self.socket = socket
        self.opened_s = now_s
        self.answered_s = now_s
        self.pinged_s = now_s
        self._payload = b""
        socket.on_pong = self._on_pong
        self._now_s = now_s

    def _on_pong(self, payload: bytes) -> None:
        # One without the ping's own payload is allowed and keeps nothing alive.
        if payload == self._payload:
            self.answered_s = self._now_s

    def keep_alive(self, now_s: float, *, ping_s: float, pong_s: float, lifetime_s: float) -> None:
        self._now_s = now_s
        if self.socket.is_mute:
            return
        if now_s - self.opened_s >= lifetime_s:
            self.socket.close(1008, "connection lifetime is over")
        elif self._payload and now_s - self.answered_s >= pong_s:
            self.socket.close(1008, "Pong timeout")
        elif self.sends_pings and now_s - self.pinged_s >= ping_s:
            self.pinged_s = now_s
            self._payload = secrets.token_hex(8).encode()
            self.socket.ping(self._payload)


class StreamConnection(Line):
    def __init__(
        self, hub: StreamHub, socket: WebSocket, now_s: float, *, is_combined: bool
    ) -> None:
        super().__init__(socket, now_s)
        self.hub = hub
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}
        self.outbox: list[bytes] = []
        self._incoming = Recent(MESSAGES_PER_SECOND, 1000)

    def counted(self, now_ms: int) -> None:
        """Every frame that comes in counts, pongs too."""
        if not self._incoming.admits(now_ms):
            self.socket.close(POLICY_VIOLATION, "Too many requests")

    def subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self.streams[name] = None
            self.hub.add(name, self)
        if len(self.streams) > STREAMS_PER_CONNECTION:
            self.socket.close(POLICY_VIOLATION, "more than 1024 streams")

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.streams:
                del self.streams[name]
                self.hub.remove(name, self)

    def on_message(self, text: str) -> None:
        self.socket.send_text(json.dumps(self._answer(text), separators=(",", ":")))

    def _answer(self, text: str) -> dict[str, Any]:
        try:
            message = json.loads(text)
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            column = getattr(error, "colno", 1)
            return _error(3, f"Invalid JSON: expected value at line {line} column {column}")
        if not isinstance(message, dict):
            return _error(2, "Invalid request: request must be an object")
        number = message.get("id")
        if not _is_request_id(number):
            return _error(
                2, "Invalid request: request ID must be an unsigned integer, a string or null"
            )
        method = message.get("method")
        if method not in METHODS:
            variants = ", ".join(f"`{name}`" for name in METHODS)
            return _error(
                2, f"Invalid request: unknown variant `{method}`, expected one of {variants}"
            )
        return self._perform(method, message.get("params", []), number)

    def _perform(self, method: str, wishes: Any, number: object) -> dict[str, Any]:
        result: object = None
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not isinstance(wishes, list) or not all(isinstance(name, str) for name in wishes):
                return _error(2, "Invalid request: params must be an array of stream names", number)
            if method == "SUBSCRIBE":
                self.subscribe(wishes)
            else:
                self.unsubscribe(wishes)
        elif method == "LIST_SUBSCRIPTIONS":
            result = list(self.streams)
        elif not isinstance(wishes, list) or not wishes or wishes[0] != "combined":
            return _error(0, "Unknown property", number)
        elif method == "GET_PROPERTY":
            result = self.is_combined
        elif len(wishes) != 2 or not isinstance(wishes[1], bool):
            return _error(1, "Invalid value type: expected Boolean", number)
        else:
            self.is_combined = wishes[1]
        return {"result": result, "id": number}


def _is_request_id(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch("[A-Za-z0-9]{1,36}", value) is not None
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _error(code: int, text: str, number: object = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "msg": text}
    return error if number is None else {**error, "id": number}


class StreamHub:
    def __init__(
        self, spoiler: Spoiler | None = None, journal: StreamJournal | None = None
    ) -> None:
        self.spoiler = spoiler or Spoiler(Faults())
        self.journal = journal or StreamJournal(None)
        self.connections: set[StreamConnection] = set()
        self._listeners: dict[str, set[StreamConnection]] = {}
        self._waiting: set[StreamConnection] = set()
        self.is_silent = False
        """The market goes on and its streams say nothing: an outage of the feed."""

    def add(self, name: str, connection: StreamConnection) -> None:
        self._listeners.setdefault(name, set()).add(connection)

    def remove(self, name: str, connection: StreamConnection) -> None:
        listeners = self._listeners.get(name)
        if listeners is not None:
            listeners.discard(connection)
            if not listeners:
                del self._listeners[name]

    def leave(self, connection: StreamConnection) -> None:
        connection.unsubscribe(list(connection.streams))
        self.connections.discard(connection)
        self._waiting.discard(connection)

    def has(self, name: str) -> bool:
        return name in self._listeners

    def publish(self, name: str, message: object, ids: tuple[int, ...] = ()) -> None:
        """Encoded at most twice, however many listen; sent by the next ``flush``."""
        if self.is_silent:
            return
        text = json.dumps(message, separators=(",", ":"))
        stem, _, kind = name.partition("@")
        symbol, channel = stem.upper(), _channel(kind)
        for shown in self.spoiler.pass_on(VENUE, symbol, channel, text, ids):
            if not shown.is_lost:
                self._send(name, symbol, shown.text, shown.ids)

    def _send(self, name: str, symbol: str, text: str, ids: tuple[int, ...]) -> None:
        raw = combined = b""
        for connection in self._listeners.get(name, ()):
            if connection.is_combined:
                combined = combined or encode_frame(
                    f'{{"stream":{json.dumps(name)},"data":{text}}}'.encode()
                )
                connection.outbox.append(combined)
            else:
                raw = raw or encode_frame(text.encode())
                connection.outbox.append(raw)
            self._waiting.add(connection)
            if ids and connection.socket.can_send:
                self.journal.told(VENUE, connection.number, connection.peer, symbol, ids)

    def flush(self) -> None:
        """One write for each connection, whatever happened since the last."""
        for connection in self._waiting:
            connection.socket.send(b"".join(connection.outbox))
            connection.outbox.clear()
        self._waiting.clear()


def _channel(kind: str) -> str:
    if kind.startswith("depth"):
        return "book"
    if kind.startswith("kline"):
        return "candle"
    return CHANNEL_OF.get(kind, "other")
