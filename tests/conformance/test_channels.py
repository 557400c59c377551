"""Channels: opening, closing, using again, and what an error ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.wire import BODY, CONTENT, Channel, Client, Closed, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]


def test_a_closed_channel_number_can_be_used_again(client: Client) -> None:
    client.channel(7).close()
    assert client.channel(7).queue(exclusive=True)


def test_a_channel_closed_by_an_error_can_be_used_again(client: Client) -> None:
    channel = client.channel(7)
    with refused(404, "NOT_FOUND"):
        channel.queue("missing", passive=True)
    assert client.channel(7).queue(exclusive=True)


def test_an_error_on_one_channel_leaves_the_others_alone(client: Client) -> None:
    good, bad = client.channel(), client.channel()
    queue = good.queue(exclusive=True)
    good.consume(queue, no_ack=True)
    with refused(404, "NOT_FOUND"):
        bad.queue("missing", passive=True)
    good.publish("", queue, "still here")
    assert good.delivery().body == b"still here"


def test_channels_of_one_connection_see_each_others_exclusive_queues(client: Client) -> None:
    queue = client.channel().queue(exclusive=True)
    assert client.channel().count(queue) == 0


def test_what_is_sent_to_a_closing_channel_is_ignored(client: Client) -> None:
    channel = client.channel()
    channel.send("queue.declare", queue="missing", passive=True)
    for _ in range(20):
        channel.publish("", "missing", "late")
    assert channel.expect_close().code == 404
    client.channel().sync()


def test_using_a_channel_that_is_not_open_ends_the_connection(client: Client) -> None:
    client.send(3, "queue.declare", queue="x")
    closed = client.expect_close()
    assert (closed.code, closed.text[:13]) == (504, "CHANNEL_ERROR")


def test_opening_a_channel_twice_ends_the_connection(client: Client) -> None:
    channel = client.channel()
    channel.send("channel.open")
    closed = client.expect_close()
    assert (closed.code, closed.method) == (504, "channel.open")


def test_a_body_without_a_method_is_unexpected(client: Client) -> None:
    client.channel()
    client.send_frame(BODY, 1, b"x")
    assert client.expect_close().code == 505


def test_a_content_header_without_a_method_is_unexpected(client: Client) -> None:
    client.channel()
    client.send_frame(CONTENT, 1, b"\0" * 20)
    assert client.expect_close().code == 505


def test_a_method_in_place_of_a_content_header_is_unexpected(client: Client) -> None:
    channel = client.channel()
    channel.send("basic.publish")
    channel.send("basic.publish")
    assert client.expect_close().code == 505


def test_a_content_header_of_another_class_is_unexpected(client: Client) -> None:
    channel = client.channel()
    channel.send("basic.publish")
    channel.send_content(3, b"\0\0", class_id=50)
    assert client.expect_close().code == 505


def test_content_of_two_channels_may_be_interleaved(client: Client) -> None:
    one, two = client.channel(), client.channel()
    queue = one.queue(exclusive=True)
    one.send("basic.publish", routing_key=queue)
    two.send("basic.publish", routing_key=queue)
    one.send_content(3, b"\0\0")
    two.send_content(3, b"\0\0")
    client.send_frame(BODY, two.number, b"two")
    client.send_frame(BODY, one.number, b"o")
    client.send_frame(BODY, one.number, b"ne")
    two.sync()
    one.sync()
    assert sorted(one.drain(queue)) == [b"one", b"two"]


def test_a_client_may_resume_a_flow_it_never_stopped(channel: Channel) -> None:
    assert channel.call("channel.flow", active=True).active is True


def test_stopping_the_flow_is_not_implemented(channel: Channel) -> None:
    with refused(540, "NOT_IMPLEMENTED - active=false", method="channel.flow", scope="connection"):
        channel.call("channel.flow", active=False)


def test_a_transaction_is_kept_or_refused_at_once(broker_name: str, channel: Channel) -> None:
    # Documented difference: the embedded broker refuses at tx.select, so that no client
    # believes in a rollback that will not happen.
    if broker_name == "embedded":
        with refused(540, "NOT_IMPLEMENTED", method="tx.select", scope="connection"):
            channel.call("tx.select")
        return
    channel.call("tx.select")
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "undone")
    channel.call("tx.rollback")
    channel.publish("", queue, "done")
    channel.call("tx.commit")
    assert channel.drain(queue) == [b"done"]


@pytest.mark.parametrize("method", ["tx.commit", "tx.rollback"])
def test_a_transaction_cannot_end_before_it_began(channel: Channel, method: str) -> None:
    with pytest.raises(Closed) as refusal:
        channel.call(method)
    assert refusal.value.code in (406, 540)  # the embedded broker implements none of them


def test_errors_name_the_method_that_caused_them(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no exchange 'missing'", method="queue.bind"):
        queue = channel.queue(exclusive=True)
        channel.bind(queue, "missing")


def test_an_error_names_the_vhost(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing' in vhost 'conformance'"):
        channel.count("missing")


def test_a_hundred_connections_can_work_at_once(connect: Connect) -> None:
    clients = [connect() for _ in range(100)]
    channels = [client.channel() for client in clients]
    queues = [channel.queue(exclusive=True) for channel in channels]
    for channel, queue in zip(channels, queues, strict=True):
        channel.publish("", queue, queue)
    for channel, queue in zip(channels, queues, strict=True):
        assert channel.take(queue).body == queue.encode()


def test_unread_deliveries_of_one_client_do_not_hold_up_another(
    connect: Connect, channel: Channel, name: Name
) -> None:
    slow = connect()
    slow_channel = slow.channel()
    queue = channel.queue(name("flood"), auto_delete=True)
    slow_channel.consume(queue, no_ack=True)
    for _ in range(40):
        channel.publish("", queue, b"x" * 500_000)  # the slow client never reads
    other = channel.queue(exclusive=True)
    channel.publish("", other, "quick")
    assert channel.take(other).body == b"quick"
    slow.drop()
