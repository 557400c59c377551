"""The proxy that breaks the network does so as it is told, and heals."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from botswarm.testing.proxy import CLEAN, FaultProxy, Toxics
from botswarm.testing.servers import HOST, free_port, wait_until


class Echo:
    """Answers every byte with itself, and remembers who asked and what arrived."""

    def __init__(self) -> None:
        self.port = free_port()
        self.listener = socket.create_server((HOST, self.port))
        self.arrived: list[bytes] = []
        self.peers: list[str] = []
        self.pieces: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                self.peers.append(peer[0])
                self.arrived.append(b"")
                number = len(self.arrived) - 1
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65_536):
                self.pieces.append(len(data))
                self.arrived[number] += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.port, source="127.0.0.2") as made:
        yield made


@pytest.fixture
def line(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, proxy.port), timeout=3) as made:
        assert asked(made, b"hello") == b"hello"
        yield made


def asked(line: socket.socket, data: bytes) -> bytes:
    line.sendall(data)
    answer = b""
    while len(answer) < len(data):
        if not (part := line.recv(65_536)):
            raise ConnectionError("it was closed")
        answer += part
    return answer


def seconds_to_ask(line: socket.socket, data: bytes = b"x") -> float:
    began = time.monotonic()
    assert asked(line, data) == data
    return time.monotonic() - began


def test_a_healthy_proxy_changes_nothing_but_the_address(
    echo: Echo, proxy: FaultProxy, line: socket.socket
) -> None:
    data = bytes(range(256)) * 4096
    assert asked(line, data) == data
    assert echo.peers == ["127.0.0.2"]
    assert (proxy.accepted, proxy.open_connections) == (1, 1)


def test_latency_delays_and_takes_no_throughput_away(
    proxy: FaultProxy, line: socket.socket
) -> None:
    proxy.set(up=Toxics(latency_s=0.2, jitter_s=0.05), down=Toxics(latency_s=0.1))
    assert 0.24 < seconds_to_ask(line) < 1.0
    # Twenty questions on the way at once need no twenty delays.
    assert seconds_to_ask(line, b"y" * 20) < 1.5
    proxy.heal()
    assert seconds_to_ask(line) < 0.2


def test_bandwidth_and_slices_are_kept_to(
    echo: Echo, proxy: FaultProxy, line: socket.socket
) -> None:
    proxy.set(up=Toxics(bytes_per_s=2000))
    assert 0.3 < seconds_to_ask(line, b"z" * 1000) < 3
    echo.pieces.clear()
    proxy.set(up=Toxics(slice_bytes=1, slice_pause_s=0.005))
    assert asked(line, b"slices") == b"slices"
    assert echo.pieces == [1] * 6


def test_a_black_hole_swallows_and_tells_nobody(
    echo: Echo, proxy: FaultProxy, line: socket.socket
) -> None:
    proxy.set(up=Toxics(is_black_hole=True))
    line.sendall(b"lost")
    line.settimeout(0.4)
    with pytest.raises(TimeoutError):
        line.recv(10)
    proxy.set(up=CLEAN)
    line.settimeout(3)
    assert asked(line, b"found") == b"found"
    assert echo.arrived == [b"hellofound"]


def test_a_connection_is_reset_after_so_many_bytes_or_at_once(
    echo: Echo, proxy: FaultProxy, line: socket.socket
) -> None:
    proxy.set(up=Toxics(cut_after_bytes=3))
    with pytest.raises(ConnectionError):
        asked(line, b"abcdef")
    assert echo.arrived[0] in (b"helloabc", b"hello")  # a reset may overtake what it follows
    proxy.heal()
    with socket.create_connection((HOST, proxy.port), timeout=3) as other:
        assert asked(other, b"abcdef") == b"abcdef"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionError):
            asked(other, b"again")


def test_while_it_is_down_attempts_are_refused(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.down()
    with pytest.raises(ConnectionError):
        asked(line, b"anybody")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, proxy.port), timeout=3)
    proxy.up()
    with socket.create_connection((HOST, proxy.port), timeout=3) as other:
        assert asked(other, b"back") == b"back"


def test_what_is_held_arrives_when_it_is_released_and_twice_if_that_is_asked(
    echo: Echo, proxy: FaultProxy, line: socket.socket
) -> None:
    proxy.hold()
    line.sendall(b"order")
    line.settimeout(0.3)
    with pytest.raises(TimeoutError):
        line.recv(10)
    line.settimeout(3)
    proxy.release(copies_after_s=0)
    assert line.recv(10) == b"order"
    wait_until(lambda: sorted(echo.arrived) == [b"helloorder", b"order"], "the copy", 3)


def test_a_slow_close_reaches_the_other_side_late(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.set(up=Toxics(close_after_s=0.5))
    line.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    assert line.recv(10) == b""
    assert 0.4 < time.monotonic() - began < 2
    wait_until(lambda: proxy.open_connections == 0, "the connection to be gone", 3)


def test_a_target_that_refuses_looks_like_one_through_the_proxy() -> None:
    with (
        FaultProxy(free_port()) as proxy,
        socket.create_connection((HOST, proxy.port), timeout=3) as line,
        pytest.raises(ConnectionError),
    ):
        asked(line, b"x")
