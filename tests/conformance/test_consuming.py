"""Consumers: tags, exclusivity, priorities, cancellation, and who gets the next message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from botswarm.testing.servers import wait_until
from tests.conformance.wire import Channel, Client, Closed, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]


def test_a_consumer_without_a_tag_is_given_one(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    one, two = channel.consume(queue), channel.consume(queue)
    assert one.startswith("amq.ctag-")
    assert one != two


def test_a_consumer_keeps_the_tag_it_asked_for(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    assert channel.consume(queue, "mine") == "mine"
    channel.publish("", queue, "x")
    assert channel.delivery().consumer_tag == "mine"


def test_a_tag_already_taken_ends_the_connection(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.consume(queue, "mine")
    with refused(530, "NOT_ALLOWED - attempt to reuse consumer tag", scope="connection"):
        channel.consume(queue, "mine")


def test_the_same_tag_on_another_channel_is_another_consumer(client: Client) -> None:
    one, two = client.channel(), client.channel()
    queue = one.queue(exclusive=True)
    one.consume(queue, "mine")
    two.consume(queue, "mine")
    assert one.declare(queue, passive=True).consumers == 2


def test_consuming_from_a_missing_queue_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing'", method="basic.consume"):
        channel.consume("missing")


def test_consume_without_an_answer_delivers(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.send("basic.consume", queue=queue, consumer_tag="quiet", no_ack=True, nowait=True)
    channel.publish("", queue, "x")
    assert channel.delivery().consumer_tag == "quiet"
    channel.send("basic.cancel", consumer_tag="quiet", nowait=True)
    channel.sync()
    channel.publish("", queue, "y")
    assert channel.take(queue).body == b"y"


def test_an_exclusive_consumer_stays_alone(connect: Connect, channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.consume(queue, exclusive=True)
    with refused(403, "ACCESS_REFUSED - queue", method="basic.consume"):
        connect().channel().consume(queue)


def test_an_exclusive_consumer_must_be_the_first(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.consume(queue)
    with refused(403, "ACCESS_REFUSED - queue", method="basic.consume"):
        channel.consume(queue, exclusive=True)


def test_after_the_exclusive_consumer_another_may_come(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.cancel(channel.consume(queue, exclusive=True))
    channel.consume(queue)


def test_a_cancelled_consumer_gets_nothing_more(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.cancel(channel.consume(queue))
    channel.publish("", queue, "x")
    assert channel.take(queue).body == b"x"
    assert not channel.deliveries


def test_what_a_cancelled_consumer_holds_can_still_be_acknowledged(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    tag = channel.consume(queue)
    channel.publish("", queue, "x")
    message = channel.delivery()
    channel.cancel(tag)
    assert channel.get(queue) is None
    channel.ack(message.tag)
    channel.sync()
    assert channel.get(queue) is None


def test_cancelling_an_unknown_tag_is_no_error(channel: Channel) -> None:
    assert channel.call("basic.cancel", consumer_tag="nobody").consumer_tag == "nobody"


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_consumers_are_told_that_their_queue_is_gone(
    connect: Connect, channel: Channel, name: Name, kind: str
) -> None:
    queue = channel.queue(name("q"), durable=True, arguments={"x-queue-type": kind})
    tag = channel.consume(queue)
    connect().channel().call("queue.delete", queue=queue)
    assert channel.cancelled().consumer_tag == tag
    channel.sync()


def test_who_does_not_understand_the_notice_is_not_told(
    connect: Connect, channel: Channel, name: Name
) -> None:
    old = connect(capabilities={"consumer_cancel_notify": False}).channel()
    queue = channel.queue(name("q"))
    old.consume(queue)
    channel.call("queue.delete", queue=queue)
    assert old.silence()
    old.sync()
    assert not old.cancels


def test_a_broker_cannot_deliver_no_local_so_it_ignores_it(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.consume(queue, no_local=True, no_ack=True)
    channel.publish("", queue, "mine")
    assert channel.delivery().body == b"mine"


def test_messages_are_dealt_out_in_turn(client: Client) -> None:
    channels = [client.channel() for _ in range(3)]
    queue = channels[0].queue(exclusive=True)
    for channel in channels:
        channel.consume(queue, no_ack=True)
    for number in range(30):
        channels[0].publish("", queue, str(number))
    bodies = [[message.body for message in c.take_deliveries(10)] for c in channels]
    assert sorted(int(body) for part in bodies for body in part) == list(range(30))


def test_no_ack_deliveries_are_not_limited_and_not_returned(connect: Connect, name: Name) -> None:
    client = connect()
    channel = client.channel()
    queue = channel.queue(name("q"))
    channel.qos(1)
    channel.consume(queue, no_ack=True)
    for _ in range(5):
        channel.publish("", queue, "x")
    channel.take_deliveries(5)
    client.drop()
    other = connect().channel()
    assert other.get(queue) is None
    other.call("queue.delete", queue=queue)


def test_deliveries_are_numbered_per_channel(client: Client) -> None:
    channel = client.channel()
    queues = [channel.queue(exclusive=True) for _ in range(2)]
    for queue in queues:
        channel.consume(queue)
    for _ in range(2):
        for queue in queues:
            channel.publish("", queue, "x")
    assert sorted(message.tag for message in channel.take_deliveries(4)) == [1, 2, 3, 4]


# Prefetch


def test_prefetch_limits_what_a_consumer_holds(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for number in range(5):
        channel.publish("", queue, str(number))
    channel.qos(2)
    channel.consume(queue)
    first = channel.take_deliveries(2)
    assert channel.silence()
    channel.ack(first[0].tag)
    assert channel.delivery().body == b"2"
    assert channel.silence()
    channel.ack(3, multiple=True)
    assert [message.body for message in channel.take_deliveries(2)] == [b"3", b"4"]


@pytest.mark.parametrize("answer", ["nack", "reject"])
def test_a_refusal_frees_its_place(channel: Channel, answer: str) -> None:
    queue = channel.queue(exclusive=True)
    for number in range(2):
        channel.publish("", queue, str(number))
    channel.qos(1)
    channel.consume(queue)
    message = channel.delivery()
    getattr(channel, answer)(message.tag, requeue=False)
    assert channel.delivery().body == b"1"


def test_prefetch_holds_for_later_consumers_each_on_its_own(channel: Channel) -> None:
    queues = [channel.queue(exclusive=True) for _ in range(3)]
    for queue in queues:
        for _ in range(6):
            channel.publish("", queue, "x")
    tags = {}
    for queue, limit in zip(queues, (1, 2, 3), strict=True):
        channel.qos(limit)
        tags[channel.consume(queue)] = limit
    held = Counter(message.consumer_tag for message in channel.take_deliveries(6))
    assert held == Counter(tags)
    assert channel.silence()


def test_changing_prefetch_does_not_change_a_consumer_that_is_there(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(5):
        channel.publish("", queue, "x")
    channel.qos(1)
    channel.consume(queue)
    channel.delivery()
    channel.qos(3)
    assert channel.silence()


def test_zero_prefetch_means_no_limit(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(50):
        channel.publish("", queue, "x")
    channel.qos(1)
    channel.qos(0)
    channel.consume(queue)
    channel.take_deliveries(50)


def test_a_global_prefetch_is_shared_by_the_channels_consumers(channel: Channel) -> None:
    queues = [channel.queue(exclusive=True) for _ in range(2)]
    channel.qos(3, is_global=True)
    for queue in queues:
        channel.consume(queue)
    for queue in queues:
        for _ in range(3):
            channel.publish("", queue, "x")
    messages = channel.take_deliveries(3)
    assert channel.silence()
    channel.ack(messages[0].tag)
    channel.delivery()
    assert channel.silence()


def test_both_kinds_of_prefetch_hold_at_once(channel: Channel) -> None:
    queues = [channel.queue(exclusive=True) for _ in range(2)]
    channel.qos(2)
    channel.qos(3, is_global=True)
    for queue in queues:
        for _ in range(5):
            channel.publish("", queue, "x")
    for queue in queues:
        channel.consume(queue)
    held = Counter(message.consumer_tag for message in channel.take_deliveries(3))
    assert sorted(held.values()) == [1, 2]
    assert channel.silence()


def test_a_prefetch_per_consumer_lifts_the_global_one(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(4):
        channel.publish("", queue, "x")
    channel.qos(1, is_global=True)
    channel.qos(3)
    channel.consume(queue)
    channel.take_deliveries(3)
    assert channel.silence()


def test_a_consumer_goes_on_once_the_global_prefetch_is_lifted(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for body in "abc":
        channel.publish("", queue, body)
    channel.qos(1, is_global=True)
    channel.consume(queue)
    assert channel.delivery().body == b"a"
    assert channel.silence()
    channel.qos(1)
    assert [message.body for message in channel.take_deliveries(2)] == [b"b", b"c"]


def test_raising_a_global_prefetch_takes_effect_at_once(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(5):
        channel.publish("", queue, "x")
    channel.qos(1, is_global=True)
    channel.consume(queue)
    channel.delivery()
    assert channel.silence()
    channel.qos(3, is_global=True)
    channel.take_deliveries(2)
    assert channel.silence()


def test_lifting_a_global_prefetch_takes_effect_at_once(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(5):
        channel.publish("", queue, "x")
    channel.qos(1, is_global=True)
    channel.consume(queue)
    channel.delivery()
    channel.qos(0, is_global=True)
    channel.take_deliveries(4)


def test_getting_is_not_limited_by_prefetch(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(4):
        channel.publish("", queue, "x")
    channel.qos(1)
    assert [channel.take(queue, no_ack=False).tag for _ in range(3)] == [1, 2, 3]
    channel.consume(queue)
    assert channel.delivery().tag == 4


def test_a_full_consumer_leaves_messages_to_the_other(client: Client) -> None:
    full, free = client.channel(), client.channel()
    queue = full.queue(exclusive=True)
    full.qos(1)
    full.consume(queue)
    free.consume(queue)
    for _ in range(10):
        full.publish("", queue, "x")
    full.delivery()
    free.take_deliveries(9)


def test_a_prefetch_by_bytes_is_not_implemented(channel: Channel) -> None:
    with refused(540, "NOT_IMPLEMENTED - prefetch_size", method="basic.qos", scope="connection"):
        channel.qos(1, size=1000)


# Priorities of consumers


def test_the_consumer_with_the_higher_priority_comes_first(client: Client) -> None:
    low, high = client.channel(), client.channel()
    queue = low.queue(exclusive=True)
    low.consume(queue, no_ack=True)
    high.qos(2)
    high.consume(queue, arguments={"x-priority": 10})
    for number in range(3):
        low.publish("", queue, str(number))
    assert [message.body for message in high.take_deliveries(2)] == [b"0", b"1"]
    assert low.delivery().body == b"2"


def test_a_negative_priority_comes_last(client: Client) -> None:
    last, first = client.channel(), client.channel()
    queue = last.queue(exclusive=True)
    last.consume(queue, no_ack=True, arguments={"x-priority": -1})
    first.consume(queue, no_ack=True)
    for _ in range(5):
        last.publish("", queue, "x")
    first.take_deliveries(5)
    assert last.silence()


def test_a_consumer_priority_must_be_a_number(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    with refused(406, "PRECONDITION_FAILED - ", method="basic.consume"):
        channel.consume(queue, arguments={"x-priority": "high"})


# Single active consumer


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_only_one_consumer_is_active_and_another_takes_over(
    connect: Connect, channel: Channel, name: Name, kind: str
) -> None:
    arguments = {"x-single-active-consumer": True, "x-queue-type": kind}
    queue = channel.queue(name("q"), durable=True, arguments=arguments)
    leader = connect()
    one = leader.channel()
    one.qos(1)
    one.consume(queue)
    two = connect().channel()
    two.consume(queue)
    for number in range(3):
        channel.publish("", queue, str(number))
    assert one.delivery().body == b"0"
    assert two.silence()
    leader.drop()
    messages = two.take_deliveries(3)
    assert [(m.body, m.redelivered) for m in messages] == [
        (b"0", True),
        (b"1", False),
        (b"2", False),
    ]
    channel.call("queue.delete", queue=queue)


def test_a_cancelled_active_consumer_hands_over(client: Client, name: Name) -> None:
    one, two = client.channel(), client.channel()
    queue = one.queue(exclusive=True, arguments={"x-single-active-consumer": True})
    tag = one.consume(queue, no_ack=True)
    two.consume(queue, no_ack=True)
    one.cancel(tag)
    one.publish("", queue, "x")
    assert two.delivery().body == b"x"


def test_an_exclusive_consumer_makes_no_sense_beside_a_single_active_one(
    channel: Channel,
) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-single-active-consumer": True})
    with refused(403, "ACCESS_REFUSED - ", method="basic.consume"):
        channel.consume(queue, exclusive=True)


# Acknowledgements


def _hold(channel: Channel, count: int, **options: Any) -> tuple[str, list[int]]:
    queue = channel.queue(exclusive=True, **options)
    for number in range(count):
        channel.publish("", queue, str(number))
    return queue, [channel.take(queue, no_ack=False).tag for _ in range(count)]


def _left(client: Client, channel: Channel, queue: str) -> list[bytes]:
    """What comes back when this channel lets go of everything it holds."""
    channel.close()
    return client.channel().drain(queue)


def test_an_acknowledged_message_is_gone(client: Client) -> None:
    channel = client.channel()
    queue, tags = _hold(channel, 3)
    channel.ack(tags[1])
    assert _left(client, channel, queue) == [b"0", b"2"]


def test_multiple_acknowledges_all_up_to_the_tag(client: Client) -> None:
    channel = client.channel()
    queue, tags = _hold(channel, 4)
    channel.ack(tags[2], multiple=True)
    assert _left(client, channel, queue) == [b"3"]


def test_multiple_with_tag_zero_acknowledges_everything(client: Client) -> None:
    channel = client.channel()
    queue, _ = _hold(channel, 4)
    channel.ack(0, multiple=True)
    assert _left(client, channel, queue) == []


def test_multiple_with_tag_zero_and_nothing_held_is_no_error(channel: Channel) -> None:
    channel.ack(0, multiple=True)
    channel.sync()


@pytest.mark.parametrize("answer", ["ack", "nack", "reject"])
def test_an_unknown_tag_closes_the_channel(channel: Channel, answer: str) -> None:
    options = {"requeue": True} if answer != "ack" else {}
    getattr(channel, answer)(99, **options)
    closed = channel.expect_close()
    assert (closed.code, closed.method) == (406, f"basic.{answer}")
    assert closed.text == "PRECONDITION_FAILED - unknown delivery tag 99"


def test_tag_zero_alone_is_unknown(channel: Channel) -> None:
    _hold(channel, 1)
    channel.ack(0)
    assert channel.expect_close().text == "PRECONDITION_FAILED - unknown delivery tag 0"


def test_the_same_message_cannot_be_acknowledged_twice(channel: Channel) -> None:
    _, tags = _hold(channel, 1)
    channel.ack(tags[0])
    channel.ack(tags[0])
    assert channel.expect_close().text == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_a_no_ack_delivery_has_no_tag_to_acknowledge(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x")
    channel.ack(channel.take(queue).tag)
    assert channel.expect_close().code == 406


def test_another_channel_cannot_acknowledge(client: Client) -> None:
    _, tags = _hold(client.channel(), 1)
    other = client.channel()
    other.ack(tags[0])
    assert other.expect_close().code == 406


def test_an_error_returns_what_the_channel_held(client: Client) -> None:
    channel = client.channel()
    queue, _ = _hold(channel, 2)
    channel.ack(99)
    channel.expect_close()
    other = client.channel()
    assert [other.take(queue).body for _ in range(2)] == [b"0", b"1"]


@pytest.mark.parametrize("answer", ["nack", "reject"])
def test_a_requeued_message_goes_back_to_its_place(channel: Channel, answer: str) -> None:
    queue, tags = _hold(channel, 3)
    channel.publish("", queue, "3")
    getattr(channel, answer)(tags[1], requeue=True)
    channel.sync()
    messages = [channel.take(queue) for _ in range(2)]
    assert [(m.body, m.redelivered) for m in messages] == [(b"1", True), (b"3", False)]


@pytest.mark.parametrize("answer", ["nack", "reject"])
def test_a_refused_message_is_gone(client: Client, answer: str) -> None:
    channel = client.channel()
    queue, tags = _hold(channel, 2)
    getattr(channel, answer)(tags[0], requeue=False)
    assert _left(client, channel, queue) == [b"1"]


def test_nack_multiple_requeues_in_order(channel: Channel) -> None:
    queue, tags = _hold(channel, 5)
    channel.nack(tags[3], multiple=True)
    channel.sync()
    assert channel.drain(queue) == [b"0", b"1", b"2", b"3"]


def test_nack_of_everything_requeues_everything(channel: Channel) -> None:
    queue, _ = _hold(channel, 3)
    channel.nack(0, multiple=True)
    channel.sync()
    assert channel.drain(queue) == [b"0", b"1", b"2"]


def test_requeueing_out_of_order_restores_the_order(channel: Channel) -> None:
    queue, tags = _hold(channel, 5)
    for tag in (tags[3], tags[0], tags[4], tags[1], tags[2]):
        channel.nack(tag)
    channel.sync()
    assert channel.drain(queue) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_requeued_message_goes_to_another_consumer_at_once(client: Client) -> None:
    one, two = client.channel(), client.channel()
    queue = one.queue(exclusive=True)
    one.qos(1)
    one.consume(queue)
    one.publish("", queue, "x")
    message = one.delivery()
    two.consume(queue)
    tag = one.consume(queue, "second")
    one.cancel(tag)
    one.cancel(message.consumer_tag)
    one.nack(message.tag)
    again = two.delivery()
    assert (again.body, again.redelivered) == (b"x", True)


@pytest.mark.parametrize("how", ["channel", "connection", "socket"])
def test_what_was_not_acknowledged_comes_back_marked(
    connect: Connect, channel: Channel, name: Name, how: str
) -> None:
    queue = channel.queue(name("q"))
    client = connect()
    holder = client.channel()
    for number in range(3):
        channel.publish("", queue, str(number))
    for _ in range(3):
        holder.take(queue, no_ack=False)
    match how:
        case "channel":
            holder.close()
        case "connection":
            client.close()
        case _:
            client.drop()
    messages = [channel.take(queue) for _ in range(3)]
    assert [(m.body, m.redelivered) for m in messages] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
    ]
    channel.call("queue.delete", queue=queue)


@pytest.mark.parametrize("method", ["basic.recover", "basic.recover-async"])
def test_recover_requeues_everything_the_channel_holds(channel: Channel, method: str) -> None:
    queue, _ = _hold(channel, 3)
    if method == "basic.recover":
        channel.call(method, requeue=True)
    else:
        channel.send(method, requeue=True)
        channel.sync()
    messages = [channel.take(queue) for _ in range(3)]
    assert [(m.body, m.redelivered) for m in messages] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
    ]


def test_recover_without_requeue_is_not_implemented(channel: Channel) -> None:
    with refused(540, "NOT_IMPLEMENTED - ", method="basic.recover", scope="connection"):
        channel.call("basic.recover", requeue=False)


def test_a_flood_of_acknowledgements_is_taken(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.qos(100)
    channel.consume(queue)
    for number in range(2000):
        channel.publish("", queue, str(number))
    for number in range(2000):
        message = channel.delivery()
        assert message.body == str(number).encode()
        channel.ack(message.tag)
    channel.sync()
    assert channel.get(queue) is None


def test_a_queue_deleted_while_its_messages_are_held_takes_late_answers(
    channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"))
    channel.publish("", queue, "x")
    channel.publish("", queue, "y")
    held = [channel.take(queue, no_ack=False).tag for _ in range(2)]
    channel.call("queue.delete", queue=queue)
    channel.ack(held[0])
    channel.nack(held[1])
    channel.sync()


def test_a_consumer_is_counted_until_it_is_gone(
    connect: Connect, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"))
    other = connect()
    other.channel().consume(queue)
    assert channel.declare(queue, passive=True).consumers == 1
    other.drop()
    wait_until(lambda: channel.declare(queue, passive=True).consumers == 0, "the consumer to go", 5)


def test_a_refused_consumer_leaves_the_queue_alone(connect: Connect, channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    with pytest.raises(Closed):
        connect().channel().consume(queue)
    channel.publish("", queue, "x")
    assert channel.take(queue).body == b"x"
