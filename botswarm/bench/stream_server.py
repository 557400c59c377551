"""A loopback venue that only streams: Binance's combined stream for many markets, at any rate.

It speaks enough of Binance's public REST for a feed to start and to mend its gaps, and costs a few
microseconds a frame, so that what is measured is who reads it. ``python -m
botswarm.bench.stream_server --help`` shows its options; ``StreamServer`` runs it beside a test.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botswarm.bench.stream_venue import Line, Venue, head, symbols
from botswarm.exchanges.simulated import record
from botswarm.testing.servers import HOST, Server

SEND_TIMEOUT_S = 10.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Client:
    """One TCP connection: HTTP requests, of which one may turn it into a stream."""

    def __init__(self, venue: Venue, connection: socket.socket) -> None:
        self._venue = venue
        self._socket = connection
        self._file = connection.makefile("rb")

    def run(self) -> None:
        try:
            while self._request():
                pass
        except (OSError, ValueError, struct.error):
            pass  # it went away in the middle of a word
        finally:
            self._file.close()
            self._socket.close()

    def _request(self) -> bool:
        words = self._file.readline(65_536).decode("latin-1").split()
        if len(words) < 2:
            return False
        headers = {}
        while line := self._file.readline(65_536).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        url = urlsplit(words[1])
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if headers.get("upgrade", "").lower() == "websocket":
            self._stream(headers["sec-websocket-key"], url.path, query)
            return False
        answer = self._venue.answer(url.path, query)
        status = "404 Not Found" if answer is None else "200 OK"
        body = json.dumps(answer if answer is not None else {"code": -1, "msg": "not here"})
        self._socket.sendall(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        return headers.get("connection", "").lower() != "close"

    def _stream(self, key: str, path: str, query: dict[str, str]) -> None:
        accept = base64.b64encode(
            hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
        ).decode()
        self._socket.settimeout(None)
        # A reader that takes nothing for so long is gone; reading may take for ever.
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_TIMEOUT_S), 0)
        )
        self._socket.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        line = Line(self._socket)
        self._venue.connects += 1
        named = unquote(query.get("streams", "")) or path.removeprefix("/ws").strip("/")
        if named and named != "stream":
            self._venue.subscribe(line, named.split("/"))
        try:
            while self._frame(line):
                pass
        finally:
            self._venue.leave(line)

    def _frame(self, line: Line) -> bool:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        mask = self._exactly(4)
        payload = self._exactly(size)
        text = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
        match first & 0x0F:
            case 0x8:
                return False
            case 0x9:
                line.send(bytes((0x8A, len(text))) + text)
            case 0x1:
                answer = json.dumps(self._answer(line, text)).encode()
                line.send(head(len(answer)) + answer)
        return True

    def _answer(self, line: Line, text: bytes) -> dict[str, Any]:
        wish = json.loads(text)
        result: Any = None
        if wish["method"] == "SUBSCRIBE":
            self._venue.subscribe(line, wish["params"])
        elif wish["method"] == "UNSUBSCRIBE":
            self._venue.unsubscribe(line, wish["params"])
        elif wish["method"] == "LIST_SUBSCRIPTIONS":
            result = sorted(line.streams)
        return {"result": result, "id": wish.get("id")}

    def _exactly(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise OSError("hung up")
        return found


def serve(venue: Venue, port: int) -> None:
    listener = socket.create_server((HOST, port), backlog=64)
    threading.Thread(target=venue.run, name="speaking", daemon=True).start()
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(venue, connection)
        threading.Thread(target=client.run, name="client", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m botswarm.bench.stream_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--markets", type=int, default=100)
    parser.add_argument("--trades-per-s", type=float, default=100.0, help="of all together")
    parser.add_argument("--quotes-per-s", type=float, default=0.0, help="of all together")
    parser.add_argument("--history", type=int, default=1000, help="closed candles of a market")
    parser.add_argument("--state-dir", type=Path, help="leave an exchange's address card there")
    options = parser.parse_args(arguments)
    rates = options.trades_per_s, options.quotes_per_s
    venue = Venue(options.markets, *rates, history=options.history)
    if options.state_dir is not None:
        leave_card(options.state_dir, options.port)
    serve(venue, options.port)


def leave_card(state_dir: Path, port: int) -> None:
    """A feed started with this state folder takes it for the simulated exchange."""
    state_dir.mkdir(parents=True, exist_ok=True)
    record.write(
        state_dir,
        record.ExchangeRecord(
            host=HOST,
            port=port,
            rest_url=f"http://{HOST}:{port}",
            stream_url=f"ws://{HOST}:{port}",
            ws_api_url=f"ws://{HOST}:{port}/ws-api/v3",
            api_key="none",
            api_secret="none",  # noqa: S106 - it has no accounts
            pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


class StreamServer(Server):
    """The same in a process of its own, with a state folder that feeds can be started in."""

    name = "stream-server"

    def __init__(
        self,
        *,
        markets: int,
        trades_per_s: float,
        quotes_per_s: float = 0.0,
        history: int = 1000,
    ) -> None:
        super().__init__()
        self.symbols = symbols(markets)
        self.state_dir = self.data / "state"
        self.rest_url = f"http://{HOST}:{self.port}"
        self.stream_url = f"ws://{HOST}:{self.port}"
        self._rates = trades_per_s, quotes_per_s
        self._history = history

    def truth(self) -> dict[str, Any]:
        """What it has said so far, last ids by the venue's symbol included."""
        return self._ask("/bench/truth")

    def set_rates(self, *, trades_per_s: float, quotes_per_s: float = 0.0) -> dict[str, Any]:
        return self._ask(f"/bench/rates?trade={trades_per_s}&bookTicker={quotes_per_s}")

    def _ask(self, target: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", target)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def _launch(self) -> None:
        trades, quotes = self._rates
        self._run(
            [
                *(sys.executable, "-m", "botswarm.bench.stream_server"),
                *("--port", str(self.port), "--markets", str(len(self.symbols))),
                *("--trades-per-s", str(trades), "--quotes-per-s", str(quotes)),
                *("--history", str(self._history), "--state-dir", self.state_dir),
            ]
        )

    def _is_ready(self) -> bool:
        try:
            return bool(self.truth())
        except OSError:
            return False


if __name__ == "__main__":
    main()
