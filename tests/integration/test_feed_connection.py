"""A stream comes back from whatever its venue does, and never hammers it."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from botswarm.feed.connection import BACKOFF_MAX_S, Budget, Stream
from botswarm.testing.servers import HOST, free_port, wait_until

TEXT, PING, PONG, CLOSE = 0x1, 0x9, 0xA, 0x8

Behaviour = Callable[[socket.socket], None]


class Venue:
    """A WebSocket server that does what each of its behaviours says, one per connection."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = list(behaviours)
        self._listener = socket.create_server((HOST, free_port()))
        self.url = f"ws://{HOST}:{self._listener.getsockname()[1]}/stream"
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            behaviour = self._behaviours[min(self.connections, len(self._behaviours)) - 1]
            threading.Thread(target=self._serve, args=(connection, behaviour), daemon=True).start()

    def _serve(self, connection: socket.socket, behaviour: Behaviour) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = next(
            line.split(b": ")[1]
            for line in request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = hashlib.sha1(  # noqa: S324 - the protocol's own
            key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        ).digest()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        try:
            behaviour(connection)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()


def frame(code: int, payload: bytes = b"") -> bytes:
    return bytes([0x80 | code, len(payload)]) + payload


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Of a client, so masked; short ones only."""
    head = connection.recv(2, socket.MSG_WAITALL)
    if len(head) < 2:
        raise ConnectionResetError("the client has left")
    mask = connection.recv(4, socket.MSG_WAITALL)
    body = connection.recv(head[1] & 0x7F, socket.MSG_WAITALL) if head[1] & 0x7F else b""
    return head[0] & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))


def hangs_up(connection: socket.socket) -> None:
    connection.close()


def says_goodbye(connection: socket.socket) -> None:
    connection.sendall(frame(CLOSE, b"\x03\xe8"))


def talks_nonsense(connection: socket.socket) -> None:
    connection.sendall(b"\xff\xff\xff\xff not a frame")


def is_silent(connection: socket.socket) -> None:
    # It reads and never answers, not even a ping.
    while connection.recv(4096):
        pass


def speaks(connection: socket.socket) -> None:
    for number in range(1_000_000):
        connection.sendall(frame(TEXT, str(number).encode()))
        time.sleep(0.02)


def answers_pings_only(connection: socket.socket) -> None:
    connection.sendall(frame(TEXT, b"hello"))
    while True:
        code, payload = read_frame(connection)
        if code == PING:
            connection.sendall(frame(PONG, payload))


class Listener:
    def __init__(self, url: str, *, quiet_s: float = 0.2, budget: Budget | None = None) -> None:
        self.frames: list[bytes] = []
        self.downs = 0
        self.stream = Stream(
            url,
            budget=budget or Budget(100, 60),
            on_frame=self.frames.append,
            on_down=self._down,
            quiet_s=quiet_s,
        )
        self.stream.start()

    def _down(self) -> None:
        self.downs += 1


@pytest.fixture
def cleanup() -> Iterator[list[Callable[[], None]]]:
    """Run in the order in which they were added."""
    jobs: list[Callable[[], None]] = []
    yield jobs
    for job in jobs:
        job()


@pytest.mark.parametrize("ends", [hangs_up, says_goodbye, talks_nonsense, is_silent])
def test_a_stream_comes_back_however_it_ended(
    ends: Behaviour, cleanup: list[Callable[[], None]]
) -> None:
    venue = Venue(ends, speaks)
    listener = Listener(venue.url)
    cleanup += [listener.stream.stop, venue.close]
    wait_until(lambda: len(listener.frames) >= 3, "frames after the end", 10)
    assert listener.downs == 1
    assert venue.connections == 2


def test_a_quiet_venue_that_answers_pings_is_not_left(
    cleanup: list[Callable[[], None]],
) -> None:
    venue = Venue(answers_pings_only)
    listener = Listener(venue.url, quiet_s=0.1)
    cleanup += [listener.stream.stop, venue.close]
    wait_until(lambda: bool(listener.frames), "the first word", 5)
    time.sleep(1.0)
    assert (venue.connections, listener.downs) == (1, 0)


def test_the_venue_s_pings_are_answered_with_their_own_words(
    cleanup: list[Callable[[], None]],
) -> None:
    heard: list[tuple[int, bytes]] = []

    def pings(connection: socket.socket) -> None:
        connection.sendall(frame(PING, b"1700000000000"))
        heard.append(read_frame(connection))
        speaks(connection)

    venue = Venue(pings)
    listener = Listener(venue.url, quiet_s=5)
    cleanup += [listener.stream.stop, venue.close]
    wait_until(lambda: bool(listener.frames), "frames", 5)
    assert heard == [(PONG, b"1700000000000")]


def test_a_venue_that_is_down_is_asked_ever_more_rarely(
    cleanup: list[Callable[[], None]],
) -> None:
    attempts: list[float] = []

    class Noting(Budget):
        def take(self) -> float:
            attempts.append(time.monotonic())
            return 0.0

    listener = Listener(f"ws://{HOST}:{free_port()}", budget=Noting(1, 1))
    cleanup.append(listener.stream.stop)
    wait_until(lambda: len(attempts) >= 5, "five attempts", 10)
    assert attempts[4] - attempts[0] > 0.5 * (0.1 + 0.2 + 0.4 + 0.8)
    assert BACKOFF_MAX_S == 5.0


def test_the_budget_of_connections_is_kept_over_all_streams() -> None:
    now = [0.0]
    budget = Budget(3, 60, lambda: now[0])
    assert [budget.take() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert budget.take() == 60.0
    now[0] = 59.0
    assert budget.take() == 1.0
    now[0] = 60.0
    assert budget.take() == 0.0


def test_stopping_ends_a_stream_that_waits_for_a_silent_venue(
    cleanup: list[Callable[[], None]],
) -> None:
    venue = Venue(is_silent)
    listener = Listener(venue.url, quiet_s=30)
    cleanup.append(venue.close)
    assert listener.stream.wait_up(5)
    began = time.monotonic()
    listener.stream.stop()
    assert time.monotonic() - began < 1
    assert not listener.stream.is_up
