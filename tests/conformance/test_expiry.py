"""Messages that grow old, queues that are full, and where the dead go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.conformance.wire import Channel, Client

Name = Callable[[str], str]
Connect = Callable[..., Client]


@pytest.fixture
def graveyard(channel: Channel, name: Name) -> tuple[str, str]:
    """A dead-letter exchange and the queue that collects everything it gets."""
    exchange = channel.exchange(name("dlx"), "fanout", auto_delete=True)
    queue = channel.queue(name("dead"), exclusive=True)
    channel.bind(queue, exchange)
    return exchange, queue


# Time to live


def test_a_message_older_than_its_queue_allows_is_gone(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 100})
    channel.publish("", queue, "x")
    assert channel.count(queue) in (0, 1)
    channel.wait_count(queue, 0, timeout_s=5)
    assert channel.get(queue) is None


def test_a_message_older_than_it_allows_itself_is_gone(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "x", expiration="100")
    channel.publish("", queue, "kept")
    assert channel.silence(for_s=0.3)
    assert channel.drain(queue) == [b"kept"]


@pytest.mark.parametrize(("queue_ms", "message_ms"), [(100, 60000), (60000, 100)])
def test_the_shorter_time_wins(channel: Channel, queue_ms: int, message_ms: int) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": queue_ms})
    channel.publish("", queue, "x", expiration=str(message_ms))
    assert channel.silence(for_s=0.3)
    assert channel.get(queue) is None


def test_a_message_young_enough_is_there(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 60000})
    channel.publish("", queue, "x", expiration="50000")
    message = channel.take(queue)
    assert message.properties["expiration"] == "50000"


def test_time_zero_is_for_consumers_who_wait(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 0})
    channel.publish("", queue, "nobody waits")
    channel.sync()
    assert channel.get(queue) is None
    channel.consume(queue, no_ack=True)
    channel.publish("", queue, "in time")
    assert channel.delivery().body == b"in time"


def test_expiration_zero_is_for_consumers_who_wait(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    channel.publish("", queue, "nobody waits", expiration="0")
    assert channel.get(queue) is None
    channel.consume(queue, no_ack=True)
    channel.publish("", queue, "in time", expiration="0")
    assert channel.delivery().body == b"in time"


def test_an_old_message_behind_a_young_one_waits_for_the_head(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "young")
    channel.publish("", queue, "old", expiration="50")
    assert channel.silence(for_s=0.3)
    assert channel.get(dead) is None
    assert channel.take(queue).body == b"young"
    assert channel.take(dead).body == b"old"
    assert channel.get(queue) is None


def test_a_message_that_is_held_does_not_expire(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 150})
    channel.publish("", queue, "x")
    held = channel.take(queue, no_ack=False)
    assert channel.silence(for_s=0.4)
    channel.ack(held.tag)
    channel.sync()


def test_a_requeued_message_keeps_its_first_deadline(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 300})
    channel.publish("", queue, "x")
    held = channel.take(queue, no_ack=False)
    assert channel.silence(for_s=0.45)
    channel.nack(held.tag)
    channel.sync()
    assert channel.get(queue) is None


def test_a_queue_of_old_messages_empties_itself(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-message-ttl": 200})
    for _ in range(500):
        channel.publish("", queue, "x")
    channel.wait_count(queue, 0, timeout_s=5)


# Length


def _full(channel: Channel, bodies: list[str], **arguments: Any) -> str:
    queue = channel.queue(exclusive=True, arguments=arguments)
    for body in bodies:
        channel.publish("", queue, body)
    channel.sync()
    return queue


def test_a_queue_that_is_too_long_drops_its_oldest(channel: Channel) -> None:
    queue = _full(channel, ["a", "b", "c", "d"], **{"x-max-length": 2})
    assert channel.drain(queue) == [b"c", b"d"]


def test_a_queue_of_no_length_keeps_nothing(channel: Channel) -> None:
    queue = _full(channel, ["a"], **{"x-max-length": 0})
    assert channel.drain(queue) == []


def test_a_queue_that_is_too_heavy_drops_its_oldest(channel: Channel) -> None:
    bodies = ["a" * 40, "b" * 40, "c" * 40]
    queue = _full(channel, bodies, **{"x-max-length-bytes": 100})
    assert channel.drain(queue) == [b"b" * 40, b"c" * 40]


def test_a_message_heavier_than_the_queue_is_not_kept(channel: Channel) -> None:
    queue = _full(channel, ["a" * 10, "b" * 200], **{"x-max-length-bytes": 100})
    assert channel.drain(queue) == []


def test_the_stricter_of_length_and_weight_holds(channel: Channel) -> None:
    arguments = {"x-max-length": 3, "x-max-length-bytes": 20}
    assert channel.drain(_full(channel, ["aaaaaaaaaa"] * 3, **arguments)) == [b"a" * 10] * 2
    assert channel.drain(_full(channel, list("abcd"), **arguments)) == [b"b", b"c", b"d"]


def test_what_is_held_does_not_count_towards_the_length(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-length": 2})
    for body in "ab":
        channel.publish("", queue, body)
    held = [channel.take(queue, no_ack=False) for _ in range(2)]
    for body in "cd":
        channel.publish("", queue, body)
    channel.sync()
    channel.wait_count(queue, 2)
    assert [message.body for message in held] == [b"a", b"b"]
    assert channel.drain(queue) == [b"c", b"d"]


def test_a_requeued_message_can_make_the_queue_too_long(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-length": 1})
    channel.publish("", queue, "a")
    held = channel.take(queue, no_ack=False)
    channel.publish("", queue, "b")
    channel.nack(held.tag)
    channel.sync()
    assert channel.drain(queue) == [b"b"]


def test_a_requeued_message_too_heavy_for_its_queue_is_dropped_before_it_is_redelivered(
    channel: Channel,
) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-length-bytes": 1})
    channel.qos(1)
    channel.consume(queue)
    channel.publish("", queue, "xx")  # handed on at once: it never waits in the queue
    channel.reject(channel.delivery().tag, requeue=True)
    assert channel.silence()
    channel.publish("", queue, "yy")
    assert channel.delivery().body == b"yy"


def test_reject_publish_refuses_the_newest(channel: Channel) -> None:
    queue = channel.queue(
        exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    channel.confirm()
    answers = [channel.publish_confirmed("", queue, body) for body in "abcd"]
    assert answers == ["ack", "ack", "nack", "nack"]
    assert channel.drain(queue) == [b"a", b"b"]


def test_reject_publish_by_weight_refuses_the_newest(channel: Channel) -> None:
    queue = channel.queue(
        exclusive=True, arguments={"x-max-length-bytes": 10, "x-overflow": "reject-publish"}
    )
    channel.confirm()
    answers = [channel.publish_confirmed("", queue, "x" * 10) for _ in range(2)]
    assert answers[0] == "ack"
    assert answers[1] == "nack"


def test_reject_publish_without_confirms_drops_in_silence(channel: Channel) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    assert channel.drain(_full(channel, ["a", "b"], **arguments)) == [b"a"]


def test_one_full_queue_among_several_is_a_nack_yet_the_others_got_it(
    channel: Channel, name: Name
) -> None:
    full = channel.queue(
        exclusive=True, arguments={"x-max-length": 0, "x-overflow": "reject-publish"}
    )
    free = channel.queue(exclusive=True)
    exchange = channel.exchange(name("ex"), "fanout", auto_delete=True)
    channel.bind(full, exchange)
    channel.bind(free, exchange)
    channel.confirm()
    assert channel.publish_confirmed(exchange, "", "x") == "nack"
    assert channel.drain(free) == [b"x"]


# Dead letters


def test_an_expired_message_is_dead_lettered(channel: Channel, graveyard: tuple[str, str]) -> None:
    exchange, dead = graveyard
    arguments = {"x-dead-letter-exchange": exchange, "x-message-ttl": 50}
    queue = channel.queue(exclusive=True, arguments=arguments)
    channel.publish("amq.direct", "nowhere", "x")
    channel.bind(queue, "amq.direct", queue)
    channel.publish("amq.direct", queue, "x", headers={"kept": 1})
    message = channel.take(dead)
    death = message.headers["x-death"][0]
    assert isinstance(death.pop("time"), datetime)
    assert death == {
        "count": 1,
        "reason": "expired",
        "queue": queue,
        "exchange": "amq.direct",
        "routing-keys": [queue],
    }
    assert message.headers["kept"] == 1
    assert (message.exchange, message.key, message.redelivered) == (exchange, queue, False)
    assert message.headers["x-first-death-reason"] == "expired"
    assert message.headers["x-first-death-queue"] == queue
    assert message.headers["x-first-death-exchange"] == "amq.direct"


@pytest.mark.parametrize("answer", ["nack", "reject"])
def test_a_refused_message_is_dead_lettered(
    channel: Channel, graveyard: tuple[str, str], answer: str
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x", message_id="m", delivery_mode=2)
    getattr(channel, answer)(channel.take(queue, no_ack=False).tag, requeue=False)
    message = channel.take(dead)
    assert message.headers["x-death"][0]["reason"] == "rejected"
    assert (message.properties["message_id"], message.properties["delivery_mode"]) == ("m", 2)


def test_a_message_dropped_for_length_is_dead_lettered(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = _full(channel, ["a", "b"], **{"x-max-length": 1, "x-dead-letter-exchange": exchange})
    message = channel.take(dead)
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"a", "maxlen")
    assert channel.drain(queue) == [b"b"]


def test_reject_publish_dlx_dead_letters_what_it_refuses(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(
        exclusive=True,
        arguments={
            "x-max-length": 1,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": exchange,
        },
    )
    channel.confirm()
    answers = [channel.publish_confirmed("", queue, body) for body in "ab"]
    assert answers == ["ack", "nack"]
    message = channel.take(dead)
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"b", "maxlen")


def test_reject_publish_dlx_without_an_exchange_drops_what_it_refuses(
    channel: Channel, name: Name
) -> None:
    bystander = channel.queue(name("bystander"), exclusive=True)
    full = channel.queue(
        exclusive=True, arguments={"x-max-length": 0, "x-overflow": "reject-publish-dlx"}
    )
    exchange = channel.exchange(name("ex"), "fanout", auto_delete=True)
    channel.bind(full, exchange)
    channel.confirm()
    # The default exchange is not meant by leaving the exchange out.
    assert channel.publish_confirmed(exchange, bystander, "x") == "nack"
    assert channel.silence()
    assert channel.get(bystander) is None


def test_reject_publish_alone_dead_letters_nothing(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    arguments = {
        "x-max-length": 1,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": exchange,
    }
    _full(channel, ["a", "b"], **arguments)
    assert channel.silence()
    assert channel.get(dead) is None


@pytest.mark.parametrize("way", ["ack", "purge", "delete"])
def test_what_is_done_purged_or_deleted_is_not_dead(
    channel: Channel, graveyard: tuple[str, str], way: str
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x")
    match way:
        case "ack":
            channel.ack(channel.take(queue, no_ack=False).tag)
        case "purge":
            channel.call("queue.purge", queue=queue)
        case _:
            channel.call("queue.delete", queue=queue)
    assert channel.silence()
    assert channel.get(dead) is None


def test_a_dead_letter_can_get_another_routing_key(channel: Channel, name: Name) -> None:
    dead = channel.queue(exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = channel.queue(exclusive=True, arguments=arguments)
    channel.publish("", queue, "x")
    channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    message = channel.take(dead)
    assert (message.exchange, message.key) == ("", dead)
    assert message.headers["x-death"][0]["routing-keys"] == [queue]


def test_the_expiration_of_a_dead_letter_moves_into_its_history(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x", expiration="30")
    message = channel.take(dead)
    assert "expiration" not in message.properties
    assert message.headers["x-death"][0]["original-expiration"] == "30"


def test_dead_again_in_the_same_way_is_counted(channel: Channel, name: Name) -> None:
    exchange = channel.exchange(name("dlx"), "fanout", auto_delete=True)
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.bind(queue, exchange)
    channel.publish("", queue, "x")
    for _ in range(3):
        channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    message = channel.take(queue)
    deaths = message.headers["x-death"]
    assert [(death["count"], death["reason"], death["queue"]) for death in deaths] == [
        (3, "rejected", queue)
    ]


def test_each_way_of_dying_has_its_entry_with_the_latest_first(
    channel: Channel, name: Name
) -> None:
    final = channel.queue(exclusive=True)
    second = channel.queue(
        name("second"),
        exclusive=True,
        arguments={
            "x-message-ttl": 50,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": final,
        },
    )
    first = channel.queue(
        name("first"),
        exclusive=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second},
    )
    channel.publish("", first, "x")
    channel.reject(channel.take(first, no_ack=False).tag, requeue=False)
    message = channel.take(final)
    deaths = message.headers["x-death"]
    assert [(death["reason"], death["queue"]) for death in deaths] == [
        ("expired", second),
        ("rejected", first),
    ]
    assert message.headers["x-first-death-reason"] == "rejected"
    assert message.headers["x-first-death-queue"] == first
    assert message.headers["x-first-death-exchange"] == ""


def test_the_latest_death_comes_first_and_the_others_turn_round(
    channel: Channel, name: Name
) -> None:
    # RabbitMQ turns the list of earlier deaths round each time; only the first place is a promise.
    final = channel.queue(name("final"), exclusive=True)
    following = final
    for word in "edcba":
        arguments = {
            "x-message-ttl": 10,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": following,
        }
        following = channel.queue(name(word), exclusive=True, arguments=arguments)
    orders = []
    for first in "edcba":
        channel.publish("", name(first), "x")
        deaths = channel.take(final).headers["x-death"]
        orders.append("".join(death["queue"][0] for death in deaths))
    assert orders == ["e", "ed", "ecd", "ecbd", "ecabd"]


def test_a_ring_nobody_touched_ends_the_message(channel: Channel, name: Name) -> None:
    one, two = name("one"), name("two")
    for queue, other in ((one, two), (two, one)):
        channel.queue(
            queue,
            exclusive=True,
            arguments={
                "x-message-ttl": 30,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": other,
            },
        )
    channel.publish("", one, "x")
    assert channel.silence(for_s=0.5)
    assert channel.get(one) is None
    assert channel.get(two) is None


def test_a_full_queue_whose_dead_letters_lead_back_to_it_drops_them(
    channel: Channel, name: Name
) -> None:
    exchange = channel.exchange(name("dlx"), "fanout", auto_delete=True)
    arguments = {"x-max-length": 1, "x-dead-letter-exchange": exchange}
    queue = channel.queue(exclusive=True, arguments=arguments)
    other = channel.queue(exclusive=True)
    for word in (queue, other):
        channel.bind(word, exchange)
    for body in "abc":
        channel.publish("", queue, body)
    assert [channel.take(other).body for _ in range(2)] == [b"a", b"b"]
    message = channel.take(queue)
    assert (message.body, message.headers) == (b"c", {})
    assert (channel.get(queue), channel.get(other)) == (None, None)


def test_an_expired_message_does_not_come_back_to_the_same_queue(
    channel: Channel, name: Name
) -> None:
    queue = name("q")
    arguments = {
        "x-message-ttl": 30,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    channel.queue(queue, exclusive=True, arguments=arguments)
    channel.publish("", queue, "x")
    assert channel.silence(for_s=0.2)
    channel.wait_count(queue, 0)
    assert channel.get(queue) is None


def test_a_ring_with_a_refusal_in_it_goes_on(channel: Channel, name: Name) -> None:
    # The retry pattern: refuse, wait in a side queue, come back.
    work, wait = name("work"), name("wait")
    channel.queue(
        work,
        exclusive=True,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait},
    )
    channel.queue(
        wait,
        exclusive=True,
        arguments={
            "x-message-ttl": 30,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": work,
        },
    )
    channel.publish("", work, "x")
    for _ in range(3):
        channel.reject(channel.take(work, no_ack=False).tag, requeue=False)
    message = channel.take(work)
    counts = {death["queue"]: death["count"] for death in message.headers["x-death"]}
    assert counts == {work: 3, wait: 3}


def test_a_missing_dead_letter_exchange_loses_the_message(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": name("missing")})
    channel.publish("", queue, "x")
    channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    channel.sync()
    assert channel.get(queue) is None


def test_a_dead_letter_exchange_may_come_later(channel: Channel, name: Name) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": name("dlx")})
    channel.exchange(name("dlx"), "fanout", auto_delete=True)
    dead = channel.queue(exclusive=True)
    channel.bind(dead, name("dlx"))
    channel.publish("", queue, "x")
    channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    assert channel.take(dead).body == b"x"


def test_several_dead_letters_keep_their_order(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    for number in range(20):
        channel.publish("", queue, str(number))
    last = [channel.take(queue, no_ack=False) for _ in range(20)][-1]
    channel.nack(last.tag, multiple=True, requeue=False)
    assert [channel.take(dead).body for _ in range(20)] == [str(n).encode() for n in range(20)]


def test_the_dead_keep_their_copies_keys(channel: Channel, graveyard: tuple[str, str]) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x", headers={"CC": ["elsewhere"]})
    channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    message = channel.take(dead)
    assert message.headers["x-death"][0]["routing-keys"] == [queue, "elsewhere"]


def test_a_message_rejected_after_its_queue_is_gone_is_no_dead_letter(
    channel: Channel, name: Name, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(name("q"), arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x")
    message = channel.take(queue, no_ack=False)
    channel.call("queue.delete", queue=queue)
    channel.reject(message.tag, requeue=False)
    assert channel.silence(for_s=0.3)
    assert channel.get(dead) is None


@pytest.mark.parametrize(
    "history",
    ["none", 5, [], {"count": 1}],
    ids=["text", "number", "empty", "table"],
)
def test_a_history_that_is_none_stops_no_dead_letter(
    channel: Channel, graveyard: tuple[str, str], history: Any
) -> None:
    exchange, dead = graveyard
    queue = channel.queue(exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "x", headers={"x-death": history})
    channel.reject(channel.take(queue, no_ack=False).tag, requeue=False)
    message = channel.take(dead)
    assert (message.body, message.headers["x-death"][0]["queue"]) == (b"x", queue)


# Delivery limit


def test_a_message_delivered_too_often_is_dead(
    channel: Channel, name: Name, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": exchange,
    }
    queue = channel.queue(name("q"), durable=True, arguments=arguments)
    channel.publish("", queue, "x")
    for _ in range(3):
        channel.nack(channel.take(queue, no_ack=False).tag)
    message = channel.take(dead)
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"x", "delivery_limit")
    assert channel.get(queue) is None
    channel.call("queue.delete", queue=queue)


def test_a_lost_connection_counts_towards_the_delivery_limit(
    connect: Connect, channel: Channel, name: Name, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": exchange,
    }
    queue = channel.queue(name("q"), durable=True, arguments=arguments)
    channel.publish("", queue, "x")
    for _ in range(2):
        client = connect()
        client.channel().take(queue, no_ack=False)
        client.drop()
    assert channel.take(dead).headers["x-death"][0]["reason"] == "delivery_limit"
    channel.call("queue.delete", queue=queue)


def test_the_delivery_limit_does_not_touch_other_messages(channel: Channel, name: Name) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    queue = channel.queue(name("q"), durable=True, arguments=arguments)
    for body in ("poison", "good"):
        channel.publish("", queue, body)
    for _ in range(2):
        message = channel.take(queue, no_ack=False)
        assert message.body == b"poison"
        channel.nack(message.tag)
    assert channel.take(queue).body == b"good"
    channel.call("queue.delete", queue=queue)


# Priorities of messages


def test_higher_priority_comes_out_first(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 10})
    for priority in (1, 5, 0, 10, 5):
        channel.publish("", queue, str(priority), priority=priority)
    channel.sync()
    assert channel.drain(queue) == [b"10", b"5", b"5", b"1", b"0"]


def test_the_same_priority_keeps_its_order(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 3})
    for number in range(10):
        channel.publish("", queue, str(number), priority=2)
    assert channel.drain(queue) == [str(number).encode() for number in range(10)]


def test_no_priority_is_the_lowest(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 3})
    channel.publish("", queue, "none")
    channel.publish("", queue, "one", priority=1)
    assert channel.drain(queue) == [b"one", b"none"]


def test_a_priority_above_the_highest_is_the_highest(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 3})
    channel.publish("", queue, "three", priority=3)
    channel.publish("", queue, "nine", priority=9)
    channel.publish("", queue, "two", priority=2)
    messages = [channel.take(queue) for _ in range(3)]
    assert [message.body for message in messages] == [b"three", b"nine", b"two"]
    assert messages[1].properties["priority"] == 9


def test_a_queue_without_priorities_ignores_them(channel: Channel) -> None:
    queue = channel.queue(exclusive=True)
    for priority in (1, 9, 5):
        channel.publish("", queue, str(priority), priority=priority)
    assert channel.drain(queue) == [b"1", b"9", b"5"]


def test_a_requeued_message_keeps_its_priority(channel: Channel) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 5})
    channel.publish("", queue, "low", priority=1)
    channel.publish("", queue, "high", priority=5)
    held = channel.take(queue, no_ack=False)
    channel.publish("", queue, "middle", priority=3)
    channel.nack(held.tag)
    channel.sync()
    assert channel.drain(queue) == [b"high", b"middle", b"low"]


def test_a_full_queue_with_priorities_drops_its_head_whatever_its_priority(
    channel: Channel,
) -> None:
    queue = channel.queue(exclusive=True, arguments={"x-max-priority": 5, "x-max-length": 2})
    for body, priority in (("high", 5), ("low", 1), ("middle", 3)):
        channel.publish("", queue, body, priority=priority)
    channel.sync()
    assert channel.drain(queue) == [b"middle", b"low"]


def test_priorities_between_queues_do_not_mix(channel: Channel) -> None:
    queues = [
        channel.queue(exclusive=True, arguments={"x-max-priority": highest}) for highest in (1, 9)
    ]
    for queue in queues:
        for priority in (1, 5, 9):
            channel.publish("", queue, str(priority), priority=priority)
    assert [channel.drain(queue) for queue in queues] == [
        [b"1", b"5", b"9"],
        [b"9", b"5", b"1"],
    ]


def test_an_expired_message_of_low_priority_waits_for_the_head(
    channel: Channel, graveyard: tuple[str, str]
) -> None:
    exchange, dead = graveyard
    arguments = {"x-max-priority": 5, "x-dead-letter-exchange": exchange}
    queue = channel.queue(exclusive=True, arguments=arguments)
    channel.publish("", queue, "high", priority=5)
    channel.publish("", queue, "low", priority=0, expiration="50")
    assert channel.silence(for_s=0.3)
    assert channel.get(dead) is None
    assert channel.take(queue).body == b"high"
    assert channel.take(dead).body == b"low"
