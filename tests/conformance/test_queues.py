"""Queues: declaring, counting, locking, expiring and deleting them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from botswarm.testing.servers import AmqpServer, wait_until
from tests.conformance.wire import Channel, Client, Closed, Typed, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]


def exists(client: Client, queue: str) -> bool:
    channel = client.channel()
    try:
        channel.count(queue)
    except Closed as closed:
        if closed.code != 404:
            raise
        return False
    channel.close()
    return True


def test_a_queue_without_a_name_is_given_one(channel: Channel) -> None:
    first, second = channel.queue(exclusive=True), channel.queue(exclusive=True)
    assert first.startswith("amq.gen-")
    assert second.startswith("amq.gen-")
    assert first != second


@pytest.mark.parametrize("queue", ["amq.mine", "amq.gen-mine", "amq."])
def test_names_that_begin_with_amq_are_reserved(channel: Channel, queue: str) -> None:
    with refused(403, "ACCESS_REFUSED - queue name", method="queue.declare"):
        channel.queue(queue)


def test_declare_answers_with_the_counts(channel: Channel, name: Name) -> None:
    answer = channel.declare(name("q"), auto_delete=True)
    assert (answer.queue, answer.messages, answer.consumers) == (name("q"), 0, 0)
    for _ in range(3):
        channel.publish("", name("q"), "x")
    channel.wait_count(name("q"), 3)
    answer = channel.declare(name("q"), auto_delete=True)
    assert (answer.messages, answer.consumers) == (3, 0)
    channel.qos(1)
    channel.consume(name("q"))
    channel.delivery()
    answer = channel.declare(name("q"), passive=True)
    assert (answer.messages, answer.consumers) == (2, 1)


@pytest.mark.parametrize(
    ("first", "change", "word"),
    [
        ({}, {"durable": True}, "durable"),
        ({"durable": True}, {"durable": False}, "durable"),
        ({}, {"auto_delete": True}, "auto_delete"),
    ],
    ids=["durable", "not durable", "auto_delete"],
)
def test_declaring_it_otherwise_is_refused(
    channel: Channel, name: Name, first: dict[str, Any], change: dict[str, Any], word: str
) -> None:
    channel.queue(name("q"), **first)
    with refused(406, f"PRECONDITION_FAILED - inequivalent arg '{word}'", method="queue.declare"):
        channel.queue(name("q"), **{**first, **change})


def test_declaring_another_ones_exclusive_way_is_locked(channel: Channel, name: Name) -> None:
    channel.queue(name("q"), auto_delete=True)
    with refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"):
        channel.queue(name("q"), auto_delete=True, exclusive=True)


ARGUMENTS = {
    "x-message-ttl": (1000, 2000),
    "x-expires": (60000, 70000),
    "x-max-length": (10, 11),
    "x-max-length-bytes": (1000, 2000),
    "x-dead-letter-exchange": ("one", "two"),
    "x-dead-letter-routing-key": ("one", "two"),
    "x-max-priority": (5, 6),
    "x-overflow": ("drop-head", "reject-publish"),
    "x-single-active-consumer": (True, False),
    "x-queue-mode": ("lazy", "default"),
}


def _with(argument: str, value: Any) -> dict[str, Any]:
    needs = {"x-dead-letter-exchange": "dlx"} if argument == "x-dead-letter-routing-key" else {}
    return {**needs, argument: value}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_the_same_argument_is_accepted_and_another_refused(
    channel: Channel, name: Name, argument: str
) -> None:
    one, other = ARGUMENTS[argument]
    channel.queue(name("q"), arguments=_with(argument, one))
    channel.queue(name("q"), arguments=_with(argument, one))
    with refused(406, f"PRECONDITION_FAILED - inequivalent arg '{argument}'"):
        channel.queue(name("q"), arguments=_with(argument, other))


@pytest.mark.parametrize("argument", ["x-message-ttl", "x-max-length", "x-dead-letter-exchange"])
def test_leaving_an_argument_out_is_another_queue(
    channel: Channel, name: Name, argument: str
) -> None:
    channel.queue(name("q"), arguments={argument: ARGUMENTS[argument][0]})
    with refused(406, f"PRECONDITION_FAILED - inequivalent arg '{argument}'"):
        channel.queue(name("q"))


def test_the_width_of_a_number_makes_no_difference(channel: Channel, name: Name) -> None:
    channel.queue(name("q"), auto_delete=True, arguments={"x-max-length": 10})
    channel.queue(
        name("q"),
        auto_delete=True,
        arguments={"x-max-length": Typed("l", struct.pack(">q", 10))},
    )


def test_an_unknown_argument_makes_no_difference(channel: Channel, name: Name) -> None:
    channel.queue(name("q"), auto_delete=True)
    channel.queue(name("q"), auto_delete=True, arguments={"x-colour": "blue"})


BAD_ARGUMENTS = [
    ("x-message-ttl", -1),
    ("x-message-ttl", "soon"),
    ("x-message-ttl", 2**40),
    ("x-expires", 0),
    ("x-expires", -5),
    ("x-expires", "soon"),
    ("x-max-length", -1),
    ("x-max-length", "many"),
    ("x-max-length-bytes", -1),
    ("x-max-priority", -1),
    ("x-max-priority", 256),
    ("x-max-priority", "high"),
    ("x-dead-letter-exchange", 5),
    ("x-dead-letter-routing-key", "alone"),
    ("x-overflow", "explode"),
    ("x-overflow", 1),
    ("x-single-active-consumer", "yes"),
    ("x-queue-type", "odd"),
    ("x-queue-mode", "odd"),
]


@pytest.mark.parametrize(("argument", "value"), BAD_ARGUMENTS)
def test_an_argument_that_makes_no_sense_is_refused(
    channel: Channel, name: Name, argument: str, value: Any
) -> None:
    with refused(406, "PRECONDITION_FAILED - ", method="queue.declare"):
        channel.queue(name("q"), arguments={argument: value})


def test_a_passive_declare_looks_at_the_name_only(channel: Channel, name: Name) -> None:
    channel.queue(name("q"), auto_delete=True, arguments={"x-max-length": 3})
    channel.queue(name("q"), passive=True, durable=True)


def test_a_passive_declare_of_a_missing_queue_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing'", method="queue.declare"):
        channel.count("missing")


# Exclusive queues


@pytest.mark.parametrize(
    "action", ["declare", "passive", "consume", "get", "purge", "delete", "bind"]
)
def test_an_exclusive_queue_is_locked_to_its_connection(
    connect: Connect, channel: Channel, name: Name, action: str
) -> None:
    queue = channel.queue(name("q"), exclusive=True)
    other = connect().channel()
    with refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"):
        match action:
            case "declare":
                other.queue(queue, exclusive=True)
            case "passive":
                other.count(queue)
            case "consume":
                other.consume(queue)
            case "get":
                other.get(queue)
            case "purge":
                other.call("queue.purge", queue=queue)
            case "delete":
                other.call("queue.delete", queue=queue)
            case _:
                other.bind(queue, "amq.direct", "k")


def test_anyone_may_publish_to_an_exclusive_queue(connect: Connect, channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    other = connect().channel()
    other.publish("", queue, "from outside")
    assert channel.take(queue).body == b"from outside"


@pytest.mark.parametrize("politely", [True, False], ids=["close", "drop"])
def test_an_exclusive_queue_goes_with_its_connection(
    connect: Connect, client: Client, politely: bool
) -> None:
    owner = connect()
    queue = owner.channel().queue(exclusive=True, durable=True)
    if politely:
        owner.close()
    else:
        owner.drop()
    wait_until(lambda: not exists(client, queue), "the queue to go", 5)


def test_an_exclusive_queue_outlives_the_channel_that_made_it(client: Client) -> None:
    channel = client.channel()
    queue = channel.queue(exclusive=True)
    channel.close()
    assert exists(client, queue)


# Auto-delete and expiry


def test_an_auto_delete_queue_goes_with_its_last_consumer(client: Client, name: Name) -> None:
    channel = client.channel()
    queue = channel.queue(name("q"), auto_delete=True)
    one, two = channel.consume(queue), channel.consume(queue)
    channel.cancel(one)
    assert exists(client, queue)
    channel.cancel(two)
    wait_until(lambda: not exists(client, queue), "the queue to go", 5)


def test_an_auto_delete_queue_goes_with_its_consumers_channel(client: Client, name: Name) -> None:
    channel = client.channel()
    queue = channel.queue(name("q"), auto_delete=True)
    channel.consume(queue)
    channel.close()
    wait_until(lambda: not exists(client, queue), "the queue to go", 5)


def test_an_auto_delete_queue_goes_with_its_consumers_connection(
    connect: Connect, client: Client, name: Name
) -> None:
    other = connect()
    channel = other.channel()
    queue = channel.queue(name("q"), auto_delete=True)
    channel.consume(queue)
    other.drop()
    wait_until(lambda: not exists(client, queue), "the queue to go", 5)


def test_an_auto_delete_queue_never_consumed_stays(
    connect: Connect, client: Client, name: Name
) -> None:
    other = connect()
    queue = other.channel().queue(name("q"), auto_delete=True)
    other.close()
    assert exists(client, queue)


def test_an_unused_queue_expires(client: Client, name: Name) -> None:
    channel = client.channel()
    queue = channel.queue(name("q"), arguments={"x-expires": 300})
    channel.publish("", queue, "lost with it")
    for _ in range(8):
        # Asking puts off the expiry, so ask seldom.
        assert channel.silence(for_s=0.6)
        if not exists(client, queue):
            return
    raise AssertionError("the queue did not expire")


def test_a_consumer_keeps_a_queue_from_expiring(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), arguments={"x-expires": 300})
    channel.consume(queue, no_ack=True)
    assert channel.silence(for_s=0.8)
    channel.publish("", queue, "x")
    assert channel.delivery().body == b"x"


def test_getting_and_declaring_again_put_off_the_expiry(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), arguments={"x-expires": 600})
    for _ in range(4):
        assert channel.silence(for_s=0.2)
        assert channel.get(queue) is None
    for _ in range(4):
        assert channel.silence(for_s=0.2)
        channel.queue(name("q"), arguments={"x-expires": 600})


# Purge and delete


def test_purge_counts_and_removes_what_is_ready(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for _ in range(5):
        channel.publish("", queue, "x")
    taken = channel.take(queue, no_ack=False)
    channel.wait_count(queue, 4)
    assert channel.call("queue.purge", queue=queue).messages == 4
    assert channel.count(queue) == 0
    channel.nack(taken.tag)
    assert channel.take(queue).redelivered is True


def test_purging_a_missing_queue_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing'", method="queue.purge"):
        channel.call("queue.purge", queue="missing")


def test_delete_counts_what_it_removed(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"))
    for _ in range(3):
        channel.publish("", queue, "x")
    channel.wait_count(queue, 3)
    assert channel.call("queue.delete", queue=queue).messages == 3
    with refused(404, "NOT_FOUND"):
        channel.count(queue)


def test_deleting_a_missing_queue_is_no_error(channel: Channel) -> None:
    assert channel.call("queue.delete", queue="missing").messages == 0


def test_a_queue_with_messages_is_not_deleted_if_empty(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"))
    channel.publish("", queue, "x")
    channel.wait_count(queue, 1)
    with refused(406, "PRECONDITION_FAILED - queue", method="queue.delete"):
        channel.call("queue.delete", queue=queue, if_empty=True)


def test_a_queue_with_consumers_is_not_deleted_if_unused(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"))
    channel.consume(queue)
    with refused(406, "PRECONDITION_FAILED - queue", method="queue.delete"):
        channel.call("queue.delete", queue=queue, if_unused=True)


def test_an_empty_unused_queue_is_deleted_on_both_conditions(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"))
    channel.call("queue.delete", queue=queue, if_unused=True, if_empty=True)
    with refused(404, "NOT_FOUND"):
        channel.count(queue)


def test_a_deleted_queue_is_bound_to_nothing_when_it_comes_back(
    channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.bind(queue, "amq.fanout")
    channel.call("queue.delete", queue=queue)
    channel.queue(name("q"), auto_delete=True)
    channel.publish("amq.fanout", "", "x")
    assert channel.drain(queue) == []


def test_nowait_declares_binds_purges_and_deletes_without_an_answer(
    channel: Channel, name: Name
) -> None:
    queue = name("q")
    channel.send("queue.declare", queue=queue, nowait=True)
    channel.send("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue, nowait=True)
    channel.publish("amq.direct", queue, "x")
    channel.wait_count(queue, 1)
    channel.send("queue.purge", queue=queue, nowait=True)
    assert channel.count(queue) == 0
    channel.send("queue.delete", queue=queue, nowait=True)
    with refused(404, "NOT_FOUND"):
        channel.count(queue)


def test_messages_keep_their_order(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for number in range(500):
        channel.publish("", queue, str(number))
    channel.consume(queue, no_ack=True)
    assert [int(m.body) for m in channel.take_deliveries(500)] == list(range(500))


# Quorum queues


QUORUM = {"x-queue-type": "quorum"}


@pytest.mark.parametrize(
    "options",
    [{"durable": False}, {"exclusive": True}, {"auto_delete": True}],
    ids=["transient", "exclusive", "auto_delete"],
)
def test_a_quorum_queue_must_be_durable_and_shared(
    broker_name: str, channel: Channel, name: Name, options: dict[str, bool]
) -> None:
    with refused(406, "PRECONDITION_FAILED - invalid property", method="queue.declare"):
        channel.queue(name("q"), **{"durable": True, **options}, arguments=QUORUM)


@pytest.mark.parametrize("argument", [{"x-max-priority": 5}, {"x-queue-mode": "lazy"}], ids=str)
def test_a_quorum_queue_refuses_what_it_cannot_do(
    channel: Channel, name: Name, argument: dict[str, Any]
) -> None:
    with refused(406, "PRECONDITION_FAILED - invalid arg", method="queue.declare"):
        channel.queue(name("q"), durable=True, arguments={**QUORUM, **argument})


def test_a_quorum_queue_takes_its_own_arguments(channel: Channel, name: Name) -> None:
    arguments = {
        **QUORUM,
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": "dlx",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-message-ttl": 60000,
        "x-expires": 60000,
        "x-single-active-consumer": True,
        "x-quorum-initial-group-size": 1,
    }
    channel.queue(name("q"), durable=True, arguments=arguments)
    channel.queue(name("q"), durable=True, arguments=arguments)
    channel.call("queue.delete", queue=name("q"))


@pytest.mark.parametrize("declared", ["classic", "quorum"])
def test_the_type_of_a_queue_cannot_change(channel: Channel, name: Name, declared: str) -> None:
    other = "quorum" if declared == "classic" else "classic"
    channel.queue(name("q"), durable=True, arguments={"x-queue-type": declared})
    with refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"):
        channel.queue(name("q"), durable=True, arguments={"x-queue-type": other})


def test_a_classic_queue_may_leave_its_type_out(channel: Channel, name: Name) -> None:
    channel.queue(name("q"), auto_delete=True, arguments={"x-queue-type": "classic"})
    channel.queue(name("q"), auto_delete=True)


def test_global_prefetch_is_refused_by_a_quorum_queue(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), durable=True, arguments=QUORUM)
    channel.qos(1, is_global=True)
    with refused(540, "NOT_IMPLEMENTED - queue", method="basic.consume", scope="connection"):
        channel.consume(queue)


def test_a_quorum_queue_says_how_often_it_delivered(channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"), durable=True, arguments=QUORUM)
    channel.confirm()
    assert channel.publish_confirmed("", queue, "x") == "ack"
    counts = []
    for _ in range(4):
        message = channel.take(queue, no_ack=False)
        counts.append((message.redelivered, message.headers.get("x-delivery-count")))
        channel.nack(message.tag)
    assert counts == [(False, 0), (True, 1), (True, 2), (True, 3)]
    channel.call("queue.delete", queue=queue)


def test_a_classic_queue_does_not_count_deliveries(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x")
    channel.nack(channel.take(queue, no_ack=False).tag)
    message = channel.take(queue)
    assert (message.redelivered, message.headers) == (True, {})


def test_queues_are_where_the_management_answer_says(
    broker: AmqpServer, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    wait_until(
        lambda: broker.manage("GET", f"queues/conformance/{queue}")[0] == 200, "the queue", 5
    )
