"""One thread for all connections of a venue: none waits for another, and none is woken for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import websocket

from botswarm.domain.market import Tick
from botswarm.feed import dial
from botswarm.feed.basket import Basket
from botswarm.feed.dial import Opened, Wire
from botswarm.feed.frames import FrameReader
from botswarm.feed.listener import Listener
from botswarm.testing.servers import wait_until
from tests.integration.mini_venue import trade_of

OPENED = Opened(connect_ms=0.0, tls_ms=0.0, handshake_ms=0.0)
MIB = 1_048_576


@dataclass(eq=False)
class Pipe:
    """A member that notes what it hears; what is at its other end is a test's."""

    listener: Listener
    heard: bytes = b""
    came: list[float] = field(default_factory=list)
    attended: int = 0
    asked: list[Callable[[], None]] = field(default_factory=list)
    has_ended: bool = False

    def __post_init__(self) -> None:
        near, self.far = socket.socketpair()
        self.wire = Wire(near, OPENED)
        self.listener.add(self)

    def fileno(self) -> int:
        return self.wire.fileno()

    @property
    def has_more(self) -> bool:
        return self.wire.has_more

    @property
    def is_held_up(self) -> bool:
        return self.wire.is_held_up

    def attend(self, now: float, came: float | None) -> float | None:
        self.attended += 1
        while self.asked:
            self.asked.pop()()
        self.wire.flush()
        data = None if came is None else self.wire.read()
        if data == b"":
            self.has_ended = True
            self.wire.close()
            return None
        if data:
            self.heard += data
            self.came += [] if came is None else [came]
        return now + 60

    def ask(self, what: Callable[[], None]) -> None:
        self.asked.append(what)
        self.listener.nudge(self)


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made: list[Pipe] = []
    yield made
    for pipe in made:
        pipe.far.close()
    wait_until(lambda: all(pipe.has_ended for pipe in made), "the end of all", 10)


def is_listening(name: str) -> bool:
    return any(thread.name == f"listener {name}" for thread in threading.enumerate())


def test_what_comes_on_many_sockets_is_read_in_one_round(pipes: list[Pipe]) -> None:
    rounds: list[int] = []
    listener = Listener(
        "many", after_round=lambda: rounds.append(sum(len(p.heard) for p in pipes)), rest_s=0.3
    )
    pipes += [Pipe(listener) for _ in range(10)]
    pipes[0].far.sendall(b"a")
    wait_until(lambda: rounds == [1], "the first round", 5)
    before = time.monotonic()
    for pipe in pipes:
        pipe.far.sendall(b"b")
    if time.monotonic() - before > 0.1:
        pytest.skip("the machine took longer than the listener rests")
    wait_until(lambda: rounds == [1, 11], "all the others together", 5)
    # Nobody knows when in its rest they came, so it says the earliest.
    assert all(pipe.came[-1] <= before for pipe in pipes)


def test_a_socket_that_takes_nothing_holds_up_nobody_and_gets_all_in_the_end(
    pipes: list[Pipe],
) -> None:
    listener = Listener("held up")
    pipes += [Pipe(listener), Pipe(listener)]
    slow, other = pipes
    words = [bytes([number]) * 100_000 for number in range(20)]

    def say_all() -> None:
        for word in words:
            slow.wire.send(word)

    slow.ask(say_all)
    wait_until(lambda: slow.is_held_up, "the socket to be full", 5)
    other.far.sendall(b"still there?")
    wait_until(lambda: other.heard == b"still there?", "the other one to be read", 5)
    slow.far.setblocking(True)
    slow.far.settimeout(10)
    wanted = sum(len(websocket.ABNF.create_frame(w, 1).format()) for w in words)
    taken = b""
    while len(taken) < wanted:
        taken += slow.far.recv(MIB)
    assert unmasked(taken) == words
    wait_until(lambda: not slow.is_held_up, "nothing to wait any more", 5)


def unmasked(data: bytes) -> list[bytes]:
    """Messages that say one letter again and again."""
    found = []
    while data:
        assert data[1] == 0xFF, "a masked frame of 64 bits of length"
        size, mask = int.from_bytes(data[2:10], "big"), data[10:14]
        body, data = data[14 : 14 + size], data[14 + size :]
        assert body == body[:4] * (size // 4)
        found.append(bytes(map(int.__xor__, body[:4], mask)) * (size // 4))
    return found


def test_a_socket_that_never_takes_anything_is_an_error_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dial, "SEND_TIMEOUT_S", 0.1)
    near, far = socket.socketpair()
    wire = Wire(near, OPENED)
    wire.send(b"x" * 10 * MIB)
    time.sleep(0.2)
    with pytest.raises(TimeoutError, match="takes nothing"):
        wire.flush()
    near.close()
    far.close()


def test_more_than_one_round_may_read_is_read_in_the_next_ones(pipes: list[Pipe]) -> None:
    listener = Listener("flood")
    pipes.append(Pipe(listener))
    threading.Thread(target=pipes[0].far.sendall, args=(b"x" * 4 * MIB,), daemon=True).start()
    wait_until(lambda: len(pipes[0].heard) == 4 * MIB, "all of it", 10)


def test_one_that_fails_leaves_the_others_heard(
    pipes: list[Pipe], caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener("failing")
    pipes += [Pipe(listener), Pipe(listener)]

    def fail() -> None:
        raise RuntimeError("a mistake in one")

    pipes[0].ask(fail)
    wait_until(lambda: "failed for a moment" in caplog.text, "the failure", 5)
    for pipe in pipes:
        pipe.far.sendall(b"on")
    wait_until(lambda: [pipe.heard for pipe in pipes] == [b"on", b"on"], "both", 5)


def test_its_thread_lives_as_long_as_it_has_somebody_to_listen_to(pipes: list[Pipe]) -> None:
    listener = Listener("coming and going")
    for _ in range(2):
        pipes.append(Pipe(listener))
        wait_until(lambda: pipes[-1].attended > 0, "to be attended to", 5)
        assert is_listening("coming and going")
        pipes[-1].far.close()
        wait_until(lambda: not is_listening("coming and going"), "the end", 5)


def test_a_basket_is_passed_on_whole_with_the_moment_its_first_came() -> None:
    passed: list[tuple[list[int], float]] = []

    def put(ticks: object, came: float) -> None:
        assert isinstance(ticks, list)
        passed.append(([each.trade_id for each in ticks], came))

    basket = Basket(put)
    basket.empty()
    one, two, three = (trade_of("A-B", number, 0, 0) for number in (1, 2, 3))
    first: list[Tick] = [one]
    basket.put(first, 5.0)
    basket.put([two], 6.0)
    basket.empty()
    basket.put([three], 7.0)
    basket.empty()
    assert passed == [([1, 2], 5.0), ([3], 7.0)]
    assert first == [one]


def test_frames_wait_for_their_end_over_rounds() -> None:
    near, far = socket.socketpair()
    wire, reader = Wire(near, OPENED), FrameReader(MIB)
    far.sendall(b"\x81\x05he")
    assert reader.feed(wire.read() or b"") == []
    assert wire.read() is None
    far.sendall(b"llo")
    assert [each.data for each in reader.feed(wire.read() or b"")] == [b"hello"]
    far.close()
    assert wire.read() == b""
    near.close()
