"""When memory runs high publishers wait, and nobody else does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from botswarm.testing.servers import AmqpServer
from tests.conformance.wire import Channel, Client

Connect = Callable[..., Client]


class Alarm:
    def __init__(self, broker: AmqpServer) -> None:
        self.broker = broker
        self.on = False

    def set(self) -> None:
        self.broker.raise_memory_alarm()
        self.on = True

    def clear(self) -> None:
        if self.on:
            self.broker.clear_memory_alarm()
            self.on = False


@pytest.fixture
def alarm(broker: AmqpServer, connect: Connect) -> Iterator[Alarm]:
    alarm = Alarm(broker)
    yield alarm
    alarm.clear()  # before the connections are closed: a blocked one would not answer


def test_a_publisher_is_told_that_it_is_blocked_and_when_it_is_not(
    connect: Connect, alarm: Alarm
) -> None:
    client = connect()
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    alarm.set()
    channel.publish("", queue, "x")
    assert client.expect("connection.blocked").reason
    alarm.clear()
    client.expect("connection.unblocked")


def test_what_was_published_while_blocked_arrives_afterwards(
    connect: Connect, alarm: Alarm
) -> None:
    client = connect()
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    channel.confirm()
    alarm.set()
    channel.publish("", queue, "first")
    client.expect("connection.blocked")
    for number in range(20):
        channel.publish("", queue, str(number))
    confirmed = 0
    deadline = time.monotonic() + 0.5
    with contextlib.suppress(TimeoutError):
        while True:
            client.pump(deadline)
    confirmed = max([c.tag for c in channel.confirms], default=0)
    assert confirmed <= 1, "the broker went on taking messages from a blocked connection"
    alarm.clear()
    while confirmed < 21:
        confirmed = channel.confirmed().tag
    assert channel.drain(queue) == [b"first", *(str(n).encode() for n in range(20))]


def test_consumers_go_on_while_publishers_are_blocked(
    connect: Connect, channel: Channel, alarm: Alarm
) -> None:
    queue = channel.queue(auto_delete=True)
    for number in range(50):
        channel.publish("", queue, str(number))
    alarm.set()
    blocked = connect()
    blocked.channel().publish("", queue, "late")
    blocked.expect("connection.blocked")
    consumer = connect().channel()
    consumer.qos(5)
    consumer.consume(queue)
    for number in range(50):
        message = consumer.delivery()
        assert message.body == str(number).encode()
        consumer.ack(message.tag)


def test_a_connection_that_does_not_publish_is_neither_blocked_nor_told(
    connect: Connect, alarm: Alarm
) -> None:
    client = connect()
    channel = client.channel()
    alarm.set()
    queue = channel.queue(exclusive=True)
    assert channel.get(queue) is None
    channel.consume(queue)
    assert channel.silence()
    assert not client.inbox


def test_who_does_not_understand_the_notice_is_blocked_untold(
    connect: Connect, alarm: Alarm
) -> None:
    client = connect(capabilities={})
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    alarm.set()
    for _ in range(3):
        channel.publish("", queue, "x")
    assert channel.silence(for_s=0.4)
    assert not client.inbox
    alarm.clear()
    assert [channel.take(queue).body for _ in range(3)] == [b"x"] * 3


def test_new_connections_are_welcome_during_the_alarm(connect: Connect, alarm: Alarm) -> None:
    alarm.set()
    assert connect().channel().queue(exclusive=True)


def test_a_blocked_connection_is_kept_alive_by_heartbeats(connect: Connect, alarm: Alarm) -> None:
    client = connect(heartbeat=1)
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    alarm.set()
    channel.publish("", queue, "x")
    client.expect("connection.blocked")
    # A blocked broker does not read, so it cannot hold the client's silence against it.
    assert channel.silence(for_s=3.5)
    assert client.heartbeats >= 2
    alarm.clear()
    client.expect("connection.unblocked")
    assert channel.take(queue).body == b"x"
