"""What the embedded broker does at its limits: long backlogs, full disks, slow readers, crashes."""

from __future__ import annotations

import resource
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
import pytest

from botswarm.broker import record
from botswarm.testing.servers import EmbeddedBrokerServer

PATIENCE_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBrokerServer]:
    with EmbeddedBrokerServer(tmp_path / "broker") as server:
        yield server


@contextmanager
def channel_on(broker: EmbeddedBrokerServer, **options: Any) -> Iterator[Any]:
    address = f"{broker.host}:{broker.port}"
    connection = amqp.Connection(
        host=address, userid=broker.user, password=broker.password, **options
    )
    connection.connect()
    try:
        yield connection.channel()
    finally:
        connection.collect()  # without a word: the broker may be dead, or not listening


def put(channel: Any, queue: str, bodies: Iterator[str] | list[str], mode: int = 2) -> None:
    for body in bodies:
        channel._basic_publish(amqp.Message(body, delivery_mode=mode), "", queue)


def count_of(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def drain(channel: Any, queue: str, wanted: int, *, settle: bool = True) -> list[tuple[str, bool]]:
    """Body and redelivered flag of the next so many messages."""
    got: list[tuple[str, bool]] = []

    def take(message: Any) -> None:
        got.append((message.body, message.delivery_info["redelivered"]))
        if settle:
            channel.basic_ack(message.delivery_tag)

    channel.basic_qos(0, 200, False)
    tag = channel.basic_consume(queue, callback=take)
    while len(got) < wanted:
        channel.connection.drain_events(timeout=PATIENCE_S)
    channel.basic_cancel(tag)
    return got


def overview(broker: EmbeddedBrokerServer) -> dict[str, Any]:
    status, answer = broker.manage("GET", "overview")
    assert status == 200
    facts: dict[str, Any] = answer["botswarm"]
    return facts


@pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])
def test_a_long_backlog_keeps_its_order_and_leaves_memory(
    broker: EmbeddedBrokerServer, mode: int
) -> None:
    total = 20_000
    with channel_on(broker) as channel:
        channel.queue_declare("long", durable=True, auto_delete=False)
        put(channel, "long", (f"{n} {'x' * 500}" for n in range(total)), mode)
        eventually(lambda: count_of(channel, "long") == total, "all queued")
        # 20,000 messages of half a kilobyte weigh 16 MB when all of them are in memory.
        assert overview(broker)["memory_bytes"] < 8_000_000
        got = [int(body.split()[0]) for body, _ in drain(channel, "long", total)]
        assert got == list(range(total))
        eventually(lambda: overview(broker)["memory_bytes"] == 0, "all given back")
        assert overview(broker)["journal_live_bytes"] == 0


def test_a_backlog_larger_than_memory_survives_a_kill_in_order(
    broker: EmbeddedBrokerServer,
) -> None:
    total = 12_000
    with channel_on(broker) as channel:
        channel.confirm_select()
        channel.queue_declare("kept", durable=True, auto_delete=False)
        put(channel, "kept", (str(n) for n in range(total)))
        put(channel, "kept", ["lost with the broker"] * 10, mode=1)
        eventually(lambda: count_of(channel, "kept") == total + 10, "all queued")
        seen = drain(channel, "kept", 100, settle=False)
        broker.kill()
    broker.start()
    with channel_on(broker) as channel:
        assert count_of(channel, "kept") == total
        got = drain(channel, "kept", total)
        assert [int(body) for body, _ in got] == list(range(total))
        redelivered = {body for body, again in got if again}
        assert {body for body, _ in seen} <= redelivered
        assert len(redelivered) <= 300  # what was handed out and no more


def test_old_messages_outlive_the_segments_they_were_written_to(
    broker: EmbeddedBrokerServer,
) -> None:
    """Much traffic makes the cleaner copy the old messages again and again."""
    old, filler = 6_000, "x" * 4_000
    with channel_on(broker) as channel:
        channel.queue_declare("old", durable=True, auto_delete=False)
        channel.queue_declare("busy", durable=True, auto_delete=False)
        put(channel, "old", (str(n) for n in range(old)))
        first_segment = min((broker.state_dir / "broker").iterdir())
        for _ in range(12):
            put(channel, "busy", [filler] * 2_000)
            drain(channel, "busy", 2_000)
        eventually(lambda: not first_segment.exists(), "the first segment was cleaned away")
        assert overview(broker)["journal_bytes"] < 80_000_000
    broker.kill()
    broker.start()
    with channel_on(broker) as channel:
        assert [int(body) for body, _ in drain(channel, "old", old)] == list(range(old))
        assert (count_of(channel, "old"), count_of(channel, "busy")) == (0, 0)


def test_purging_and_deleting_a_long_backlog_frees_the_journal(
    broker: EmbeddedBrokerServer,
) -> None:
    with channel_on(broker) as channel:
        for name in ("purged", "deleted"):
            channel.queue_declare(name, durable=True, auto_delete=False)
            put(channel, name, (str(n) for n in range(10_000)))
            eventually(lambda name=name: count_of(channel, name) == 10_000, "queued")  # type: ignore[misc]
        assert channel.queue_purge("purged") == 10_000
        assert channel.queue_delete("deleted") == 10_000
        eventually(lambda: overview(broker)["journal_live_bytes"] == 0, "nothing lives")
    broker.kill()
    broker.start()
    with channel_on(broker) as channel:
        assert count_of(channel, "purged") == 0
        channel.queue_declare("deleted", durable=True, auto_delete=False)
        assert count_of(channel, "deleted") == 0


def test_a_disk_that_fills_up_delays_confirms_and_loses_nothing(
    broker: EmbeddedBrokerServer,
) -> None:
    with channel_on(broker) as channel:
        channel.queue_declare("q", durable=True, auto_delete=False)
        channel.confirm_select()
        confirmed: list[int] = []
        channel.events["basic_ack"].add(lambda tag, multiple: confirmed.append(tag))
        put(channel, "q", ["before"])
        channel.connection.drain_events(timeout=PATIENCE_S)
        assert confirmed == [1]
        # The kernel refuses every byte beyond this size, as a full disk does.
        size = max(path.stat().st_size for path in (broker.state_dir / "broker").iterdir())
        unlimited = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size + 100, -1))
        put(channel, "q", ["while full " + "x" * 1_000])
        eventually(lambda: overview(broker)["blocked_for"] == "low on disk", "alarm")
        with pytest.raises(TimeoutError):
            channel.connection.drain_events(timeout=0.5)
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, unlimited)
        while confirmed[-1] < 2:
            channel.connection.drain_events(timeout=PATIENCE_S)
        eventually(lambda: overview(broker)["blocked_for"] == "", "the alarm is over")
    broker.kill()
    broker.start()
    with channel_on(broker) as channel:
        bodies = [body for body, _ in drain(channel, "q", 2)]
        assert [body[:10] for body in bodies] == ["before", "while full"]


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_every_way_to_sync_confirms_and_keeps(tmp_path: Path, fsync: str) -> None:
    with EmbeddedBrokerServer(tmp_path / "broker", options=["--fsync", fsync]) as broker:
        with channel_on(broker, confirm_publish=True) as channel:
            channel.queue_declare("q", durable=True, auto_delete=False)
            for n in range(200):
                channel.basic_publish(amqp.Message(str(n), delivery_mode=2), "", "q")
        broker.kill()
        broker.start()
        with channel_on(broker) as channel:
            assert [int(body) for body, _ in drain(channel, "q", 200)] == list(range(200))


def test_a_client_that_never_reads_holds_up_nobody_and_costs_little(
    broker: EmbeddedBrokerServer,
) -> None:
    body = "x" * 100_000
    with channel_on(broker) as channel, channel_on(broker) as greedy:
        channel.queue_declare("q", durable=False, auto_delete=False)
        raw = greedy.connection.transport.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        put(channel, "q", [body] * 300, mode=1)
        eventually(lambda: count_of(channel, "q") == 300, "queued")
        # Asks for everything, takes nothing; and asks for much more.
        greedy.basic_consume("q", no_ack=True)
        eventually(lambda: count_of(channel, "q") < 300, "deliveries began")
        time.sleep(0.3)
        assert count_of(channel, "q") > 150, "the broker sent what nobody reads"
        put(channel, "q", ["quick"], mode=1)
        channel.queue_declare("other", exclusive=True)
        put(channel, "other", ["fast"], mode=1)
        eventually(lambda: count_of(channel, "other") == 1, "the other client is served")
        assert channel.basic_get("other", no_ack=True).body == "fast"


def test_the_password_is_for_the_owner_only_and_stays(broker: EmbeddedBrokerServer) -> None:
    path = broker.state_dir / record.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = broker.password
    assert len(password) >= 32
    broker.restart()
    assert broker.password == password  # clients that were configured with it come back


def test_large_messages_come_back_into_memory_a_few_at_a_time(
    broker: EmbeddedBrokerServer,
) -> None:
    with channel_on(broker, confirm_publish=True) as channel:
        channel.queue_declare("large", durable=True, auto_delete=False)
        for n in range(40):
            channel.basic_publish(
                amqp.Message(f"{n} {'x' * 1_000_000}", delivery_mode=2), "", "large"
            )
    broker.kill()
    broker.start()
    with channel_on(broker) as channel:
        assert channel.basic_get("large", no_ack=True).body.split()[0] == "0"
        assert overview(broker)["memory_bytes"] < 10_000_000
        assert [int(body.split()[0]) for body, _ in drain(channel, "large", 39)] == [*range(1, 40)]


def test_a_damaged_definition_costs_itself_only(broker: EmbeddedBrokerServer) -> None:
    """The exchange is lost; the queue, its messages and the start of the broker are not."""
    with channel_on(broker, confirm_publish=True) as channel:
        channel.exchange_declare("lost", "topic", durable=True, auto_delete=False)
        channel.queue_declare("kept", durable=True, auto_delete=False)
        channel.queue_bind("kept", "lost", "#")
        channel.basic_publish(amqp.Message("x", delivery_mode=2), "", "kept")
    broker.kill()
    path = max((broker.state_dir / "broker").glob("journal-*.log"))
    whole = path.read_bytes()
    assert whole.count(b'"op":"exchange+"') == 1
    path.write_bytes(whole.replace(b'"op":"exchange+"', b'"op":"exchange?"'))
    broker.start()
    with channel_on(broker) as channel:
        assert channel.basic_get("kept", no_ack=True).body == "x"


def test_a_broker_that_stops_with_a_full_disk_stops_in_order(
    broker: EmbeddedBrokerServer,
) -> None:
    with channel_on(broker) as channel:
        channel.queue_declare("q", durable=True, auto_delete=False)
        size = max(path.stat().st_size for path in (broker.state_dir / "broker").iterdir())
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size + 100_000, -1))
        put(channel, "q", ["x" * 1_000_000])
        eventually(lambda: overview(broker)["blocked_for"] == "low on disk", "alarm")
    broker.stop()
    said = broker.log.read_text()
    assert "not written to its end" in said
    assert "broker stopped" in said
    broker.start()


@pytest.mark.parametrize("count", ["many", None, 2**63 - 1, 1.5])
def test_a_history_that_makes_no_sense_stops_no_dead_letter(
    broker: EmbeddedBrokerServer, count: object
) -> None:
    with channel_on(broker) as channel:
        channel.queue_declare("dead", auto_delete=False)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("q", auto_delete=False, arguments=arguments)
        death = {"queue": "q", "reason": "rejected", "count": count, "price": Decimal("-1.25")}
        sent = amqp.Message("x", application_headers={"x-death": [death, {"price": Decimal(7)}]})
        channel.basic_publish(sent, "", "q")
        channel.basic_reject(channel.basic_get("q").delivery_tag, requeue=False)
        eventually(lambda: count_of(channel, "dead") == 1, "dead")
        first, second = channel.basic_get("dead", no_ack=True).headers["x-death"]
        assert (first["price"], second["price"]) == (Decimal("-1.25"), Decimal(7))


def test_headers_that_are_no_table_cost_nobody_the_message(broker: EmbeddedBrokerServer) -> None:
    with channel_on(broker) as channel:
        channel.queue_declare("dead", auto_delete=False)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("q", auto_delete=False, arguments=arguments)
        put(channel, "q", ["first"], mode=1)
        method = struct.pack(">HHHBB", 60, 40, 0, 0, 1) + b"q\0"
        head = struct.pack(">HHQHI", 60, 0, 1, 0x2000, 3) + b"\1a?"
        for kind, payload in ((1, method), (2, head), (3, b"x")):
            frame = struct.pack(">BHI", kind, channel.channel_id, len(payload))
            channel.connection.transport.sock.sendall(frame + payload + b"\xce")
        eventually(lambda: count_of(channel, "q") == 2, "queued")
        for _ in range(2):
            status, rows = broker.manage("POST", "queues/%2F/q/get", {"count": 5})
            assert (status, [row["payload"] for row in rows]) == (200, ["first", "x"])
        channel.basic_get("q", no_ack=True)
        with channel_on(broker) as other:
            other.basic_qos(0, 1, False)
            other.basic_consume("q", callback=lambda _message: None)
            eventually(lambda: count_of(channel, "q") == 0, "delivered")
        eventually(lambda: count_of(channel, "q") == 1, "given back")
        channel.queue_declare("aging", auto_delete=False, arguments=arguments)
        status, _ = broker.manage(
            "POST", "queues/%2F/q/get", {"ackmode": "reject_requeue_false", "count": 1}
        )
        assert status == 200
        eventually(lambda: count_of(channel, "dead") == 1, "dead")


def connections(broker: EmbeddedBrokerServer) -> int:
    _, answer = broker.manage("GET", "overview")
    return int(answer["object_totals"]["connections"])


@pytest.fixture
def stuffed(broker: EmbeddedBrokerServer) -> Iterator[Any]:
    """A client with a heartbeat of a second that has much to read and reads nothing."""
    with channel_on(broker) as channel:
        channel.queue_declare("q", auto_delete=False)
        put(channel, "q", ["x" * 12_000_000], mode=1)
        with channel_on(broker, heartbeat=1) as hung:
            hung.connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            hung.basic_consume("q", callback=lambda _message: None)
            eventually(lambda: count_of(channel, "q") == 0, "delivered")
            yield hung
            eventually(lambda: count_of(channel, "q") == 1, "given back")


def test_a_client_that_hangs_with_much_to_read_is_ended(
    broker: EmbeddedBrokerServer, stuffed: Any
) -> None:
    eventually(lambda: connections(broker) == 1, "the silent one is ended")


def test_a_client_that_reads_nothing_but_speaks_is_kept(
    broker: EmbeddedBrokerServer, stuffed: Any
) -> None:
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        stuffed.connection.transport.sock.sendall(b"\x08\0\0\0\0\0\0\xce")
        time.sleep(0.4)
    assert connections(broker) == 2
    stuffed.connection.collect()


def test_a_client_that_leaves_without_reading_its_rest_is_ended(
    broker: EmbeddedBrokerServer,
) -> None:
    with channel_on(broker) as channel, channel_on(broker) as leaving:
        channel.queue_declare("q", auto_delete=False)
        leaving.connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        leaving.queue_declare("mine", exclusive=True)
        leaving.basic_consume("q", no_ack=True)
        # Above what stops deliveries, below what stops the broker from listening.
        put(channel, "q", ["x" * 3_500_000] * 2, mode=1)
        eventually(lambda: count_of(channel, "q") < 2, "deliveries began")
        close = struct.pack(">HHHBHH", 10, 50, 200, 0, 0, 0)
        frame = struct.pack(">BHI", 1, 0, len(close)) + close + b"\xce"
        leaving.connection.transport.sock.sendall(frame)
        eventually(lambda: connections(broker) == 1, "the connection is gone, unread as it was")
