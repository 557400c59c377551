"""Kraken's WebSocket v2 for orders: a request has a connection to itself until it is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from itertools import count

import websocket

from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.exchanges.kraken.private import reading
from botswarm.exchanges.reading import shown
from botswarm.exchanges.resting import in_words
from botswarm.exchanges.socket_pool import (
    PONG_TIMEOUT_S,
    SocketPool,
    Told,
    hang_up,
    object_of,
)
from botswarm.exchanges.transport import ANSWER_TIMEOUT_S, NoAnswer, NotSent

TOKEN_FRESH_S = 600.0
TOKEN_USED_S = 840.0
"""A token is good for 15 minutes; a request that is committed already asks for no other."""


class TradingSocket:
    """Connections of one process; threads share them, a forked child makes its own."""

    def __init__(self, url: str, ask_token: Callable[[], str]) -> None:
        self._ask_token = ask_token
        self._pool = SocketPool(url, "Kraken", self._stands)
        self._lock = threading.Lock()
        self._token: tuple[Secret, float] | None = None
        self._ids = count(1)

    # --- before anything is committed -----------------------------------------------------------

    def warm(self) -> None:
        """Have a connection that stands and a token, so that what follows needs neither."""
        self.token()
        self._pool.keep(self._pool.take())

    def token(self, age_max_s: float = TOKEN_FRESH_S) -> Secret:
        with self._lock:
            known = self._token
        if known is None or time.monotonic() - known[1] > age_max_s:
            began = time.monotonic()
            known = Secret(self._ask_token()), began
            with self._lock:
                self._token = known
        return known[0]

    def forget_token(self) -> None:
        """The venue did not know it."""
        with self._lock:
            self._token = None

    def server_time(self) -> datetime:
        """By the answer to a ping, which tells microseconds; REST tells seconds only."""
        connection = self._pool.take()
        try:
            pong = self._answers(connection, b'{"method":"ping"}', 1)[0]
            with reading("pong"):
                found = datetime.fromisoformat(str(pong["time_out"]))
                if found.tzinfo is None:
                    raise ValueError("a time of no zone")
        except BaseException:
            hang_up(connection)
            raise
        self._pool.keep(connection)
        return found

    # --- requests -------------------------------------------------------------------------------

    def send(self, message: bytes, answers: int = 1) -> list[Told]:
        """Send once, with the session's token; the answers to it. Raises NotSent or NoAnswer.

        ``message`` is an object of ``method`` and ``params``; the token is no part of what the
        venue judges an order by.
        """
        try:
            secret = json.dumps(self.token(TOKEN_USED_S).reveal()).encode()
        except Unreachable as error:
            raise NotSent(f"Kraken gave no token: {error.cause}", cure=error.cure) from error
        if not message.endswith(b"}}"):
            raise ValueError("a request without parameters")
        separator = b"" if message.endswith(b"{}}") else b","
        connection = self._pool.take()
        try:
            tokened = message[:-2] + separator + b'"token":' + secret + b"}}"
            found = self._answers(connection, tokened, answers)
        except BaseException:
            hang_up(connection)
            raise
        self._pool.keep(connection)
        return found

    def close(self) -> None:
        self._pool.close()

    def _answers(
        self,
        connection: websocket.WebSocket,
        message: bytes,
        answers: int,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> list[Told]:
        number = next(self._ids)
        until = time.monotonic() + timeout_s
        found: list[Told] = []
        try:
            connection.send(message[:-1] + b',"req_id":%d}' % number)
            while len(found) < answers:
                connection.settimeout(max(0.001, until - time.monotonic()))
                told = object_of(connection.recv())
                if told.get("req_id") == number:
                    found.append(told)
                elif "method" not in told and "channel" not in told:
                    # Of no request in particular: the venue could not read one, or wants fewer.
                    words = told.get("error") or told.get("Error") or "a frame of no kind"
                    raise NoAnswer(f"Kraken said {shown(words, 200)}", cure="see its status")
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise NoAnswer(
                f"Kraken did not answer: {in_words(error)}", cure="see the venue's status"
            ) from error
        return found

    def _stands(self, connection: websocket.WebSocket) -> bool:
        try:
            self._answers(connection, b'{"method":"ping"}', 1, PONG_TIMEOUT_S)
        except NoAnswer:
            return False
        return True
