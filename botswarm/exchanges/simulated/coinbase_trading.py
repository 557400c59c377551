"""Coinbase Advanced's private side: its key, its REST, and its channel about the account."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from botswarm.exchanges.simulated.coinbase_guard import Guard
from botswarm.exchanges.simulated.coinbase_private import PrivateRest
from botswarm.exchanges.simulated.coinbase_user import UserChannel, UserLine
from botswarm.exchanges.simulated.coinbase_words import ACCOUNT, Words
from botswarm.exchanges.simulated.exchange import Fact
from botswarm.exchanges.simulated.feeds import by_name
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.mishaps import Delivery
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.streams import Line
from botswarm.exchanges.simulated.websocket import WebSocket

STREAM_PATH: Final = "/user"


class CoinbaseTeller:
    def __init__(self, service: Service, key: str, secret: str) -> None:
        service.open_account(ACCOUNT)
        self.service = service
        self.guard = Guard(key, secret, service.options.coinbase_per_s)
        boards = by_name(service.publisher.boards.values(), "-")
        symbols = {name: board.market.rules.symbol for name, board in boards.items()}
        words = Words(service.exchange, {symbol: name for name, symbol in symbols.items()})
        self._private = PrivateRest(service, self.guard, words, symbols)
        self._channel = UserChannel(service, self.guard, words)

    def is_door(self, request: Request) -> bool:
        return request.path == STREAM_PATH or self._private.knows(request)

    async def rest(self, request: Request) -> tuple[Response, Delivery]:
        return await self._private.answer(request)

    @property
    def lines(self) -> Collection[Line]:
        return self._channel.lines

    def open(self, socket: WebSocket, peer: str, now_s: float) -> Line:
        line = UserLine(socket, peer, now_s)
        line.number = self.service.next_connection()
        self._channel.lines.add(line)
        return line

    def leave(self, line: Line) -> None:
        assert isinstance(line, UserLine)
        self._channel.lines.discard(line)

    async def receive(self, line: Line, text: str) -> None:
        assert isinstance(line, UserLine)
        self._channel.receive(line, text)

    def publish(self, facts: Sequence[Fact], now_ms: int) -> None:
        self._channel.publish(facts, now_ms)

    def on_second(self, now_ms: int) -> None:
        self._channel.on_second(now_ms)
