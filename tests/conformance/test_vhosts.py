"""Virtual hosts keep what is inside them apart, and end with everything in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from botswarm.testing.servers import AmqpServer
from tests.conformance.wire import Channel, Client, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]


@pytest.fixture
def other_vhost(broker: AmqpServer, name: Name) -> Iterator[str]:
    broker.add_vhost(name("vhost"))
    yield name("vhost")
    broker.delete_vhost(name("vhost"))


def test_the_same_queue_name_in_two_vhosts_is_two_queues(
    connect: Connect, channel: Channel, other_vhost: str, name: Name
) -> None:
    other = connect(other_vhost).channel()
    channel.queue(name("q"), exclusive=True)
    other.queue(name("q"), exclusive=True)
    channel.publish("", name("q"), "here")
    other.publish("", name("q"), "there")
    assert channel.take(name("q")).body == b"here"
    assert other.take(name("q")).body == b"there"
    assert (channel.get(name("q")), other.get(name("q"))) == (None, None)


def test_a_queue_of_one_vhost_is_not_found_in_another(
    connect: Connect, channel: Channel, other_vhost: str, name: Name
) -> None:
    channel.queue(name("q"), exclusive=True)
    with refused(404, f"NOT_FOUND - no queue '{name('q')}' in vhost '{other_vhost}'"):
        connect(other_vhost).channel().count(name("q"))


def test_an_exchange_of_one_vhost_is_not_found_in_another(
    connect: Connect, channel: Channel, other_vhost: str, name: Name
) -> None:
    channel.exchange(name("ex"), auto_delete=True)
    with refused(404, f"NOT_FOUND - no exchange '{name('ex')}' in vhost '{other_vhost}'"):
        connect(other_vhost).channel().exchange(name("ex"), passive=True)


def test_fanout_stays_within_its_vhost(
    connect: Connect, channel: Channel, other_vhost: str
) -> None:
    here = channel.queue(exclusive=True)
    channel.bind(here, "amq.fanout")
    other = connect(other_vhost).channel()
    there = other.queue(exclusive=True)
    other.bind(there, "amq.fanout")
    other.publish("amq.fanout", "", "x")
    assert other.take(there).body == b"x"
    assert channel.get(here) is None


def test_a_new_vhost_has_the_predeclared_exchanges(connect: Connect, other_vhost: str) -> None:
    channel = connect(other_vhost).channel()
    for exchange in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"):
        channel.exchange(exchange, passive=True)


def test_deleting_a_vhost_ends_its_connections(
    broker: AmqpServer, connect: Connect, channel: Channel, name: Name
) -> None:
    broker.add_vhost(name("doomed"))
    client = connect(name("doomed"))
    client.channel()
    broker.delete_vhost(name("doomed"))
    assert client.expect_close().code == 320
    channel.sync()


def test_a_vhost_that_comes_back_is_empty(broker: AmqpServer, connect: Connect, name: Name) -> None:
    broker.add_vhost(name("again"))
    client = connect(name("again"))
    client.channel().queue("kept", durable=True)
    client.close()
    broker.delete_vhost(name("again"))
    broker.add_vhost(name("again"))
    with refused(404, "NOT_FOUND"):
        connect(name("again")).channel().count("kept")
    broker.delete_vhost(name("again"))


def test_adding_a_vhost_twice_changes_nothing(
    broker: AmqpServer, connect: Connect, other_vhost: str, name: Name
) -> None:
    channel = connect(other_vhost).channel()
    channel.queue(name("q"))
    broker.add_vhost(other_vhost)
    assert channel.count(name("q")) == 0


@pytest.mark.parametrize("odd", ["a/b", "grüße", "with space", "per%cent"])
def test_a_vhost_may_have_an_odd_name(
    broker: AmqpServer, connect: Connect, odd: str, name: Name
) -> None:
    vhost = f"{odd}-{name('v')}"
    broker.add_vhost(vhost)
    assert connect(vhost).channel().queue(exclusive=True)
    broker.delete_vhost(vhost)
