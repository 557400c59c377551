"""`botswarm feed selftest`: a message there and back, and a digest that is fresh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.integration.feed_process import FeedProcess


@pytest.fixture(scope="module", params=[RabbitMQServer, EmbeddedBrokerServer])
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as server:
        yield server


def selftest(url: str, *words: str) -> tuple[int, Any]:
    plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", "feed", "selftest", "--json", *words],
        env=plain | {"BOTSWARM_BROKER_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_message_is_heard_within_a_second(broker: AmqpServer) -> None:
    code, answer = selftest(broker.url())
    assert code == 0
    trips = answer["data"]["round_trip_ms"]
    assert 0 < trips["least"] <= trips["median"] <= trips["most"] < 1000


def test_without_a_feed_no_digest_is_heard_and_the_command_says_what_to_do(
    broker: AmqpServer,
) -> None:
    code, answer = selftest(broker.url(), "--venue", "simulated")
    assert code == 3
    assert "no digest of simulated" in json.dumps(answer)
    assert "botswarm run feed" in json.dumps(answer)


def test_a_running_feed_s_digest_is_heard_and_fresh() -> None:
    with (
        EmbeddedBrokerServer() as server,
        SimulatedExchangeServer() as exchange,
        FeedProcess(exchange.state_dir, server.url()),
    ):
        code, answer = selftest(server.url(), "--venue", "simulated")
    assert code == 0, answer
    assert answer["data"]["digest"]["age_ms"] < 5000


def test_a_broker_that_is_not_there_is_told_with_its_cure() -> None:
    code, answer = selftest("amqp://a:b@127.0.0.1:2")
    assert code == 5
    assert "cannot reach the broker" in json.dumps(answer)
