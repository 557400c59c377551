"""Send a live broker a million frames that are wrong, and see that nobody else notices.

``python -m tests.campaign.mutate_frames --frames 1000000 --seed 1``

A mutated frame counts once the broker has demonstrably read it: each is followed by a
Channel.Open on a fresh channel, and counts when that is answered, or when it is the one the
connection was closed over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.campaign.control_connection import Verdict
from tests.campaign.frames import (
    BASIC_PUBLISH,
    CHANNEL_CLOSE,
    CHANNEL_OPEN,
    CHANNEL_OPEN_OK,
    CLOSE,
    CLOSE_OK,
    METHOD,
    OPEN,
    PROTOCOL_HEADER,
    START_OK,
    Frame,
    connection_open,
    cut,
    method,
    with_credentials,
)
from tests.campaign.mutations import Mutator
from tests.campaign.victim import Victim

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
VHOST = "mutations"
EXCHANGE_CLASS = 40
EXCLUSIVE = b"\x04"
THREADS = 4
SLOW_READERS = 5
MUTATIONS_PER_CONNECTION = 12
FIRST_MARKER = 1024
CLEAN_UP_EVERY = 1000
"""Connections of one thread after which the vhost is deleted and made anew: what mutated
frames legitimately leave behind must not be mistaken for a leak."""
ANSWER_TIMEOUT_S = 20.0
RESIDENT_GROWTH_MB = 20.0
CONTROL_LATENCY_MS = 5000.0
SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Capture:
    """One recorded connection: its handshake, and what followed cut into units."""

    name: str
    start_ok: Frame
    tune_ok: Frame
    units: tuple[tuple[Frame, ...], ...]


def read_captures() -> list[Capture]:
    return [
        _capture(path.stem, list(cut(path.read_bytes().removeprefix(PROTOCOL_HEADER))))
        for path in sorted(CAPTURES.glob("*.bin"))
    ]


def _capture(name: str, frames: list[Frame]) -> Capture:
    start = next(place for place, frame in enumerate(frames) if frame.method == START_OK)
    opened = next(place for place, frame in enumerate(frames) if frame.method == OPEN)
    units: list[tuple[Frame, ...]] = []
    for frame in frames[opened + 1 :]:
        if frame.type == METHOD and frame.method != CLOSE:
            units.append((frame,))
        elif units and units[-1][0].method == BASIC_PUBLISH:
            units[-1] = (*units[-1], frame)
    return Capture(name, frames[start], frames[start + 1], tuple(units))


@dataclass(slots=True)
class Tally:
    """What was sent and what came back; one per thread, added up at the end."""

    connections: int = 0
    sent: int = 0
    read: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    silent: list[int] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.connections += other.connections
        self.sent += other.sent
        self.read += other.read
        self.kinds += other.kinds
        self.closes += other.closes
        self.silent += other.silent


@dataclass(frozen=True, slots=True)
class Target:
    """The broker to talk to."""

    port: int
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The bytes of one connection, its mutations by kind, and how it ends."""

    stream: bytes
    kinds: tuple[str, ...]
    ending: str


def make_plan(seed: int, number: int, captures: Sequence[Capture], target: Target) -> Plan:
    """Connection ``number`` of the campaign ``seed``, always the same."""
    dice = random.Random(f"{seed}:{number}")
    capture = dice.choice(captures)
    mutator = Mutator(dice)
    handshake = [
        with_credentials(capture.start_ok, target.user, target.password),
        capture.tune_ok,
        connection_open(VHOST),
    ]
    kinds: list[str] = []
    parts = [PROTOCOL_HEADER]
    wrong = dice.randrange(3) if dice.random() < 0.03 else -1
    for place, frame in enumerate(handshake):
        if place == wrong:
            kind, data = mutator.mutate([frame])
            kinds.append(f"handshake {kind}")
            parts.append(data)
        else:
            parts.append(bytes(frame))
    whole_session = dice.random() < 0.3
    pieces = _session(capture, mutator) if whole_session else _singles(capture, mutator)
    for kind, data in pieces:
        parts.append(data)
        if kind:
            parts.append(bytes(method(FIRST_MARKER + len(kinds), CHANNEL_OPEN, b"\0")))
            kinds.append(kind)
    ending = dice.choices(("close", "half-close", "truncate", "abort"), (80, 10, 6, 4))[0]
    if ending == "close":
        parts.append(bytes(method(0, CLOSE, b"\0\xc8\0\0\0\0\0")))
    elif ending == "truncate":
        parts.append(bytes(method(1, CHANNEL_OPEN, b"\0"))[: dice.randint(1, 11)])
    return Plan(b"".join(parts), tuple(kinds), ending)


def _session(capture: Capture, mutator: Mutator) -> Iterator[tuple[str, bytes]]:
    """The recorded session in its order and on its channels, some frames of it wrong."""
    mutated = 0
    for unit in capture.units:
        if mutated < MUTATIONS_PER_CONNECTION and mutator.dice.random() < 0.25:
            mutated += 1
            yield mutator.mutate(unit)
        else:
            yield "", b"".join(bytes(frame) for frame in unit)


def _singles(capture: Capture, mutator: Mutator) -> Iterator[tuple[str, bytes]]:
    """One wrong unit per channel, so that a closed channel hides none of the next."""
    # A second Channel.Open and its like end the connection at once, and have their own kinds.
    units = [unit for unit in capture.units if unit[0].payload[1] >= EXCHANGE_CLASS]
    for channel in range(1, MUTATIONS_PER_CONNECTION + 1):
        unit = mutator.dice.choice(units)
        moved = [Frame(frame.type, channel, frame.payload) for frame in unit]
        kind, data = mutator.mutate(moved)
        yield kind, bytes(method(channel, CHANNEL_OPEN, b"\0")) + data


def play(plan: Plan, target: Target, tally: Tally) -> bool:
    """Send it, read the answers to the end; False where the broker fell silent."""
    tally.connections += 1
    tally.sent += len(plan.kinds)
    with socket.create_connection(("127.0.0.1", target.port), ANSWER_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(plan.stream)
            if plan.ending == "abort":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                tally.closes["(aborted by us)"] += 1
                return True
            connection.shutdown(socket.SHUT_WR)
            answer = _read_to_end(connection)
        except TimeoutError:
            return False
        except OSError:
            # The broker closed while we were still sending: what it said is lost with it.
            tally.closes["(reset)"] += 1
            return True
    passed, verdict = _read_answer(answer, tally)
    read = plan.kinds[: passed + 1] if verdict != "none" else plan.kinds[:passed]
    tally.read += len(read)
    tally.kinds.update(read)
    return True


def _read_to_end(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def _read_answer(answer: bytes, tally: Tally) -> tuple[int, str]:
    """How many markers were answered, and how the broker ended the connection."""
    passed = 0
    verdict = "none"
    for frame in cut(answer):
        name = frame.method
        if name == CHANNEL_OPEN_OK:
            passed += frame.channel >= FIRST_MARKER
        elif name == CHANNEL_CLOSE:
            tally.closes[f"channel {int.from_bytes(frame.payload[4:6], 'big')}"] += 1
        elif name == CLOSE:
            verdict = f"connection {int.from_bytes(frame.payload[4:6], 'big')}"
        elif name == CLOSE_OK:
            verdict = "closed as asked"
    tally.closes[verdict if verdict != "none" else "(ended without a word)"] += 1
    return passed, verdict


class SlowReaders(threading.Thread):
    """Clients that ask for much and read nothing; the broker must neither wait nor hoard."""

    def __init__(self, target: Target, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.target = target
        self.stop = stop
        self.made = 0

    def run(self) -> None:
        open_ones: list[socket.socket] = []
        while not self.stop.is_set():
            with contextlib.suppress(OSError):
                open_ones.append(self.make())
                self.made += 1
            while len(open_ones) > SLOW_READERS:
                open_ones.pop(0).close()
            self.stop.wait(0.2)
        for connection in open_ones:
            connection.close()

    def make(self) -> socket.socket:
        name = f"slow{self.made}".encode()
        queue = bytes((len(name),)) + name
        body = b"s" * 100_000
        header = struct.pack(">HHQH", 60, 0, len(body), 0)
        publish = b"".join(
            bytes(frame)
            for frame in (
                method(1, BASIC_PUBLISH, b"\0\0\0" + queue + b"\0"),
                Frame(2, 1, header),
                Frame(3, 1, body),
            )
        )
        start_ok = read_captures()[0].start_ok
        stream = (
            PROTOCOL_HEADER
            + bytes(with_credentials(start_ok, self.target.user, self.target.password))
            + bytes(method(0, (10, 31), struct.pack(">HIH", 2047, 131072, 0)))
            + bytes(connection_open(VHOST))
            + bytes(method(1, CHANNEL_OPEN, b"\0"))
            + bytes(method(1, (50, 10), b"\0\0" + queue + EXCLUSIVE + b"\0\0\0\0"))
            + publish * 20
            + bytes(method(1, (60, 20), b"\0\0" + queue + b"\0" + b"\0" + b"\0\0\0\0"))
        )
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", self.target.port))
        with contextlib.suppress(OSError):
            connection.sendall(stream)
        return connection


@contextlib.contextmanager
def slow_readers(target: Target) -> Iterator[SlowReaders]:
    stop = threading.Event()
    readers = SlowReaders(target, stop)
    readers.start()
    try:
        yield readers
    finally:
        stop.set()
        readers.join()


@dataclass(slots=True)
class Report:
    """What the campaign saw; ``failures`` is empty where nobody but the offender was hurt."""

    seed: int
    frames: int
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0
    slow_readers: int = 0
    control: Verdict | None = None
    resident_before_mb: float = 0
    resident_after_mb: float = 0
    descriptors_before: int = 0
    descriptors_after: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.tally.read} mutated frames read by the broker "
            f"({self.tally.sent} sent) on {self.tally.connections} connections "
            f"in {self.seconds:.0f} s, beside {self.slow_readers} readers that never read",
            f"control connection: {self.control}",
            f"resident memory {self.resident_before_mb:.1f} MB before, "
            f"{self.resident_after_mb:.1f} MB after",
            f"open files {self.descriptors_before} before, {self.descriptors_after} after",
            "answers:",
            *(f"  {count:>9} {name}" for name, count in self.tally.closes.most_common()),
            "mutations read:",
            *(f"  {count:>9} {name}" for name, count in self.tally.kinds.most_common()),
        ]
        return "\n".join(lines)


def campaign(server: AmqpServer, *, frames: int, seed: int, progress: bool = False) -> Report:
    """Run it against a server that was not started yet."""
    victim = Victim(server)
    with sharp_allocator():
        victim.start()
    target = Target(server.port, server.user, server.password)
    report = Report(seed, frames)
    server.add_vhost(VHOST)
    # Caches and the allocator's arenas are filled by a first tenth, which is not judged.
    warm_up = min(frames // 10, 20_000)
    with slow_readers(target):
        _run(server, target, seed, warm_up, Tally(), progress=False)
    renew_vhost(server)
    time.sleep(1)
    report.resident_before_mb = victim.resident_mb()
    report.descriptors_before = victim.descriptors()
    pid = server.pid
    began = time.monotonic()
    with control_client(target) as finish:
        with slow_readers(target) as slow:
            _run(server, target, seed + 1, frames, report.tally, progress=progress)
        report.control = finish()
    report.seconds = time.monotonic() - began
    report.slow_readers = slow.made
    if not server.running or server.pid != pid:
        report.failures.append("the broker died")
        return report
    server.delete_vhost(VHOST)
    _settle(server, victim, report)
    report.failures += _judge(report, victim)
    return report


@contextlib.contextmanager
def sharp_allocator() -> Iterator[None]:
    """Let a child's C library give freed memory back at once.

    By default it keeps large freed blocks for later, now and then 15 MB more of them: that
    is no leak, and would hide one.
    """
    thresholds = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    before = {name: os.environ.get(name) for name in thresholds}
    os.environ.update(dict.fromkeys(thresholds, "131072"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def renew_vhost(server: AmqpServer) -> None:
    server.delete_vhost(VHOST)
    server.add_vhost(VHOST)


def _run(
    server: AmqpServer, target: Target, seed: int, frames: int, tally: Tally, *, progress: bool
) -> None:
    """Play numbered connections on a few threads until so many frames were read."""
    captures = read_captures()
    enough = threading.Event()
    tallies = [Tally() for _ in range(THREADS)]
    troubles: list[BaseException] = []

    def work(mine: int) -> None:
        own = tallies[mine]
        number = mine
        try:
            while not enough.is_set():
                if not play(make_plan(seed, number, captures, target), target, own):
                    own.silent.append(number)
                number += THREADS
                if mine == 0 and own.connections % CLEAN_UP_EVERY == 0:
                    renew_vhost(server)
                if sum(each.read for each in tallies) >= frames:
                    enough.set()
        except BaseException as error:
            troubles.append(error)
            enough.set()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(THREADS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while not enough.wait(10):
        if progress:
            read = sum(each.read for each in tallies)
            rate = read / (time.monotonic() - began)
            print(f"{read} frames read, {rate:.0f}/s", flush=True)
    for thread in threads:
        thread.join()
    for each in tallies:
        tally.add(each)
    if troubles:
        raise troubles[0]


@contextlib.contextmanager
def control_client(target: Target) -> Iterator[Callable[[], Verdict]]:
    """A well-behaved client in another process; the yielded function ends it and asks it."""
    words = [sys.executable, "-m", "tests.campaign.control_connection"]
    with subprocess.Popen(
        [*words, f"127.0.0.1:{target.port}", target.user],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None:
            raise RuntimeError("no standard input to speak to")
        process.stdin.write(target.password + "\n")
        process.stdin.flush()

        def finish() -> Verdict:
            output, _ = process.communicate(timeout=60)
            return Verdict(**json.loads(output))

        try:
            yield finish
        finally:
            process.kill()


def _settle(server: AmqpServer, victim: Victim, report: Report) -> None:
    """Give the broker a while to forget everybody, and note what it does not forget."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        report.resident_after_mb = victim.resident_mb()
        report.descriptors_after = victim.descriptors()
        left = _what_is_left(server)
        settled = (
            not left
            and report.descriptors_after <= report.descriptors_before
            and report.resident_after_mb <= report.resident_before_mb + RESIDENT_GROWTH_MB
        )
        if settled or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    report.failures += [f"left behind: {what}" for what in left[:5]]


def _what_is_left(server: AmqpServer) -> list[str]:
    rows = [*server.manage("GET", "connections")[1], *server.manage("GET", "queues")[1]]
    totals = server.manage("GET", "overview")[1]["object_totals"]
    gone = ("connections", "channels", "consumers", "queues")
    counted = [f"{totals[what]} {what}" for what in gone if totals[what]]
    return [*counted, *(str(row.get("name")) for row in rows)]


def _judge(report: Report, victim: Victim) -> list[str]:
    grown = report.resident_after_mb - report.resident_before_mb
    control = report.control
    found = [f"the broker's log says: {line}" for line in victim.complaints()[:5]]
    if grown > RESIDENT_GROWTH_MB:
        found.append(f"resident memory grew by {grown:.1f} MB and stayed there")
    if report.descriptors_after > report.descriptors_before:
        found.append(f"{report.descriptors_after - report.descriptors_before} files stay open")
    if report.tally.silent:
        numbers = report.tally.silent[:5]
        found.append(f"no answer within {ANSWER_TIMEOUT_S:g} s to connections {numbers}")
    if control is None or control.trouble or not control.round_trips:
        found.append(f"the control connection was disturbed: {control}")
    elif control.max_ms > CONTROL_LATENCY_MS:
        found.append(f"the control connection waited {control.max_ms} ms")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--only", type=int, default=None, help="play one connection and show it")
    parser.add_argument("--broker", choices=("embedded", "rabbitmq"), default="embedded")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    server = EmbeddedBrokerServer() if options.broker == "embedded" else RabbitMQServer()
    with contextlib.closing(server):
        if options.only is not None:
            server.start()
            return show(server, seed, options.only)
        report = campaign(server, frames=options.frames, seed=seed, progress=True)
        print(report)
        for failure in report.failures:
            print(f"FAILED: {failure}")
        if report.failures:
            print(f"the end of the broker's log:\n{server.log.read_text()[-3000:]}")
    return 1 if report.failures else 0


def show(server: AmqpServer, seed: int, number: int) -> int:
    """One connection of a campaign, alone: ``seed`` is the printed one plus one."""
    target = Target(server.port, server.user, server.password)
    server.add_vhost(VHOST)
    plan = make_plan(seed, number, read_captures(), target)
    tally = Tally()
    answered = play(plan, target, tally)
    print(f"{len(plan.stream)} bytes, {plan.ending}: {', '.join(plan.kinds)}")
    print(f"{'answered' if answered else 'SILENT'}: {dict(tally.closes)}, {tally.read} read")
    return 0 if answered else 1


if __name__ == "__main__":
    sys.exit(main())
