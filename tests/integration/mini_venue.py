"""A venue small enough to misbehave in every way, and the MarketData that reads it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Book, Candle, Channel, Status, Tick, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.streams import (
    Beat,
    Broken,
    Declined,
    GoingAway,
    Heard,
    Skipped,
    Stream,
    StreamRules,
    Subscribed,
    Unreadable,
    Unsubscribed,
)
from botswarm.testing.servers import HOST, free_port

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
RULES = StreamRules(
    streams_max=50,
    connects_max=100,
    connects_period_s=60.0,
    sends_per_s=50.0,
    silence_s=30.0,
)


def frame(code: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    head = (0x80 if fin else 0) | code
    if len(payload) < 126:
        return bytes([head, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([head, 126]) + len(payload).to_bytes(2, "big") + payload
    return bytes([head, 127]) + len(payload).to_bytes(8, "big") + payload


class Client:
    """One connection of ours, as the venue sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.streams: set[str] = set()
        self.heard: list[tuple[float, int, bytes]] = []
        self._lock = threading.Lock()

    def send(self, code: int, payload: bytes = b"") -> None:
        self.send_raw(frame(code, payload))

    def send_raw(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.socket.sendall(data)

    def say(self, **words: object) -> None:
        self.send(TEXT, json.dumps(words).encode())

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def texts(self) -> list[str]:
        return [data.decode() for _, code, data in self.heard if code == TEXT]

    def codes(self) -> list[int]:
        return [code for _, code, _ in self.heard]


class MiniVenue:
    """Its trades are numbered by market; whoever subscribed gets them."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.attempts: list[float] = []
        """When each connection was made."""
        self.clients: list[Client] = []
        self.acknowledges = self.answers_pings = True
        self.obeys: Callable[[Client, str], bool] = lambda client, name: True
        """Or declines the stream of that name."""
        self.greeting: Callable[[Client], None] = lambda client: None
        self.delay_s = 0.0
        """Before the handshake is answered."""
        self.answer_head = b""
        """Instead of a good one to the handshake."""
        self._tls = tls
        self._ids: dict[str, int] = {}
        self._listener: socket.socket | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://{HOST}:{self.port}/"

    def open(self) -> None:
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuses whoever comes, and hangs up on all."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        for client in list(self.clients):
            client.hang_up()

    def trade(self, symbol: str, *, skip: int = 0) -> int:
        """The next one of this market, told to its subscribers."""
        number = self._ids[symbol] = self._ids.get(symbol, 0) + 1 + skip
        for client in list(self.clients):
            if f"{symbol}.trade" in client.streams:
                client.say(trade=symbol, id=number)
        return number

    def streams(self) -> list[str]:
        return sorted(name for client in self.clients for name in client.streams)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.attempts.append(time.monotonic())
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                self._welcome(sock)
        finally:
            sock.close()

    def _welcome(self, sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (data := sock.recv(4096)):
                return
            request += data
        if self.answer_head:
            sock.sendall(self.answer_head)
            sock.recv(1)
            return
        time.sleep(self.delay_s)
        sock.sendall(_accepted(request))
        client = Client(sock)
        self.clients.append(client)
        try:
            self.greeting(client)
            self._converse(client)
        finally:
            if client in self.clients:
                self.clients.remove(client)

    def _converse(self, client: Client) -> None:
        while True:
            code, payload = _read_frame(client.socket)
            client.heard.append((time.monotonic(), code, payload))
            if code == PING and self.answers_pings:
                client.send(PONG, payload)
            elif code == TEXT:
                self._obey(client, json.loads(payload))

    def _obey(self, client: Client, message: dict[str, list[str]]) -> None:
        if not self.acknowledges:
            return
        if names := message.get("sub"):
            declined = [name for name in names if not self.obeys(client, name)]
            names = [name for name in names if name not in declined]
            if declined:
                client.say(declined=declined)
            client.streams |= set(names)
            client.say(subbed=names)
        if names := message.get("unsub"):
            client.streams -= set(names)
            client.say(unsubbed=names)


class MiniSession:
    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, streams: Sequence[Stream]) -> str:
        return self._url

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        return [json.dumps({"sub": list(map(_name, streams))})] if streams else []

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        return [json.dumps({"unsub": list(map(_name, streams))})]

    def ping(self) -> str | None:
        return None

    def read(self, data: str | bytes, received_ms: int) -> Sequence[Heard]:
        try:
            words = json.loads(data)
        except ValueError as error:
            raise Unreadable("not_json", str(error)) from error
        if "trade" in words:
            at_ms = words.get("at", received_ms)
            return (trade_of(words["trade"], words["id"], at_ms, received_ms),)
        if "subbed" in words:
            return (Subscribed(streams=tuple(map(_stream, words["subbed"]))),)
        if "unsubbed" in words:
            return (Unsubscribed(streams=tuple(map(_stream, words["unsubbed"]))),)
        if "declined" in words:
            return (Declined(streams=tuple(map(_stream, words["declined"])), reason="no"),)
        if "beat" in words:
            return (Beat(symbol=words["beat"], last_trade_id=words["id"]),)
        if "bye" in words:
            return (GoingAway(reason=words["bye"]),)
        if "skipped" in words:
            return (Skipped(count=words["skipped"]),)
        if "broken" in words:
            stream = _stream(words["broken"])
            return (Broken(stream=stream, reason="sequence", words="1 after 3"),)
        if "crash" in words:
            raise RuntimeError("a mistake in the reader")
        raise Unreadable("unknown_event", "nothing known")

    def resync(self, stream: Stream) -> Sequence[str]:
        return [json.dumps({"resync": _name(stream)})]

    def whole(self, book: Book) -> Sequence[Heard]:
        return (book,)


class MiniData:
    channels: frozenset[Channel] = frozenset({"trade", "quote", "book"})

    def __init__(self, url: str, rules: StreamRules = RULES, **changes: float) -> None:
        self.name = "mini"
        self.rules = replace(rules, **changes)  # type: ignore[arg-type]  # numbers all of them
        self._url = url

    def reader(self) -> MiniSession:
        return self.session()

    def session(self) -> MiniSession:
        return MiniSession(self._url)

    def instruments(self) -> Sequence[Instrument]:
        return ()

    def statuses(self) -> Sequence[Status]:
        return ()

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        return ()

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        return ()

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        return ()

    def book(self, symbol: str) -> Book | None:
        return None


class Heap:
    """Where the ticks go."""

    def __init__(self) -> None:
        self.ids: dict[str, list[int]] = {}
        self.interrupted_symbols: list[str] = []
        self.suspected: list[str] = []
        self.announced: list[tuple[str, int]] = []
        self.stall_s = 0.0
        """Once, with the next ticks: as a machine does that has other things to do."""

    def put(self, ticks: Sequence[Tick], at: float | None = None) -> None:
        if self.stall_s:
            stall_s, self.stall_s = self.stall_s, 0.0
            time.sleep(stall_s)
        for tick in ticks:
            if isinstance(tick, Trade):
                self.ids.setdefault(tick.symbol, []).append(tick.trade_id)

    def interrupted(self, symbols: Iterable[str]) -> None:
        self.interrupted_symbols += symbols

    def suspect(self, symbols: Iterable[str]) -> None:
        self.suspected += symbols

    def announce(self, symbol: str, last_trade_id: int) -> None:
        self.announced.append((symbol, last_trade_id))


def trade_of(symbol: str, number: int, at_ms: int, received_ms: int) -> Trade:
    return Trade(
        venue="mini",
        symbol=symbol,
        trade_id=number,
        price=Decimal(100),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=at_ms,
        received_ms=received_ms,
    )


def trades(*symbols: str) -> set[Stream]:
    return {Stream(symbol, "trade") for symbol in symbols}


def _name(stream: Stream) -> str:
    return f"{stream.symbol}.{stream.channel}"


def _stream(name: str) -> Stream:
    symbol, _, channel = name.partition(".")
    return Stream(symbol, channel)  # type: ignore[arg-type]  # it was one when it was asked for


def _accepted(request: bytes) -> bytes:
    lines = request.split(b"\r\n")
    key = next(each for each in lines if each.lower().startswith(b"sec-websocket-key"))
    digest = hashlib.sha1(  # noqa: S324 - the protocol's own
        key.split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    ).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def _read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Of a client, so masked."""
    head = _exactly(sock, 2)
    length = head[1] & 0x7F
    if length == 126:
        length = int.from_bytes(_exactly(sock, 2), "big")
    elif length == 127:
        length = int.from_bytes(_exactly(sock, 8), "big")
    mask = _exactly(sock, 4)
    body = _exactly(sock, length)
    return head[0] & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := sock.recv(size - len(data))):
            raise ConnectionResetError("the client has left")
        data += more
    return data
