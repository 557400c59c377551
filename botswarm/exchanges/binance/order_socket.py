"""Orders over Binance's WebSocket API: a request is sent once, its answer read like one of REST."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

import websocket

from botswarm.config import Secret
from botswarm.exchanges.allowance import Allowance
from botswarm.exchanges.binance import limits
from botswarm.exchanges.resting import in_words
from botswarm.exchanges.socket_pool import (
    PONG_TIMEOUT_S,
    SocketPool,
    Told,
    hang_up,
    object_of,
)
from botswarm.exchanges.transport import ANSWER_TIMEOUT_S, BAN_DEFAULT_S, NoAnswer, Response

LAST_WORDS = "serverShutdown"
PING = {"method": "ping"}


class OrderSocket:
    """Connections of one process; threads share them, a forked child makes its own."""

    def __init__(self, url: str, key: Secret, allowance: Allowance) -> None:
        self._key = key
        self._allowance = allowance
        self._pool = SocketPool(url, "Binance's WebSocket API", self._stands)
        self._ids = count(1)

    def warm(self) -> None:
        """Have a connection that stands, so that what is sent next fails now or not for that."""
        self._allowance.obey()
        self._pool.keep(self._pool.take())

    def close(self) -> None:
        self._pool.close()

    def request(self, method: str, parameters: Mapping[str, Any]) -> Response:
        """Send once and read the answer to it. Raises NotSent or NoAnswer.

        ``parameters`` are signed; the key's public half, which they were signed with, is added.
        """
        connection = self._pool.take()
        params = {**parameters, "apiKey": self._key.reveal()}
        try:
            told, is_ending = self._asked(connection, {"method": method, "params": params})
        except BaseException:
            hang_up(connection)
            raise
        if is_ending:
            hang_up(connection)
        else:
            self._pool.keep(connection)
        response = _as_of_rest(told)
        self._allowance.heard(limits.used(response.headers))
        if response.status in (418, 429):
            seconds = float(response.headers.get("retry-after", BAN_DEFAULT_S))
            self._allowance.banned(seconds, f"the WebSocket API answered {response.status}")
        return response

    def _asked(
        self,
        connection: websocket.WebSocket,
        message: Mapping[str, Any],
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> tuple[Told, bool]:
        """The answer, and whether the venue has said that the connection will end."""
        number = str(next(self._ids))
        until, is_ending = time.monotonic() + timeout_s, False
        try:
            connection.send(json.dumps({"id": number, **message}))
            while True:
                connection.settimeout(max(0.001, until - time.monotonic()))
                told = object_of(connection.recv())
                if told.get("id") == number:
                    return told, is_ending
                event = told.get("event")
                if isinstance(event, dict):
                    is_ending = is_ending or event.get("e") == LAST_WORDS
                elif told.get("id") is None:
                    raise ValueError("an answer to no request in particular")
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise NoAnswer(
                f"the WebSocket API did not answer: {in_words(error)}",
                cure="see the venue's status",
            ) from error

    def _stands(self, connection: websocket.WebSocket) -> bool:
        try:
            told, is_ending = self._asked(connection, PING, PONG_TIMEOUT_S)
        except NoAnswer:
            return False
        return told.get("status") == 200 and not is_ending


def _as_of_rest(told: Told) -> Response:
    """What the same answer would be over REST; one of another shape is a success without words."""
    status, error = told.get("status"), told.get("error")
    if type(status) is not int:
        return Response(200, b"")
    headers = dict(_counts(told))
    if status == 200:
        return Response(status, json.dumps(told.get("result"), default=str).encode(), headers)
    data = error.get("data") if isinstance(error, dict) else None
    if isinstance(data, dict) and type(data.get("retryAfter")) is int:
        theirs = data.get("serverTime")
        left_ms = data["retryAfter"] - (theirs if type(theirs) is int else int(time.time() * 1000))
        headers["retry-after"] = str(max(1, -(-left_ms // 1000)))
    return Response(status, json.dumps(error, default=str).encode(), headers)


def _counts(told: Told) -> list[tuple[str, str]]:
    """What is used up of each limit, under the names that REST's headers have."""
    names = {limits.WEIGHT: "x-mbx-used-weight", limits.ORDERS: "x-mbx-order-count"}
    found = []
    for each in told.get("rateLimits") or ():
        try:
            name, interval = names.get(each["rateLimitType"]), str(each["interval"])
            if name is not None:
                period = f"{int(each['intervalNum'])}{interval[0].lower()}"
                found.append((f"{name}-{period}", str(int(each["count"]))))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            continue  # of a limit that is told without its count
    return found
