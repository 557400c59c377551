"""The management answer: what Flower's broker tab and the queue commands read."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import pytest

from botswarm.testing.servers import AmqpServer, wait_until
from tests.conformance.wire import Channel, Client

Name = Callable[[str], str]
Connect = Callable[..., Client]

VHOST = "conformance"


class Management:
    def __init__(self, broker: AmqpServer) -> None:
        self.broker = broker

    def __call__(self, method: str, path: str, body: object | None = None) -> tuple[int, Any]:
        return self.broker.manage(method, path, body)

    def get(self, path: str) -> Any:
        status, answer = self("GET", path)
        assert status == 200, (status, answer)
        return answer

    def eventually(self, path: str, **fields: Any) -> dict[str, Any]:
        """The answer once it has these fields: RabbitMQ refreshes its counters now and then."""
        answer: dict[str, Any] = {}

        def matches() -> bool:
            status, found = self("GET", path)
            answer.clear()
            answer.update(found if status == 200 else {})
            return all(answer.get(key) == value for key, value in fields.items())

        try:
            wait_until(matches, f"{path} to show {fields}", 10)
        except Exception as error:
            raise AssertionError(f"{error}; last answer: {answer}") from error
        return answer


@pytest.fixture
def management(broker: AmqpServer) -> Management:
    return Management(broker)


def test_a_queue_is_described_with_its_counts(
    management: Management, channel: Channel, name: Name
) -> None:
    arguments = {"x-max-length": 100}
    queue = channel.queue(name("q"), durable=True, auto_delete=True, arguments=arguments)
    for _ in range(3):
        channel.publish("", queue, "x")
    channel.qos(1)
    channel.consume(queue)
    channel.delivery()
    row = management.eventually(
        f"queues/{VHOST}/{queue}",
        messages=3,
        messages_ready=2,
        messages_unacknowledged=1,
        consumers=1,
    )
    assert (row["name"], row["vhost"], row["durable"], row["auto_delete"], row["exclusive"]) == (
        queue,
        VHOST,
        True,
        True,
        False,
    )
    assert row["arguments"] == arguments
    assert row["state"] in ("running", "idle")
    assert row["type"] == "classic"


def test_a_queue_nobody_uses_says_since_when(
    management: Management, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"))

    def idle() -> bool:
        return bool(management.get(f"queues/{VHOST}/{queue}").get("idle_since"))

    wait_until(idle, "the queue to be idle", 10)
    channel.call("queue.delete", queue=queue)


def test_the_list_has_every_queue_of_the_vhost(
    management: Management, channel: Channel, name: Name
) -> None:
    queues = {channel.queue(name(word), exclusive=True) for word in ("a", "b", "c")}

    def listed(path: str) -> set[str]:
        return {row["name"] for row in management.get(path) if row["vhost"] == VHOST}

    wait_until(lambda: queues <= listed(f"queues/{VHOST}"), "the queues in the list", 10)
    assert queues <= listed("queues")


def test_a_quorum_queue_is_listed_as_one(
    management: Management, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), durable=True, arguments={"x-queue-type": "quorum"})
    assert management.eventually(f"queues/{VHOST}/{queue}", name=queue)["type"] == "quorum"
    channel.call("queue.delete", queue=queue)


@pytest.mark.parametrize(
    "path",
    [
        f"queues/{VHOST}/missing",
        "queues/missing",
        f"exchanges/{VHOST}/missing",
        "vhosts/missing",
        "connections/missing",
        "nothing/of/the/kind",
    ],
)
def test_what_does_not_exist_is_not_found(management: Management, path: str) -> None:
    assert management("GET", path)[0] == 404


@pytest.mark.parametrize("password", ["wrong", None])
def test_without_the_password_there_is_no_answer(broker: AmqpServer, password: str | None) -> None:
    connection = http.client.HTTPConnection(broker.host, broker.management_port, timeout=10)
    headers = {} if password is None else {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}
    connection.request("GET", "/api/overview", headers=headers)
    assert connection.getresponse().status == 401
    connection.close()


def test_the_overview_names_the_broker_and_counts(management: Management, channel: Channel) -> None:
    overview = management.get("overview")
    assert {"rabbitmq_version", "object_totals", "queue_totals"} <= set(overview)
    assert {"connections", "channels", "queues", "exchanges", "consumers"} <= set(
        overview["object_totals"]
    )


def test_vhosts_are_listed_added_and_deleted(management: Management, name: Name) -> None:
    assert management("PUT", f"vhosts/{name('v')}", {})[0] == 201
    assert management("PUT", f"vhosts/{name('v')}", {})[0] == 204
    assert name("v") in {row["name"] for row in management.get("vhosts")}
    assert management.get(f"vhosts/{name('v')}")["name"] == name("v")
    assert management("DELETE", f"vhosts/{name('v')}")[0] == 204
    assert management("DELETE", f"vhosts/{name('v')}")[0] == 404
    assert name("v") not in {row["name"] for row in management.get("vhosts")}


def test_a_queue_is_purged(management: Management, channel: Channel) -> None:
    queue = channel.queue(exclusive=False, auto_delete=True)
    for _ in range(3):
        channel.publish("", queue, "x")
    channel.wait_count(queue, 3)
    assert management("DELETE", f"queues/{VHOST}/{queue}/contents")[0] == 204
    assert channel.get(queue) is None
    assert management("DELETE", f"queues/{VHOST}/missing/contents")[0] == 404


def test_a_queue_is_deleted(management: Management, channel: Channel, name: Name) -> None:
    queue = channel.queue(name("q"))
    assert management("DELETE", f"queues/{VHOST}/{queue}")[0] == 204
    assert management("DELETE", f"queues/{VHOST}/{queue}")[0] == 404
    channel.call("queue.delete", queue=queue)


def test_a_queue_in_use_is_not_deleted_if_unused(
    management: Management, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.consume(queue)
    assert management("DELETE", f"queues/{VHOST}/{queue}?if-unused=true")[0] == 400
    assert channel.declare(queue, passive=True).consumers == 1


def _look(management: Management, queue: str, **changes: Any) -> Any:
    question = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto", **changes}
    status, answer = management("POST", f"queues/{VHOST}/{queue}/get", question)
    assert status == 200, (status, answer)
    return answer


def test_looking_at_messages_leaves_them_there(management: Management, channel: Channel) -> None:
    queue = channel.queue(auto_delete=True)
    for number in range(3):
        channel.publish("", queue, str(number), message_id=str(number), headers={"a": [1, {}]})
    channel.wait_count(queue, 3)
    seen = _look(management, queue, count=2)
    assert [row["payload"] for row in seen] == ["0", "1"]
    assert seen[0]["properties"]["message_id"] == "0"
    assert seen[0]["properties"]["headers"] == {"a": [1, {}]}
    assert (seen[0]["exchange"], seen[0]["routing_key"]) == ("", queue)
    assert [row["message_count"] for row in seen] == [2, 1]
    assert channel.drain(queue) == [b"0", b"1", b"2"]


def test_looking_marks_messages_as_redelivered(management: Management, channel: Channel) -> None:
    queue = channel.queue(auto_delete=True)
    channel.publish("", queue, "x")
    channel.wait_count(queue, 1)
    assert [_look(management, queue)[0]["redelivered"] for _ in range(2)] == [False, True]
    assert channel.take(queue).redelivered is True


def test_messages_can_be_taken_out(management: Management, channel: Channel) -> None:
    queue = channel.queue(auto_delete=True)
    for number in range(3):
        channel.publish("", queue, str(number))
    channel.wait_count(queue, 3)
    seen = _look(management, queue, ackmode="ack_requeue_false", count=2)
    assert [row["payload"] for row in seen] == ["0", "1"]
    assert channel.drain(queue) == [b"2"]


def test_a_long_payload_is_cut_where_asked(management: Management, channel: Channel) -> None:
    queue = channel.queue(auto_delete=True)
    channel.publish("", queue, "x" * 1000)
    channel.wait_count(queue, 1)
    row = _look(management, queue, truncate=10)[0]
    assert (row["payload"], row["payload_bytes"]) == ("x" * 10, 1000)


def test_bytes_that_are_no_text_are_shown_in_base64(
    management: Management, channel: Channel
) -> None:
    queue = channel.queue(auto_delete=True)
    channel.publish("", queue, b"\xff\xfe")
    channel.publish("", queue, "grüße")
    channel.wait_count(queue, 2)
    seen = _look(management, queue)
    assert [(row["payload"], row["payload_encoding"]) for row in seen] == [
        ("//4=", "base64"),
        ("grüße", "string"),
    ]


def test_an_empty_queue_shows_nothing(management: Management, channel: Channel) -> None:
    assert _look(management, channel.queue(auto_delete=True)) == []


def test_looking_into_a_missing_queue_is_not_found(management: Management) -> None:
    question = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert management("POST", f"queues/{VHOST}/missing/get", question)[0] == 404


def test_a_question_that_is_no_json_is_a_bad_request(broker: AmqpServer, channel: Channel) -> None:
    queue = channel.queue(auto_delete=True)
    assert broker.manage("POST", f"queues/{VHOST}/{queue}/get", "no object")[0] == 400


def test_exchanges_are_listed_with_their_kind(
    management: Management, channel: Channel, name: Name
) -> None:
    channel.exchange(name("ex"), "topic", durable=True, internal=True)
    rows = {row["name"]: row for row in management.get(f"exchanges/{VHOST}")}
    row = rows[name("ex")]
    assert (row["type"], row["durable"], row["auto_delete"], row["internal"], row["vhost"]) == (
        "topic",
        True,
        False,
        True,
        VHOST,
    )
    assert {"", "amq.direct", "amq.topic"} <= set(rows)
    channel.call("exchange.delete", exchange=name("ex"))


def test_bindings_are_listed_with_the_default_ones(
    management: Management, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.bind(queue, "amq.topic", "a.#", arguments={"n": 1})
    rows = [row for row in management.get(f"bindings/{VHOST}") if row["destination"] == queue]
    found = [(r["source"], r["destination_type"], r["routing_key"], r["arguments"]) for r in rows]
    assert sorted(found, key=str) == [
        ("", "queue", queue, {}),
        ("amq.topic", "queue", "a.#", {"n": 1}),
    ]


def test_a_connection_is_listed_and_can_be_closed(
    management: Management, connect: Connect, channel: Channel
) -> None:
    victim = connect()
    port = victim.socket.getsockname()[1]
    found: dict[str, Any] = {}

    def listed() -> bool:
        rows = management.get("connections")
        found.update({str(row.get("peer_port")): row for row in rows})
        return str(port) in found

    wait_until(listed, "the connection in the list", 10)
    row = found[str(port)]
    assert (row["vhost"], row["user"]) == (VHOST, management.broker.user)
    path = "connections/" + row["name"].replace(" ", "%20").replace(">", "%3E")
    assert management("DELETE", path)[0] == 204
    assert victim.expect_close().code == 320
    channel.sync()


def test_consumers_are_listed_with_their_queue(
    management: Management, channel: Channel, name: Name
) -> None:
    queue = channel.queue(name("q"), auto_delete=True)
    channel.qos(7)
    channel.consume(queue, "mine")

    def mine() -> list[dict[str, Any]]:
        return [row for row in management.get("consumers") if row["queue"]["name"] == queue]

    wait_until(lambda: bool(mine()), "the consumer in the list", 10)
    row = mine()[0]
    assert (row["consumer_tag"], row["ack_required"], row["prefetch_count"]) == ("mine", True, 7)
