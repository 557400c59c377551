"""How a connection begins, what is agreed on, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from botswarm.testing.servers import AmqpServer
from tests.conformance.wire import (
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    Channel,
    Client,
    Closed,
    Ended,
    refused,
)

Connect = Callable[..., Client]


@pytest.mark.parametrize(
    "header",
    [b"AMQP\x00\x01\x00\x00", b"AMQP\x00\x00\x09\x02", b"AMQP\x03\x01\x00\x00", b"HTTP/1.1"],
    ids=["amqp 1.0", "0-9-2", "amqp 1.0 with sasl", "no amqp"],
)
def test_another_protocol_is_answered_with_ours(broker: AmqpServer, header: bytes) -> None:
    with Client(broker.host, broker.port) as client:
        client.socket.sendall(header)
        assert client.socket.recv(100) == HEADER
        client.expect_end()


def test_the_broker_introduces_itself(broker: AmqpServer) -> None:
    with Client(broker.host, broker.port) as client:
        start = client.greet()
    assert (start.major, start.minor) == (0, 9)
    assert set(start.mechanisms.split()) >= {b"PLAIN", b"AMQPLAIN"}
    assert b"en_US" in start.locales.split()
    assert {"product", "version", "platform"} <= set(start.server_properties)


@pytest.mark.parametrize(
    "capability",
    [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
    ],
)
def test_the_broker_announces_what_it_can_do(broker: AmqpServer, capability: str) -> None:
    with Client(broker.host, broker.port) as client:
        assert client.greet().server_properties["capabilities"][capability] is True


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_the_right_password_opens_the_connection(connect: Connect, mechanism: str) -> None:
    assert connect(mechanism=mechanism).channel().queue(exclusive=True)


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_a_wrong_password_is_refused_with_a_reason(broker: AmqpServer, mechanism: str) -> None:
    with (
        Client(broker.host, broker.port) as client,
        refused(403, "ACCESS_REFUSED - Login was refused", scope="connection"),
    ):
        client.open(broker.user, "wrong", mechanism=mechanism)


def test_a_client_that_cannot_read_the_reason_is_just_dropped(broker: AmqpServer) -> None:
    with Client(broker.host, broker.port) as client, pytest.raises(Ended):
        client.open(broker.user, "wrong", capabilities={})


def test_an_unknown_user_is_refused_as_a_wrong_password_is(broker: AmqpServer) -> None:
    with (
        Client(broker.host, broker.port) as client,
        refused(403, "ACCESS_REFUSED - Login was refused", scope="connection"),
    ):
        client.open("nobody", broker.password)


def test_an_unknown_mechanism_is_refused(broker: AmqpServer) -> None:
    with Client(broker.host, broker.port) as client, pytest.raises((Ended, Closed)):
        client.open(broker.user, broker.password, mechanism="DIGEST")


def test_an_unknown_vhost_is_not_allowed(broker: AmqpServer) -> None:
    with (
        Client(broker.host, broker.port) as client,
        refused(530, "NOT_ALLOWED - ", method="connection.open", scope="connection"),
    ):
        client.open(broker.user, broker.password, "nowhere")


def test_the_default_vhost_exists(connect: Connect) -> None:
    assert connect("/").channel().queue(exclusive=True)


def test_the_broker_offers_limits(client: Client) -> None:
    assert client.tuned.channel_max == 2047
    assert client.tuned.frame_max == 131072
    assert client.tuned.heartbeat == 60


@pytest.mark.parametrize(
    "wish",
    [{"frame_max": 200000}, {"frame_max": 0}, {"frame_max": 100}, {"channel_max": 3000}],
    ids=str,
)
def test_limits_outside_the_offer_end_the_handshake(
    broker: AmqpServer, wish: dict[str, int]
) -> None:
    # RabbitMQ drops such a client without a word, after a pause.
    with Client(broker.host, broker.port) as client, pytest.raises((Ended, Closed)):
        client.open(broker.user, broker.password, **wish)  # type: ignore[arg-type] # both are int


def test_deliveries_keep_to_the_agreed_frame_size(connect: Connect) -> None:
    channel = connect(frame_max=4096).channel()
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, b"x" * 10000)
    message = channel.take(queue)
    assert message.body_frames == [4088, 4088, 10000 - 2 * 4088]


def test_a_frame_over_the_agreed_size_ends_the_connection(connect: Connect) -> None:
    client = connect(frame_max=4096)
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    channel.send("basic.publish", routing_key=queue)
    channel.send_content(8000, b"\x00\x00")
    client.send_frame(BODY, channel.number, b"x" * 8000)
    closed = client.expect_close()
    assert closed.code == 501
    assert closed.text.startswith("FRAME_ERROR - ")


def test_one_channel_more_than_agreed_is_not_allowed(connect: Connect) -> None:
    client = connect(channel_max=5)
    for _ in range(5):
        client.channel()
    with refused(530, "NOT_ALLOWED - number of channels opened (5)", scope="connection"):
        client.channel()


def test_all_agreed_channels_can_be_open_at_once(connect: Connect) -> None:
    client = connect(channel_max=20)
    channels = [client.channel() for _ in range(20)]
    assert [channel.number for channel in channels] == list(range(1, 21))
    for channel in channels:
        channel.sync()


def test_the_broker_sends_heartbeats_at_half_the_agreed_time(connect: Connect) -> None:
    client = connect(heartbeat=1)
    deadline = time.monotonic() + 4
    while client.heartbeats < 2:
        client.send_frame(HEARTBEAT, 0, b"")
        client.pump(deadline)


def test_a_silent_client_is_dropped_after_two_heartbeat_times(connect: Connect) -> None:
    client = connect(heartbeat=1)
    began = time.monotonic()
    client.expect_end(timeout_s=8)
    assert 1 < time.monotonic() - began < 5


def test_a_client_that_sends_heartbeats_is_kept(connect: Connect) -> None:
    client = connect(heartbeat=1)
    channel = client.channel()
    for _ in range(10):
        client.send_frame(HEARTBEAT, 0, b"")
        with pytest.raises(TimeoutError):
            channel.delivery(0.25)
    channel.sync()


def test_other_traffic_counts_as_a_sign_of_life(connect: Connect) -> None:
    client = connect(heartbeat=1)
    channel = client.channel()
    for _ in range(10):
        channel.sync()
        with pytest.raises(TimeoutError):
            channel.delivery(0.25)
    channel.sync()


def test_a_heartbeat_on_a_channel_other_than_zero_is_unexpected(connect: Connect) -> None:
    client = connect()
    client.channel()
    client.send_frame(HEARTBEAT, 1, b"")
    closed = client.expect_close()
    assert (closed.code, closed.text[:16]) == (505, "UNEXPECTED_FRAME")


def test_close_is_answered(connect: Connect) -> None:
    client = connect()
    client.send(0, "connection.close", code=200, text="bye")
    client.expect("connection.close-ok")


def test_nothing_is_done_after_the_client_has_closed(
    connect: Connect, channel: Channel, name: Callable[[str], str]
) -> None:
    client = connect()
    client.channel()
    client.send(0, "connection.close", code=200, text="bye")
    client.send(1, "queue.declare", queue=name("late"))
    client.expect("connection.close-ok")
    with refused(404, "NOT_FOUND - no queue"):
        channel.count(name("late"))


def _ends_it(client: Client) -> int:
    """The reply code with which the broker ended the connection, 0 where it said nothing."""
    try:
        return client.expect_close().code
    except Ended:
        return 0


def test_a_frame_without_its_end_mark_is_a_frame_error(connect: Connect) -> None:
    client = connect()
    client.channel()
    client.socket.sendall(b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x0aX")
    closed = client.expect_close()
    assert (closed.code, closed.text[:11]) == (501, "FRAME_ERROR")


def test_an_unknown_method_ends_only_its_connection(connect: Connect, channel: Channel) -> None:
    client = connect()
    client.channel()
    client.send_frame(METHOD, 1, b"\x00\x3c\x03\xe7")
    assert _ends_it(client) in (0, 501, 502, 503, 540)
    channel.sync()


def test_cut_off_arguments_end_the_connection(connect: Connect) -> None:
    client = connect()
    client.channel()
    client.send_frame(METHOD, 1, b"\x00\x32\x00\x0a\x00\x00\xff")
    assert _ends_it(client) in (501, 502)


def test_a_broken_table_ends_only_its_connection(connect: Connect, channel: Channel) -> None:
    client = connect()
    client.channel().send("queue.declare", queue="x", arguments=b"\x03abZxx")
    assert _ends_it(client) in (0, 501, 502)
    channel.sync()


def test_an_unknown_frame_type_ends_the_connection(connect: Connect) -> None:
    client = connect()
    client.channel()
    client.send_frame(99, 1, b"")
    assert client.expect_close().code == 501


def test_a_second_open_of_the_connection_is_an_error(connect: Connect) -> None:
    client = connect()
    client.send(0, "connection.open", vhost="/")
    closed = client.expect_close()
    assert (closed.code, closed.method) == (504, "connection.open")


def test_a_connection_method_on_a_channel_is_invalid(connect: Connect) -> None:
    client = connect()
    client.channel()
    client.send(1, "connection.open", vhost="/")
    assert client.expect_close().code == 503


def test_a_channel_method_on_channel_zero_is_an_error(connect: Connect) -> None:
    client = connect()
    client.send(0, "queue.declare", queue="x")
    assert client.expect_close().code == 504
