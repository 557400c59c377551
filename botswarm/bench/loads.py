"""The loads a broker is measured under; each returns what docs/bench.md defines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import amqp

from botswarm.bench.noop_worker import ECHO, NOOP, QUEUE, make_app
from botswarm.errors import BotswarmError, TimedOut
from botswarm.testing.servers import AmqpServer

BODY = b"b" * 200
CLASSIC, QUORUM = "bench.classic", "bench.quorum"
PREFETCH = 500
WINDOW = 100
PATIENCE_S = 300.0
POLL_S = 0.01
TICK = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def connected(server: AmqpServer, *, confirm: bool = False) -> Iterator[amqp.Channel]:
    """A channel of a connection of its own."""
    with amqp.Connection(
        f"{server.host}:{server.port}",
        userid=server.user,
        password=server.password,
        heartbeat=0,
        confirm_publish=confirm,
        read_timeout=PATIENCE_S,
    ) as connection:
        yield connection.channel()


def declare(channel: amqp.Channel, queue: str = CLASSIC) -> None:
    kind = "quorum" if queue == QUORUM else "classic"
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": kind})


# --- Celery ------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker(server: AmqpServer) -> Iterator[None]:
    """A ``celery worker`` process with two prefork children."""
    process = subprocess.Popen(
        [sys.executable, "-m", "botswarm.bench.noop_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        if process.stdin is not None:
            process.stdin.write(f"{server.url()}\n")
            process.stdin.close()
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tasks_and_round_trips(server: AmqpServer, tasks: int, trips: int) -> tuple[float, list[float]]:
    """Tasks drained per second, and the milliseconds of each round trip, sorted."""
    app = make_app(server.url())
    try:
        with app.producer_pool.acquire() as producer:
            for _ in range(tasks):
                app.send_task(NOOP, producer=producer)
        with worker(server), connected(server) as channel:
            rate = _drain_rate(channel, tasks)
            return rate, _round_trips(app, trips)
    finally:
        app.backend.result_consumer.stop()  # its connection is not of the app's pool
        app.close()


def _drain_rate(channel: amqp.Channel, tasks: int) -> float:
    """From the first look that finds 5 % gone (start-up is over) to the first at an empty queue."""
    began = started_with = 0.0
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        left = channel.queue_declare(QUEUE, passive=True).message_count
        now = time.perf_counter()
        if not began and left < tasks * 0.95:
            began, started_with = now, left
        if left == 0:
            return started_with / (now - began)
        time.sleep(POLL_S)
    raise TimedOut(
        f"the worker did not drain {tasks} tasks in {PATIENCE_S:g} s",
        cure="run the bench on a machine that is otherwise idle",
    )


def _round_trips(app: object, trips: int) -> list[float]:
    took = []
    for number in range(trips + 20):
        began = time.perf_counter()
        app.send_task(ECHO, (number,)).get(timeout=30)  # type: ignore[attr-defined]
        took.append((time.perf_counter() - began) * 1e3)
    return sorted(took[20:])  # connections and caches are warm after twenty


# --- plain AMQP --------------------------------------------------------------------------------


def publish(server: AmqpServer, messages: int) -> float:
    """Publishes per second without confirms, until the broker has taken the last one."""
    with connected(server) as channel:
        declare(channel)
        message = amqp.Message(BODY, delivery_mode=2)
        began = time.perf_counter()
        for _ in range(messages):
            channel.basic_publish(message, exchange="", routing_key=CLASSIC)
        _settle(channel)
        return messages / (time.perf_counter() - began)


def publish_confirmed(server: AmqpServer, messages: int) -> float:
    """Publishes per second when each waits for its confirm."""
    with connected(server, confirm=True) as channel:
        declare(channel)
        message = amqp.Message(BODY, delivery_mode=2)
        began = time.perf_counter()
        for _ in range(messages):
            channel.basic_publish(message, exchange="", routing_key=CLASSIC)
        return messages / (time.perf_counter() - began)


def publish_pipelined(
    server: AmqpServer, messages: int, queue: str = CLASSIC, window: int = WINDOW
) -> float:
    """Publishes per second with at most ``window`` of them unconfirmed; all are at the end."""
    with connected(server) as channel:
        declare(channel, queue)
        channel.confirm_select()
        confirmed = 0

        def on_ack(tag: int, multiple: bool) -> None:
            nonlocal confirmed
            confirmed = max(confirmed, tag) if multiple else confirmed + 1

        channel.events["basic_ack"].add(on_ack)
        message = amqp.Message(BODY, delivery_mode=2)
        began = time.perf_counter()
        for number in range(messages):
            channel.basic_publish(message, exchange="", routing_key=queue)
            while number - confirmed >= window:
                channel.connection.drain_events()
        while confirmed < messages:
            channel.connection.drain_events()
        return messages / (time.perf_counter() - began)


def consume(server: AmqpServer, messages: int, *, no_ack: bool) -> float:
    """Deliveries per second from a queue that holds at least so many; with acks, one for each."""
    with connected(server) as channel:
        received = 0

        def receive(message: amqp.Message) -> None:
            nonlocal received
            received += 1
            if not no_ack:
                channel.basic_ack(message.delivery_tag)

        channel.basic_qos(0, PREFETCH, False)
        began = time.perf_counter()
        channel.basic_consume(CLASSIC, callback=receive, no_ack=no_ack)
        while received < messages:
            channel.connection.drain_events()
        _settle(channel)
        return received / (time.perf_counter() - began)


def purge(server: AmqpServer) -> None:
    with connected(server) as channel:
        for queue in (CLASSIC, QUORUM):
            declare(channel, queue)
            channel.queue_purge(queue)


def _settle(channel: amqp.Channel) -> None:
    """A question on the same channel is answered after everything sent before it was handled."""
    channel.queue_declare(CLASSIC, passive=True)


# --- processes ---------------------------------------------------------------------------------


def start_up(server: AmqpServer) -> float:
    """Seconds from the start of the process to the end of an AMQP handshake."""
    troubles: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except BaseException as error:
            troubles.append(error)

    server.stop()
    starting = threading.Thread(target=start)
    began = time.perf_counter()
    starting.start()
    try:
        return _first_handshake(server, began, troubles)
    finally:
        starting.join()


def _first_handshake(server: AmqpServer, began: float, troubles: list[BaseException]) -> float:
    while True:
        try:
            with connected(server):
                return time.perf_counter() - began
        except (OSError, amqp.AMQPError, BotswarmError):
            if troubles:
                raise troubles[0] from None
            if time.perf_counter() - began > PATIENCE_S:
                raise
            time.sleep(POLL_S)


def memory_mb(server: AmqpServer) -> float:
    """Proportional set size of the broker's process and all its descendants."""
    return sum(pss_mb(pid) for pid in family(server.pid))


def family(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name stands in brackets and may hold anything; the parent follows it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    family, index = [pid], 0
    while index < len(family):
        family += children.get(family[index], [])
        index += 1
    return family


def pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def used_s(processes: Mapping[str, int]) -> dict[str, float]:
    """Processor time of each and all its children, user and system."""
    return {name: sum(map(_cpu_s, family(pid))) for name, pid in processes.items()}


def ended_s(pid: int) -> float:
    """Processor time of those of its children that have ended."""
    return sum(_times(pid)[2:]) / TICK


def _cpu_s(pid: int) -> float:
    # Its own, and that of children that have ended meanwhile.
    return sum(_times(pid)) / TICK


def _times(pid: int) -> list[int]:
    """Its own in user and system mode, and those of ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0, 0, 0, 0]  # it has just ended
    return list(map(int, fields[11:15]))
