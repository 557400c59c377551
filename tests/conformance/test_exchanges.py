"""Exchanges: their kinds, their life, and where each sends a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.wire import Channel, Client, refused

Name = Callable[[str], str]
Connect = Callable[..., Client]

KINDS = ("direct", "fanout", "topic", "headers")


def reaches(channel: Channel, exchange: str, key: str, **properties: Any) -> bool:
    """Whether a message goes anywhere at all; what it reached keeps it."""
    channel.publish(exchange, key, "probe", mandatory=True, **properties)
    channel.sync()
    if channel.returns:
        channel.returns.popleft()
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_declared_again_the_same(channel: Channel, name: Name, kind: str) -> None:
    exchange = channel.exchange(name("ex"), kind)
    channel.exchange(exchange, kind)
    channel.call("exchange.delete", exchange=exchange)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "topic"}, "type"),
        ({"durable": True}, "durable"),
        ({"auto_delete": True}, "auto_delete"),
        ({"internal": True}, "internal"),
        ({"arguments": {"alternate-exchange": "other"}}, "alternate-exchange"),
    ],
    ids=["type", "durable", "auto_delete", "internal", "arguments"],
)
def test_declaring_it_otherwise_is_refused(
    channel: Channel, name: Name, change: dict[str, Any], word: str
) -> None:
    channel.exchange(name("ex"), auto_delete=False)
    with refused(
        406, f"PRECONDITION_FAILED - inequivalent arg '{word}'", method="exchange.declare"
    ):
        channel.exchange(name("ex"), **change)


def test_an_unknown_argument_makes_no_difference(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"))
    channel.exchange(name("ex"), arguments={"x-colour": "blue"})


def test_a_passive_declare_finds_an_exchange_of_any_kind(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), "topic", durable=True)
    channel.exchange(name("ex"), "direct", passive=True)
    channel.call("exchange.delete", exchange=name("ex"))


def test_a_passive_declare_of_a_missing_exchange_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no exchange 'missing'", method="exchange.declare"):
        channel.exchange("missing", passive=True)


def test_an_unknown_kind_is_invalid(channel: Channel, name: Name) -> None:
    with refused(503, "COMMAND_INVALID - unknown exchange type 'odd'", scope="connection"):
        channel.exchange(name("ex"), "odd")


@pytest.mark.parametrize("exchange", ["amq.mine", "amq."])
def test_names_that_begin_with_amq_are_reserved(channel: Channel, exchange: str) -> None:
    with refused(403, "ACCESS_REFUSED - exchange name", method="exchange.declare"):
        channel.exchange(exchange)


@pytest.mark.parametrize(
    ("exchange", "kind"),
    [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)
def test_the_predeclared_exchanges_are_there(channel: Channel, exchange: str, kind: str) -> None:
    channel.exchange(exchange, kind, passive=True)
    channel.exchange(exchange, kind, durable=True)


def test_a_predeclared_exchange_cannot_be_deleted(channel: Channel) -> None:
    with refused(403, "ACCESS_REFUSED - deletion of system exchange", method="exchange.delete"):
        channel.call("exchange.delete", exchange="amq.topic")


@pytest.mark.parametrize("method", ["exchange.declare", "exchange.delete"])
def test_the_default_exchange_cannot_be_touched(channel: Channel, method: str) -> None:
    options = {"type": "direct"} if method == "exchange.declare" else {}
    with refused(403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        channel.call(method, exchange="", **options)


def test_nothing_can_be_bound_to_the_default_exchange(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    with refused(403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        channel.bind(queue, "", "key")


def test_nothing_can_be_unbound_from_the_default_exchange(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    with refused(403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        channel.unbind(queue, "", queue)


def test_the_default_exchange_routes_by_queue_name(channel: Channel, name: Name) -> None:
    channel.queue(name("a"), exclusive=True)
    channel.queue(name("b"), exclusive=True)
    channel.publish("", name("b"), "for b")
    assert channel.drain(name("a")) == []
    assert channel.drain(name("b")) == [b"for b"]


def test_deleting_a_missing_exchange_is_no_error(channel: Channel) -> None:
    assert channel.call("exchange.delete", exchange="missing").name == "exchange.delete-ok"


def test_an_exchange_in_use_is_not_deleted_if_unused(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"))
    channel.bind(channel.queue(exclusive=True), name("ex"), "k")
    with refused(406, "PRECONDITION_FAILED - exchange", method="exchange.delete"):
        channel.call("exchange.delete", exchange=name("ex"), if_unused=True)


def test_an_exchange_out_of_use_is_deleted_if_unused(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"))
    queue = channel.queue(exclusive=True)
    channel.bind(queue, name("ex"), "k")
    channel.unbind(queue, name("ex"), "k")
    channel.call("exchange.delete", exchange=name("ex"), if_unused=True)
    with refused(404, "NOT_FOUND"):
        channel.exchange(name("ex"), passive=True)


def test_deleting_an_exchange_deletes_its_bindings(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("ex"))
    channel.bind(queue, name("ex"), "k")
    channel.call("exchange.delete", exchange=name("ex"))
    channel.exchange(name("ex"))
    assert not reaches(channel, name("ex"), "k")


def test_an_auto_delete_exchange_goes_with_its_last_binding(channel: Channel, name: Name) -> None:
    one, two = channel.queue(exclusive=True), channel.queue(exclusive=True)
    channel.exchange(name("ex"), auto_delete=True)
    channel.bind(one, name("ex"), "k")
    channel.bind(two, name("ex"), "k")
    channel.unbind(one, name("ex"), "k")
    channel.exchange(name("ex"), passive=True)
    channel.unbind(two, name("ex"), "k")
    with refused(404, "NOT_FOUND - no exchange"):
        channel.exchange(name("ex"), passive=True)


def test_an_auto_delete_exchange_never_bound_stays(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), auto_delete=True)
    channel.exchange(name("ex"), passive=True)


def test_an_auto_delete_exchange_goes_when_its_last_queue_is_deleted(
    channel: Channel, name: Name
) -> None:
    channel.exchange(name("ex"), auto_delete=True)
    channel.queue(name("q"))
    channel.bind(name("q"), name("ex"), "k")
    channel.call("queue.delete", queue=name("q"))
    with refused(404, "NOT_FOUND - no exchange"):
        channel.exchange(name("ex"), passive=True)


def test_an_internal_exchange_takes_nothing_from_clients(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), internal=True)
    channel.publish(name("ex"), "k", "x")
    closed = channel.expect_close()
    assert (closed.code, closed.text[:14]) == (403, "ACCESS_REFUSED")


def test_an_internal_exchange_takes_messages_from_another_exchange(
    channel: Channel, name: Name
) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("inner"), "fanout", internal=True, auto_delete=True)
    channel.exchange(name("outer"), "fanout", auto_delete=True)
    channel.bind(queue, name("inner"))
    channel.call("exchange.bind", destination=name("inner"), source=name("outer"))
    channel.publish(name("outer"), "", "through")
    assert channel.drain(queue) == [b"through"]


def test_a_long_name_is_kept_whole(channel: Channel, name: Name) -> None:
    long = name("x" * 200) + "é"
    channel.exchange(long, auto_delete=True)
    queue = channel.queue(exclusive=True)
    channel.bind(queue, long, "k")
    channel.publish(long, "k", "x")
    message = channel.get(queue)
    assert message is not None
    assert message.exchange == long


def test_nowait_declares_without_an_answer(channel: Channel, name: Name) -> None:
    channel.send("exchange.declare", exchange=name("ex"), type="fanout", nowait=True)
    channel.exchange(name("ex"), passive=True)
    channel.send("exchange.delete", exchange=name("ex"), nowait=True)
    with refused(404, "NOT_FOUND"):
        channel.exchange(name("ex"), passive=True)


# Where messages go


def test_direct_delivers_to_every_queue_with_the_same_key(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), "direct", auto_delete=True)
    queues = [channel.queue(exclusive=True) for _ in range(3)]
    for queue in queues[:2]:
        channel.bind(queue, name("ex"), "k")
    channel.bind(queues[2], name("ex"), "K")
    channel.publish(name("ex"), "k", "x")
    assert [channel.drain(queue) for queue in queues] == [[b"x"], [b"x"], []]


def test_fanout_ignores_the_key(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), "fanout", auto_delete=True)
    queue = channel.queue(exclusive=True)
    channel.bind(queue, name("ex"), "one")
    channel.publish(name("ex"), "another", "x")
    assert channel.drain(queue) == [b"x"]


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_a_queue_bound_twice_gets_a_message_once(channel: Channel, name: Name, kind: str) -> None:
    channel.exchange(name("ex"), kind, auto_delete=True)
    queue = channel.queue(exclusive=True)
    channel.bind(queue, name("ex"), "k")
    channel.bind(queue, name("ex"), "k")
    channel.bind(queue, name("ex"), "k", arguments={"x": 1})
    if kind == "topic":
        channel.bind(queue, name("ex"), "#")
    channel.publish(name("ex"), "k", "x")
    assert channel.drain(queue) == [b"x"]


TOPICS = [
    ("a.b.c", "a.b.c", True),
    ("a.b.c", "a.b", False),
    ("a.b.c", "a.b.c.d", False),
    ("*", "a", True),
    ("*", "a.b", False),
    ("*", "", False),
    ("#", "", True),
    ("#", "a.b.c", True),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.", True),
    ("*.b", ".b", True),
    ("a.*.c", "a.b.c", True),
    ("a.*.c", "a..c", True),
    ("a.*.c", "a.c", False),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("#.c", "c", True),
    ("#.c", "a.b.c", True),
    ("#.c", "a.c.b", False),
    ("a.#.c", "a.c", True),
    ("a.#.c", "a.b.b.c", True),
    ("a.#.c", "a.b", False),
    ("#.a.#", "x.a.y", True),
    ("#.a.#", "a", True),
    ("#.a.#", "x.y", False),
    ("#.#", "", True),
    ("*.#", "", False),
    ("*.#", "a.b", True),
    ("#.*", "a", True),
    ("*.*", "a", False),
    ("*.*", ".", True),
    ("a.*.#", "a", False),
    ("a.*.#", "a.b.c", True),
    ("#.*.b", "a.b", True),
    ("#.*.b", "b", False),
    ("a*", "ab", False),
    ("a#", "ab", False),
    ("a*", "a*", True),
    ("", "", True),
    ("", "a", False),
    ("A.b", "a.b", False),
    ("..", "..", True),
]


@pytest.mark.parametrize(("pattern", "key", "matches"), TOPICS)
def test_topic_patterns_match_words(
    channel: Channel, name: Name, pattern: str, key: str, matches: bool
) -> None:
    channel.exchange(name("ex"), "topic", auto_delete=True)
    channel.bind(channel.queue(exclusive=True), name("ex"), pattern)
    assert reaches(channel, name("ex"), key) is matches


def test_topic_bindings_go_one_by_one(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), "topic", auto_delete=True)
    queue = channel.queue(exclusive=True)
    for pattern in ("a.#", "#.b", "a.*"):
        channel.bind(queue, name("ex"), pattern)
    channel.unbind(queue, name("ex"), "a.#")
    assert not reaches(channel, name("ex"), "a.x.y")
    assert reaches(channel, name("ex"), "a.x")
    assert reaches(channel, name("ex"), "x.b")


HEADERS = [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x"}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
    ({"x-match": "all", "a": 1}, {"a": 2}, False),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
    ({"x-match": "any", "a": 1}, {}, False),
    ({"x-match": "all"}, {"a": 1}, True),
    ({"x-match": "all"}, {}, True),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "all", "a": None}, {"a": "anything"}, True),
    ({"x-match": "all", "a": None}, {"b": 1}, False),
    ({"x-match": "all", "x-b": 1}, {}, True),
    ({"x-match": "all-with-x", "x-b": 1}, {}, False),
    ({"x-match": "all-with-x", "x-b": 1}, {"x-b": 1}, True),
    ({"x-match": "any-with-x", "x-b": 1}, {"x-b": 1}, True),
    ({"x-match": "all", "a": "1"}, {"a": 1}, False),
    ({"x-match": "all", "a": True}, {"a": True}, True),
    ({"x-match": "all", "a": 1.5}, {"a": 1.5}, True),
]


@pytest.mark.parametrize(("wanted", "given", "matches"), HEADERS)
def test_headers_exchanges_compare_headers(
    channel: Channel, name: Name, wanted: dict[str, Any], given: dict[str, Any], matches: bool
) -> None:
    channel.exchange(name("ex"), "headers", auto_delete=True)
    queue = channel.queue(exclusive=True)
    channel.bind(queue, name("ex"), "ignored", arguments=wanted)
    assert reaches(channel, name("ex"), "whatever", headers=given) is matches


def test_an_unknown_x_match_is_refused(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), "headers", auto_delete=True)
    queue = channel.queue(exclusive=True)
    with refused(406, "PRECONDITION_FAILED - Invalid x-match field value", method="queue.bind"):
        channel.bind(queue, name("ex"), arguments={"x-match": "some"})


def test_a_headers_exchange_matches_a_message_without_headers_to_an_empty_binding(
    channel: Channel, name: Name
) -> None:
    channel.exchange(name("ex"), "headers", auto_delete=True)
    queue = channel.queue(exclusive=True)
    channel.bind(queue, name("ex"))
    channel.publish(name("ex"), "", "bare")
    assert channel.drain(queue) == [b"bare"]


# Exchange to exchange


def test_a_message_passes_through_a_chain_of_exchanges(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    for word in "abc":
        channel.exchange(name(word), "topic", auto_delete=True)
    channel.bind(queue, name("c"), "k.#")
    channel.call("exchange.bind", destination=name("c"), source=name("b"), routing_key="#.z")
    channel.call("exchange.bind", destination=name("b"), source=name("a"), routing_key="k.*")
    channel.publish(name("a"), "k.z", "through")
    channel.publish(name("a"), "k.y", "stopped at c")
    channel.publish(name("a"), "j.z", "stopped at b")
    messages = [channel.get(queue), channel.get(queue)]
    assert [message and (message.body, message.exchange, message.key) for message in messages] == [
        (b"through", name("a"), "k.z"),
        None,
    ]


def test_a_ring_of_exchanges_delivers_once(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    for word in "abc":
        channel.exchange(name(word), "fanout")
    for source, destination in ("ab", "bc", "ca"):
        channel.call("exchange.bind", destination=name(destination), source=name(source))
    channel.bind(queue, name("c"))
    channel.bind(queue, name("b"))
    channel.publish(name("a"), "", "once")
    assert channel.drain(queue) == [b"once"]
    for word in "abc":
        channel.call("exchange.delete", exchange=name(word))


def test_an_exchange_unbound_from_another_gets_nothing_more(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("a"), "fanout")
    channel.exchange(name("b"), "fanout", auto_delete=True)
    channel.bind(queue, name("b"))
    channel.call("exchange.bind", destination=name("b"), source=name("a"), routing_key="k")
    channel.call("exchange.unbind", destination=name("b"), source=name("a"), routing_key="k")
    assert not reaches(channel, name("a"), "k")


def test_unbinding_what_was_never_bound_is_no_error(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("ex"), auto_delete=False)
    channel.unbind(queue, name("ex"), "never")
    channel.unbind(queue, name("ex"), "never", arguments={"x": 1})
    channel.exchange(name("ex"), passive=True)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_binding_a_missing_exchange_is_not_found(channel: Channel, name: Name, side: str) -> None:
    channel.exchange(name("ex"))
    other = "source" if side == "destination" else "destination"
    with refused(404, "NOT_FOUND - no exchange 'missing'", method="exchange.bind"):
        channel.call("exchange.bind", **{side: "missing", other: name("ex")})


def test_binding_a_missing_queue_is_not_found(channel: Channel) -> None:
    with refused(404, "NOT_FOUND - no queue 'missing'", method="queue.bind"):
        channel.bind("missing", "amq.direct", "k")


def test_bindings_that_differ_in_arguments_are_different(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("ex"), auto_delete=True)
    channel.bind(queue, name("ex"), "k", arguments={"n": 1})
    channel.bind(queue, name("ex"), "k", arguments={"n": 2})
    channel.unbind(queue, name("ex"), "k", arguments={"n": 1})
    assert reaches(channel, name("ex"), "k")
    channel.unbind(queue, name("ex"), "k")  # neither of the two
    assert reaches(channel, name("ex"), "k")


def test_an_empty_queue_name_means_the_last_one_declared(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.bind("", "amq.fanout")
    channel.call("queue.bind", queue="", exchange="amq.direct", routing_key=name("k"))
    channel.publish("amq.direct", name("k"), "x")
    message = channel.take(queue)
    assert message.body == b"x"


# Alternate exchanges


def test_what_is_not_routed_goes_to_the_alternate_exchange(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("spare"), "fanout", auto_delete=True)
    channel.bind(queue, name("spare"))
    channel.exchange(name("ex"), arguments={"alternate-exchange": name("spare")})
    assert reaches(channel, name("ex"), "nowhere")
    message = channel.take(queue)
    assert (message.exchange, message.key) == (name("ex"), "nowhere")
    channel.call("exchange.delete", exchange=name("ex"))


def test_alternate_exchanges_form_a_chain(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True)
    channel.exchange(name("c"), "fanout")
    channel.exchange(name("b"), arguments={"alternate-exchange": name("c")})
    channel.exchange(name("a"), arguments={"alternate-exchange": name("b")})
    channel.bind(queue, name("c"))
    channel.publish(name("a"), "k", "far")
    assert channel.drain(queue) == [b"far"]
    for word in "abc":
        channel.call("exchange.delete", exchange=name(word))


def test_a_routed_message_does_not_go_to_the_alternate_exchange(
    channel: Channel, name: Name
) -> None:
    queue, spare = channel.queue(exclusive=True), channel.queue(exclusive=True)
    channel.exchange(name("spare"), "fanout")
    channel.exchange(name("ex"), arguments={"alternate-exchange": name("spare")})
    channel.bind(spare, name("spare"))
    channel.bind(queue, name("ex"), "k")
    channel.publish(name("ex"), "k", "x")
    assert (channel.drain(queue), channel.drain(spare)) == ([b"x"], [])
    channel.call("exchange.delete", exchange=name("ex"))


def test_a_missing_alternate_exchange_returns_the_message(channel: Channel, name: Name) -> None:
    channel.exchange(name("ex"), arguments={"alternate-exchange": name("missing")})
    assert not reaches(channel, name("ex"), "k")
    channel.call("exchange.delete", exchange=name("ex"))


def test_alternate_exchanges_in_a_ring_return_the_message(channel: Channel, name: Name) -> None:
    channel.exchange(name("a"), arguments={"alternate-exchange": name("b")})
    channel.exchange(name("b"), arguments={"alternate-exchange": name("a")})
    assert not reaches(channel, name("a"), "k")
    for word in "ab":
        channel.call("exchange.delete", exchange=name(word))


def test_an_alternate_exchange_must_be_named_by_a_string(channel: Channel, name: Name) -> None:
    with refused(406, "PRECONDITION_FAILED - invalid type"):
        channel.exchange(name("ex"), arguments={"alternate-exchange": 5})
