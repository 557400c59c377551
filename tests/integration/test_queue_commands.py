"""`botswarm queue` against the embedded broker and RabbitMQ, with and without management."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp import Message
from kombu.connection import Connection

from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    free_port,
)
from tests.command_line import run_botswarm

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(
    scope="module", params=[EmbeddedBrokerServer, RabbitMQServer], ids=["embedded", "rabbitmq"]
)
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, broker: AmqpServer) -> Run:
    def run(*words: str, management: bool = True) -> subprocess.CompletedProcess[str]:
        environ = {"AMQP_URL": broker.url()}
        if management:
            environ["BOTSWARM_BROKER_MANAGEMENT_URL"] = broker.management_url
        return run_botswarm("queue", *words, folder=tmp_path, environ=environ)

    return run


@contextlib.contextmanager
def channel(broker: AmqpServer) -> Iterator[Any]:
    with Connection(broker.url()) as connection:  # type: ignore[no-untyped-call]
        yield connection.default_channel


@pytest.fixture
def orders(broker: AmqpServer) -> Iterator[str]:
    """A quorum queue with two messages, one of them a Celery task that has died before."""
    with channel(broker) as opened:
        arguments = {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "orders.dead",
        }
        opened.queue_declare("orders", durable=True, auto_delete=False, arguments=arguments)
        opened.queue_declare("orders.dead", durable=True, auto_delete=False)
        death = {"reason": "rejected", "queue": "orders", "count": 3, "exchange": ""}
        headers = {"task": "workers.orders.place", "id": "b7-1", "x-death": [death]}
        opened.basic_publish(
            Message("[1, 2]", application_headers=headers, delivery_mode=2), routing_key="orders"
        )
        opened.basic_publish(Message("x" * 5000, delivery_mode=2), routing_key="orders")
        _until(lambda: opened.queue_declare("orders", passive=True).message_count == 2)
        yield "orders"
        opened.queue_delete("orders")
        opened.queue_delete("orders.dead")


def _until(true: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _waiting(broker: AmqpServer, name: str) -> int:
    with channel(broker) as opened:
        return int(opened.queue_declare(name, passive=True).message_count)


def test_list_shows_type_counts_and_where_dead_letters_go(run: Run, orders: str) -> None:
    def rows() -> dict[str, dict[str, Any]]:
        answer = json.loads(run("list", "--json").stdout)
        return {row["name"]: row for row in answer["data"]}

    # RabbitMQ counts for its management API every five seconds.
    _until(lambda: rows()["orders"]["ready"] == 2)
    assert rows()["orders"] == {
        "name": "orders",
        "type": "quorum",
        "ready": 2,
        "unacked": 0,
        "consumers": 0,
        "dead_letter_to": "(default exchange) key orders.dead",
    }
    assert rows()["orders.dead"]["type"] == "classic"
    text = run("list", "orders").stdout.splitlines()
    assert text[0].split()[:5] == ["NAME", "TYPE", "READY", "UNACKED", "CONSUMERS"]
    assert text[1].split()[:3] == ["orders", "quorum", "2"]
    assert len(text) == 2


def test_without_management_named_queues_are_listed_with_a_warning(run: Run, orders: str) -> None:
    done = run("list", "orders", "--json", management=False)
    answer = json.loads(done.stdout)
    assert (answer["data"][0]["ready"], answer["data"][0]["type"]) == (2, None)
    assert "without the management API" in answer["warnings"][0]
    done = run("list", management=False)
    assert done.returncode == 2
    assert "BOTSWARM_BROKER_MANAGEMENT_URL" in done.stderr


def test_a_management_api_that_is_down_costs_details_but_not_the_answer(
    run: Run, orders: str, broker: AmqpServer, tmp_path: Path
) -> None:
    (tmp_path / "botswarm.toml").write_text(
        f'broker_management_url = "http://u:pw12@127.0.0.1:{free_port()}"'
    )
    answer = json.loads(run("list", "orders", "--json", management=False).stdout)
    assert answer["data"][0]["ready"] == 2
    assert "cannot reach the management API at http://u:***@127.0.0.1" in answer["warnings"][0]
    done = run("list", management=False)
    assert done.returncode == 5
    assert "BSW-5003" in done.stderr


@pytest.mark.parametrize("words", [["list"], ["peek"], ["purge", "--yes"]], ids=" ".join)
def test_an_unknown_queue_is_exit_4_with_the_name_that_was_meant(
    run: Run, orders: str, words: list[str]
) -> None:
    done = run(*words, "ordres")
    assert done.returncode == 4
    assert done.stderr == "Error [BSW-4001] there is no queue 'ordres'; did you mean orders?\n"
    done = run(*words, "ordres", management=False)
    assert done.returncode == 4
    assert "there is no queue 'ordres'; see: botswarm queue list" in done.stderr


def test_peek_shows_messages_in_order_and_takes_none(
    run: Run, orders: str, broker: AmqpServer
) -> None:
    for _ in range(3):  # looking again shows the same, in the same order
        data = json.loads(run("peek", "orders", "--count", "5", "--json").stdout)["data"]
        first, second = data["messages"]
        assert (first["task"], first["task_id"], first["body"]) == (
            "workers.orders.place",
            "b7-1",
            "[1, 2]",
        )
        assert first["dead_lettered"][0]["reason"] == "rejected"
        assert (second["task"], second["bytes"], second["body_truncated"]) == (None, 5000, True)
    assert _waiting(broker, "orders") == 2
    text = run("peek", "orders").stdout
    assert "1. workers.orders.place  b7-1" in text
    assert "dead-lettered: rejected in orders, 3 x" in text
    data = json.loads(run("peek", "orders", "--json").stdout)["data"]
    assert (len(data["messages"]), data["more"]) == (1, 1)


def test_peek_leaves_a_classic_queue_in_its_order(run: Run, broker: AmqpServer) -> None:
    with channel(broker) as opened:
        opened.queue_declare("plain", durable=True, auto_delete=False)
        for body in "abcd":
            opened.basic_publish(Message(body), routing_key="plain")
        _until(lambda: opened.queue_declare("plain", passive=True).message_count == 4)
        for count in ("3", "4", "4"):
            answer = json.loads(run("peek", "plain", "--count", count, "--json").stdout)
            bodies = [message["body"] for message in answer["data"]["messages"]]
            assert bodies == list("abcd")[: int(count)]
        opened.queue_delete("plain")


def test_peek_into_an_empty_queue_says_so(run: Run, orders: str) -> None:
    assert (
        run("peek", "orders.dead").stdout
        == "The queue orders.dead holds no message that is ready.\n"
    )


def test_purge_without_confirmation_is_refused_and_deletes_nothing(
    run: Run, orders: str, broker: AmqpServer
) -> None:
    for words in (
        ["purge", "orders"],
        ["purge", "orders", "--json"],
        ["purge", "orders", "--no-input"],
    ):
        assert run(*words).returncode == 6
    assert 'botswarm queue purge "orders" --yes' in run("purge", "orders").stderr
    assert _waiting(broker, "orders") == 2


def test_purge_with_yes_deletes_and_counts(run: Run, orders: str, broker: AmqpServer) -> None:
    assert json.loads(run("--json", "purge", "orders", "--yes").stdout)["data"]["purged"] == 2
    assert _waiting(broker, "orders") == 0
    assert run("purge", "orders", "--yes").stdout == "Deleted 0 messages from orders.\n"


@pytest.mark.parametrize(("typed", "code", "left"), [("orders", 0, 0), ("yes", 6, 2), ("", 6, 2)])
def test_purge_at_a_terminal_wants_the_queues_name_typed(
    tmp_path: Path, orders: str, broker: AmqpServer, typed: str, code: int, left: int
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode() + b"\n")
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", "queue", "purge", "orders"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "AMQP_URL": broker.url()},
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code
    assert "This would delete 2 messages" in done.stderr
    assert _waiting(broker, "orders") == left


def test_an_exclusive_queue_of_somebody_else_is_refused(run: Run, broker: AmqpServer) -> None:
    with channel(broker) as opened:
        opened.queue_declare("private", exclusive=True)
        done = run("peek", "private")
    assert done.returncode == 6
    assert "belongs to another connection alone" in done.stderr


def test_another_vhost_has_its_own_queues(
    run: Run, orders: str, broker: AmqpServer, tmp_path: Path
) -> None:
    broker.add_vhost("a/b")
    try:
        url, management = broker.url("a/b"), broker.management_url
        environ = {"AMQP_URL": url, "BOTSWARM_BROKER_MANAGEMENT_URL": management}
        done = run_botswarm("queue", "list", folder=tmp_path, environ=environ)
    finally:
        broker.delete_vhost("a/b")
    assert done.stdout == "There are no queues in the vhost a/b.\n"


def test_a_management_password_that_is_wrong_is_said(
    run: Run, broker: AmqpServer, tmp_path: Path
) -> None:
    url = f"http://nobody:s3cr3t-word@{broker.host}:{broker.management_port}"
    environ = {"AMQP_URL": broker.url(), "BOTSWARM_BROKER_MANAGEMENT_URL": url}
    done = run_botswarm("queue", "list", folder=tmp_path, environ=environ)
    assert done.returncode == 5
    assert "refuses this user (status 401)" in done.stderr
    assert "s3cr3t" not in done.stderr
