"""What is published arrives as it was sent, or comes back with the reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from botswarm.testing.servers import AmqpServer
from tests.conformance.wire import Channel, Client, Typed, encode_properties, item, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]

VALUES: dict[str, Any] = {
    "true": True,
    "false": False,
    "signed byte": Typed("b", struct.pack(">b", -100)),
    "unsigned byte": Typed("B", struct.pack(">B", 200)),
    "signed short": Typed("s", struct.pack(">h", -30000)),
    "unsigned short": Typed("u", struct.pack(">H", 60000)),
    "signed int": Typed("I", struct.pack(">i", -(2**31))),
    "unsigned int": Typed("i", struct.pack(">I", 2**32 - 1)),
    "signed long": Typed("l", struct.pack(">q", -(2**63))),
    "big long": Typed("l", struct.pack(">q", 2**63 - 1)),
    "float": Typed("f", struct.pack(">f", 0.15625)),
    "double": 0.1,
    "negative zero": -0.0,
    "decimal": Decimal("1234.56"),
    "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "string": "plain",
    "unicode": "grüße, 世界 🐝",
    "not utf-8": Typed("S", struct.pack(">I", 3) + b"\xff\xfe\x00"),
    "empty string": "",
    "long string": "x" * 70_000,
    "bytes": b"\x00\x01\xff",
    "void": None,
    "table": {"inner": {"deep": [1, {"deeper": None}]}},
    "empty table": {},
    "array": [1, "two", 3.0, None, True, [4, [5]], {"six": 6}],
    "empty array": [],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_header_of_every_type_arrives_byte_for_byte(channel: Channel, kind: str) -> None:
    queue = channel.queue(exclusive=True)
    sent = {"before": 1, kind: VALUES[kind], "after": 2}
    channel.publish("", queue, "x", headers=sent)
    message = channel.take(queue)
    assert item(VALUES[kind]) in message.raw_properties
    assert sorted(message.headers) == sorted(sent)


def test_every_property_arrives_as_it_was_sent(broker: AmqpServer, channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    properties: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"a": 1},
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "corr",
        "reply_to": "somewhere",
        "expiration": "60000",
        "message_id": "id-1",
        "timestamp": 1_700_000_000,
        "type": "kind",
        "user_id": broker.user,
        "app_id": "app",
        "cluster_id": "cluster",
    }
    channel.publish("", queue, "x", **properties)
    message = channel.take(queue)
    assert message.properties == properties
    assert message.raw_properties == encode_properties(properties)


def test_no_property_at_all_stays_no_property(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x")
    assert channel.take(queue).raw_properties == b"\x00\x00"


def test_empty_headers_stay_empty_headers(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x", headers={})
    assert channel.take(queue).properties == {"headers": {}}


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 131072, 5_000_000])
def test_a_body_of_any_size_arrives_whole(channel: Channel, size: int) -> None:
    queue = channel.queue(exclusive=True)
    body = bytes(range(256)) * (size // 256 + 1)
    channel.publish("", queue, body[:size])
    assert channel.take(queue).body == body[:size]


def test_a_body_in_tiny_frames_arrives_whole(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.send("basic.publish", routing_key=queue)
    channel.send_content(10, b"\0\0")
    for byte in b"0123456789":
        channel.client.send_frame(3, channel.number, bytes([byte]))
    assert channel.take(queue).body == b"0123456789"


def test_an_empty_body_frame_adds_nothing(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.send("basic.publish", routing_key=queue)
    channel.send_content(2, b"\0\0")
    for part in (b"", b"a", b"", b"b"):
        channel.client.send_frame(3, channel.number, part)
    assert channel.take(queue).body == b"ab"


def test_a_delivery_says_where_the_message_came_from(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.bind(queue, "amq.topic", f"{name('k')}.#")
    tag = channel.consume(queue, no_ack=True)
    channel.publish("amq.topic", f"{name('k')}.x", "x")
    message = channel.delivery()
    assert message.arguments == {
        "consumer_tag": tag,
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "amq.topic",
        "routing_key": f"{name('k')}.x",
    }


def test_get_says_how_many_are_left(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(3):
        channel.publish("", queue, "x")
    messages = [channel.take(queue) for _ in range(3)]
    assert [message.messages for message in messages] == [2, 1, 0]
    assert [message.tag for message in messages] == [1, 2, 3]
    assert channel.get(queue) is None


def test_getting_from_a_missing_queue_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing'", method="basic.get"):
        channel.get("missing")


# Returned and refused


def test_a_mandatory_message_without_a_queue_comes_back_whole(channel: Channel, name: Name) -> None:
    channel.publish(
        "amq.direct", name("nowhere"), "payload", mandatory=True, message_id="m", headers={"a": 1}
    )
    back = channel.returned()
    assert (back.code, back.text, back.exchange, back.key) == (
        312,
        "NO_ROUTE",
        "amq.direct",
        name("nowhere"),
    )
    assert (back.body, back.properties) == (b"payload", {"message_id": "m", "headers": {"a": 1}})


def test_a_message_that_is_not_mandatory_is_dropped_in_silence(
    channel: Channel, name: Name
) -> None:
    channel.publish("amq.direct", name("nowhere"), "x")
    channel.sync()
    assert not channel.returns


def test_a_mandatory_message_with_a_queue_does_not_come_back(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x", mandatory=True)
    channel.sync()
    assert not channel.returns


def test_immediate_is_not_implemented(channel: Channel) -> None:
    channel.publish("", "anything", "x", immediate=True)
    closed = channel.client.expect_close()
    assert (closed.code, closed.method) == (540, "basic.publish")
    assert closed.text.startswith("NOT_IMPLEMENTED - immediate=true")


def test_publishing_to_a_missing_exchange_closes_the_channel(channel: Channel) -> None:
    channel.publish("missing", "k", "x")
    closed = channel.expect_close()
    assert (closed.code, closed.method) == (404, "basic.publish")
    assert closed.text.startswith("NOT_FOUND - no exchange 'missing'")


@pytest.mark.parametrize("expiration", ["soon", "-1", "1.5", "", " 5", "99999999999999"])
def test_an_expiration_that_is_no_number_of_milliseconds_is_refused(
    channel: Channel, expiration: str
) -> None:
    channel.publish("", "anything", "x", expiration=expiration)
    closed = channel.expect_close()
    assert (closed.code, closed.method) == (406, "basic.publish")
    assert closed.text.startswith("PRECONDITION_FAILED - invalid expiration")


def test_a_false_user_id_is_refused(channel: Channel) -> None:
    channel.publish("", "anything", "x", user_id="somebody else")
    closed = channel.expect_close()
    assert (closed.code, closed.method) == (406, "basic.publish")
    assert closed.text.startswith("PRECONDITION_FAILED - user_id property set to")


# Sender-selected distribution


def test_cc_and_bcc_add_routing_keys(channel: Channel) -> None:
    queues = [channel.queue(exclusive=True) for _ in range(3)]
    headers = {"CC": [queues[1]], "BCC": [queues[2]], "other": 1}
    channel.publish("", queues[0], "x", headers=headers)
    messages = [channel.take(queue) for queue in queues]
    assert [message.key for message in messages] == [queues[0]] * 3
    for message in messages:
        assert message.headers == {"CC": [queues[1]], "other": 1}


def test_cc_to_the_same_queue_delivers_once(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x", headers={"CC": [queue, queue]})
    channel.sync()
    assert channel.drain(queue) == [b"x"]


def test_a_returned_message_does_not_show_its_bcc(channel: Channel, name: Name) -> None:
    headers = {"CC": [name("a")], "BCC": [name("b")], "other": 1}
    channel.publish("amq.direct", name("nowhere"), "x", mandatory=True, headers=headers)
    assert channel.returned().headers == {"CC": [name("a")], "other": 1}


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_cc_must_be_a_list(channel: Channel, header: str) -> None:
    channel.publish("", "anything", "x", headers={header: "one"})
    closed = channel.expect_close()
    assert (closed.code, closed.text[:19]) == (406, "PRECONDITION_FAILED")


def test_cc_counts_for_mandatory(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", "nowhere", "x", mandatory=True, headers={"CC": [queue]})
    channel.sync()
    assert not channel.returns


# Direct reply-to


def test_a_reply_finds_its_way_without_a_queue(connect: Connect, channel: Channel) -> None:
    channel.consume("amq.rabbitmq.reply-to", no_ack=True)
    server = connect().channel()
    requests = server.queue(exclusive=True)
    channel.publish("", requests, "ask", reply_to="amq.rabbitmq.reply-to")
    request = server.take(requests)
    address = request.properties["reply_to"]
    assert address.startswith("amq.rabbitmq.reply-to.")
    server.publish("", address, "answer", correlation_id="1")
    reply = channel.delivery()
    assert (reply.body, reply.properties["correlation_id"]) == (b"answer", "1")


# Confirms


def test_confirms_count_from_one_and_keep_order(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "before")
    channel.confirm()
    confirmed: list[int] = []
    for _ in range(200):
        channel.publish("", queue, "x")
    while not confirmed or confirmed[-1] < 200:
        answer = channel.confirmed()
        assert answer.name == "basic.ack"
        first = (confirmed[-1] + 1) if confirmed and answer.multiple else answer.tag
        first = 1 if answer.multiple and not confirmed else first
        confirmed.extend(range(first, answer.tag + 1))
    assert confirmed == list(range(1, 201))


def test_a_message_that_goes_nowhere_is_confirmed(channel: Channel, name: Name) -> None:
    channel.confirm()
    assert channel.publish_confirmed("amq.direct", name("nowhere"), "x") == "ack"


def test_a_return_comes_before_its_confirm(channel: Channel, name: Name) -> None:
    channel.confirm()
    channel.publish("amq.direct", name("nowhere"), "x", mandatory=True)
    assert channel.confirmed().name == "basic.ack"
    assert len(channel.returns) == 1


def test_confirm_select_may_be_repeated(channel: Channel) -> None:
    channel.confirm()
    channel.confirm()
    queue = channel.queue(exclusive=True)
    assert channel.publish_confirmed("", queue, "x") == "ack"


def test_confirm_select_without_an_answer_works(channel: Channel) -> None:
    channel.send("confirm.select", nowait=True)
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x")
    assert channel.confirmed().tag == 1


def test_each_channel_counts_its_own_confirms(client: Client) -> None:
    one, two = client.channel(), client.channel()
    queue = one.queue(exclusive=True)
    for channel in (one, two):
        channel.confirm()
        channel.publish("", queue, "x")
    assert (one.confirmed().tag, two.confirmed().tag) == (1, 1)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_persistent_message_in_a_durable_queue_is_confirmed(
    channel: Channel, name: Name, kind: str
) -> None:
    queue = channel.queue(name("q"), durable=True, arguments={"x-queue-type": kind})
    channel.confirm()
    assert channel.publish_confirmed("", queue, "x", delivery_mode=2) == "ack"
    channel.call("queue.delete", queue=queue)


def test_a_missing_exchange_closes_a_confirming_channel_too(channel: Channel) -> None:
    channel.confirm()
    channel.publish("missing", "k", "x")
    assert channel.expect_close().code == 404
    assert not channel.confirms
