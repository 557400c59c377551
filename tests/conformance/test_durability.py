"""What is there again after the broker was stopped, and after it was killed.

The broker goes down once per way; each test looks at one thing that should have survived, or
should not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from botswarm.testing.servers import AmqpServer
from tests.conformance.wire import Channel, Client, Closed, Ended, Method, refused

QUORUM = {"x-queue-type": "quorum"}


@dataclass(slots=True)
class World:
    """Everything here is named after the way down, so that both can follow one another."""

    how: str
    channel: Channel
    farewell: int = 0
    """The reply code the clients were sent off with; 0 where there was none."""
    messages: dict[str, list[Method]] = field(default_factory=dict)

    def name(self, word: str) -> str:
        return f"{self.how}-{word}"

    def take_all(self, word: str) -> list[Method]:
        """The messages of a queue, read once and kept for the other tests."""
        if word not in self.messages:
            found = []
            while (message := self.channel.get(self.name(word))) is not None:
                found.append(message)
            self.messages[word] = found
        return self.messages[word]

    def bodies(self, word: str) -> list[bytes]:
        return [message.body for message in self.take_all(word)]


def _connect(broker: AmqpServer, vhost: str) -> Client:
    return Client(broker.host, broker.port).open(broker.user, broker.password, vhost)


def _publish(channel: Channel, exchange: str, key: str, body: Any, **properties: Any) -> None:
    properties = {"delivery_mode": 2, **properties}
    assert channel.publish_confirmed(exchange, key, body, **properties) == "ack"


def _build(world: World, broker: AmqpServer, vhost: str) -> None:
    channel, name = world.channel, world.name
    channel.confirm()

    channel.queue(name("plain"), durable=True)
    for number in range(3):
        _publish(
            channel,
            "",
            name("plain"),
            f"p{number}",
            headers={"n": number, "deep": {"list": [1, None]}},
            message_id=f"m{number}",
            content_type="text/plain",
        )
    _publish(channel, "", name("plain"), "transient", delivery_mode=1)
    channel.queue(name("brief"))
    _publish(channel, "", name("brief"), "lost with its queue")

    channel.queue(name("many"), durable=True)
    for number in range(500):
        channel.publish("", name("many"), str(number), delivery_mode=2)
    _publish(channel, "", name("many"), "500")

    channel.queue(name("sizes"), durable=True)
    for size in (0, 600_000):
        _publish(channel, "", name("sizes"), b"\x00\xff" * size)

    channel.exchange(name("ex"), "topic", durable=True)
    channel.exchange(name("next"), "fanout", durable=True)
    channel.exchange(name("brief-ex"), "fanout")
    channel.exchange(name("spare-ex"), durable=True, arguments={"alternate-exchange": name("next")})
    for word in ("bound", "behind"):
        channel.queue(name(word), durable=True)
    channel.bind(name("bound"), name("ex"), "a.#", arguments={"n": 1})
    channel.bind(name("bound"), name("ex"), "gone.#")
    channel.unbind(name("bound"), name("ex"), "gone.#")
    channel.call("exchange.bind", destination=name("next"), source=name("ex"), routing_key="b.*")
    channel.bind(name("behind"), name("next"))
    channel.bind(name("behind"), name("brief-ex"))

    channel.queue(name("deleted"), durable=True)
    _publish(channel, "", name("deleted"), "x")
    channel.call("queue.delete", queue=name("deleted"))
    channel.exchange(name("deleted-ex"), durable=True)
    channel.call("exchange.delete", exchange=name("deleted-ex"))
    channel.queue(name("purged"), durable=True)
    _publish(channel, "", name("purged"), "x")
    channel.call("queue.purge", queue=name("purged"))
    _publish(channel, "", name("purged"), "after")

    channel.queue(name("limited"), durable=True, arguments={"x-max-length": 2})
    for body in "abc":
        _publish(channel, "", name("limited"), body)
    channel.queue(name("ranked"), durable=True, arguments={"x-max-priority": 5})
    for priority in (1, 5, 3, 5):
        _publish(channel, "", name("ranked"), str(priority), priority=priority)

    channel.queue(name("dead"), durable=True)
    channel.queue(
        name("killing"),
        durable=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name("dead")},
    )
    _publish(channel, "", name("killing"), "corpse", headers={"kept": True})
    channel.reject(channel.take(name("killing"), no_ack=False).tag, requeue=False)
    channel.wait_count(name("dead"), 1)
    # Nobody confirms a dead letter; a confirmed message behind it says that it is written.
    _publish(channel, "", name("dead"), "behind")

    channel.queue(name("aging"), durable=True)
    _publish(channel, "", name("aging"), "young", expiration="600000")
    channel.queue(
        name("aged"),
        durable=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name("dead")},
    )
    _publish(channel, "", name("aged"), "dies while the broker is down", expiration="800")

    for word in ("quorum", "counted"):
        channel.queue(name(word), durable=True, arguments=QUORUM)
    for number in range(3):
        _publish(channel, "", name("quorum"), str(number))
    channel.ack(channel.take(name("quorum"), no_ack=False).tag)
    channel.queue(name("steadfast"), durable=True, arguments=QUORUM)
    _publish(channel, "", name("steadfast"), "transient", delivery_mode=1)
    assert channel.publish_confirmed("", name("steadfast"), "without a mode") == "ack"
    _publish(channel, "", name("counted"), "x")
    for _ in range(2):
        channel.nack(channel.take(name("counted"), no_ack=False).tag)
    channel.take(name("counted"), no_ack=False)

    channel.queue(name("held"), durable=True)
    for number in range(4):
        _publish(channel, "", name("held"), str(number))
    channel.ack(channel.take(name("held"), no_ack=False).tag)
    for _ in range(2):
        channel.take(name("held"), no_ack=False)
    _publish(channel, "", name("held"), "4")
    channel.queue(name("private"), durable=True, exclusive=True)
    channel.sync()


def _go_down(world: World, broker: AmqpServer) -> None:
    # RabbitMQ writes the list of its quorum queues down up to half a second late, and what is
    # not on that list hangs for ever after a kill.
    time.sleep(1.0)
    if world.how == "stop":
        broker.stop()
    else:
        broker.kill()
    try:
        world.farewell = world.channel.client.expect_close().code
    except Ended:
        world.farewell = 0
    world.channel.client.drop()
    time.sleep(1.0)  # longer than the message in "aged" may live
    broker.start()


@pytest.fixture(scope="module", params=["stop", "kill"])
def world(request: pytest.FixtureRequest, broker: AmqpServer, vhost: str) -> Iterator[World]:
    world = World(request.param, _connect(broker, vhost).channel())
    _build(world, broker, vhost)
    _go_down(world, broker)
    world.channel = _connect(broker, vhost).channel()
    yield world
    world.channel.client.close()


def test_a_stopping_broker_says_goodbye_and_a_killed_one_does_not(world: World) -> None:
    assert world.farewell == (320 if world.how == "stop" else 0)


def test_persistent_messages_are_there_in_order_and_whole(world: World) -> None:
    messages = world.take_all("plain")[:3]
    assert [message.body for message in messages] == [b"p0", b"p1", b"p2"]
    for number, message in enumerate(messages):
        assert message.properties == {
            "content_type": "text/plain",
            "headers": {"n": number, "deep": {"list": [1, None]}},
            "delivery_mode": 2,
            "message_id": f"m{number}",
        }


def test_transient_messages_are_gone(world: World) -> None:
    assert b"transient" not in world.bodies("plain")


def test_transient_queues_are_gone(world: World) -> None:
    with refused(404, "NOT_FOUND"):
        _fresh(world).count(world.name("brief"))


def test_exclusive_queues_are_gone_even_if_durable(world: World) -> None:
    with refused(404, "NOT_FOUND"):
        _fresh(world).count(world.name("private"))


def _fresh(world: World) -> Channel:
    """A channel that an error may close."""
    return world.channel.client.channel()


def test_many_messages_keep_their_order(world: World) -> None:
    assert world.bodies("many") == [str(number).encode() for number in range(501)]


def test_empty_and_large_bodies_are_whole(world: World) -> None:
    assert world.bodies("sizes") == [b"", b"\x00\xff" * 600_000]


def test_durable_exchanges_keep_their_kind_and_arguments(world: World) -> None:
    channel = _fresh(world)
    channel.exchange(world.name("ex"), "topic", durable=True)
    channel.exchange(world.name("next"), "fanout", durable=True)
    channel.exchange(
        world.name("spare-ex"), durable=True, arguments={"alternate-exchange": world.name("next")}
    )


def test_transient_exchanges_are_gone(world: World) -> None:
    with refused(404, "NOT_FOUND"):
        _fresh(world).exchange(world.name("brief-ex"), passive=True)


def test_durable_bindings_still_route(world: World) -> None:
    channel = _fresh(world)
    channel.publish(world.name("ex"), "a.b.c", "by topic")
    assert channel.take(world.name("bound")).body == b"by topic"
    assert channel.get(world.name("bound")) is None


def test_bindings_between_exchanges_still_route(world: World) -> None:
    channel = _fresh(world)
    channel.publish(world.name("ex"), "b.x", "through")
    assert channel.take(world.name("behind")).body == b"through"


def test_alternate_exchanges_still_route(world: World) -> None:
    channel = _fresh(world)
    channel.publish(world.name("spare-ex"), "unknown", "spare")
    assert channel.take(world.name("behind")).body == b"spare"


def test_what_was_unbound_stays_unbound(world: World) -> None:
    channel = _fresh(world)
    channel.publish(world.name("ex"), "gone.x", "x", mandatory=True)
    assert channel.returned().code == 312


def test_what_was_deleted_does_not_come_back(world: World) -> None:
    with refused(404, "NOT_FOUND"):
        _fresh(world).count(world.name("deleted"))
    with refused(404, "NOT_FOUND"):
        _fresh(world).exchange(world.name("deleted-ex"), passive=True)


def test_what_was_purged_does_not_come_back(world: World) -> None:
    assert world.bodies("purged") == [b"after"]


def test_the_arguments_of_a_queue_still_hold(world: World) -> None:
    channel = _fresh(world)
    channel.queue(world.name("limited"), durable=True, arguments={"x-max-length": 2})
    assert world.bodies("limited") == [b"b", b"c"]
    for body in "def":
        channel.publish("", world.name("limited"), body)
    channel.sync()
    assert channel.drain(world.name("limited")) == [b"e", b"f"]
    with refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length'"):
        channel.queue(world.name("limited"), durable=True, arguments={"x-max-length": 3})


def test_priorities_still_order_the_queue(world: World) -> None:
    assert world.bodies("ranked") == [b"5", b"5", b"3", b"1"]


def test_the_history_of_a_dead_letter_is_kept(world: World) -> None:
    message = next(m for m in world.take_all("dead") if m.body == b"corpse")
    death = message.headers["x-death"][0]
    assert (death["reason"], death["queue"], death["count"]) == (
        "rejected",
        world.name("killing"),
        1,
    )
    assert message.headers["kept"] is True


def test_time_goes_on_while_the_broker_is_down(world: World) -> None:
    assert world.bodies("aged") == []
    deadline = time.monotonic() + 5
    while b"dies while the broker is down" not in world.bodies("dead"):
        world.messages["dead"] += [world.channel.take(world.name("dead"), timeout_s=5)]
        assert time.monotonic() < deadline


def test_a_message_with_time_left_is_still_there(world: World) -> None:
    messages = world.take_all("aging")
    assert [(m.body, m.properties["expiration"]) for m in messages] == [(b"young", "600000")]


def test_a_quorum_queue_keeps_what_was_not_acknowledged(world: World) -> None:
    channel = _fresh(world)
    assert [channel.take(world.name("quorum")).body for _ in range(2)] == [b"1", b"2"]
    assert channel.get(world.name("quorum")) is None


def test_a_quorum_queue_keeps_what_is_not_persistent_too(world: World) -> None:
    assert world.bodies("steadfast") == [b"transient", b"without a mode"]


def test_a_quorum_queue_keeps_its_delivery_counts(world: World) -> None:
    message = _fresh(world).take(world.name("counted"))
    assert message.redelivered is True
    assert message.headers["x-delivery-count"] in (2, 3)


def test_what_was_held_comes_back_marked_and_what_was_done_does_not(world: World) -> None:
    messages = {message.body: message.redelivered for message in world.take_all("held")}
    done = messages.pop(b"0", None)
    # A killed broker may have lost the last acknowledgements, never the mark.
    assert done is None or (world.how == "kill" and done is True)
    assert sorted(messages) == [b"1", b"2", b"3", b"4"]
    assert (messages[b"1"], messages[b"2"]) == (True, True)
    if world.how == "stop":  # after a kill RabbitMQ marks everything, to be on the safe side
        assert (messages[b"3"], messages[b"4"]) == (False, False)


def test_the_broker_works_on(world: World) -> None:
    channel = _fresh(world)
    queue = channel.queue(exclusive=True)
    channel.confirm()
    assert channel.publish_confirmed("", queue, "x") == "ack"
    assert channel.take(queue).body == b"x"


def test_names_of_the_broker_are_not_given_out_twice(world: World) -> None:
    channel = _fresh(world)
    with pytest.raises(Closed):
        channel.count(world.name("private"))
    queues = {_fresh(world).queue(exclusive=True) for _ in range(50)}
    assert len(queues) == 50
