"""`botswarm feed selftest`: a message there and back, and a digest that is fresh."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import botswarm.metrics
from botswarm.metrics import Described
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer, free_port
from tests.command_line import ROOT, run_botswarm
from tests.integration.feed_process import FeedProcess


@pytest.fixture(scope="module", params=[RabbitMQServer, EmbeddedBrokerServer])
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as server:
        yield server


def selftest(url: str, *words: str) -> tuple[int, Any]:
    words = ("feed", "selftest", "--json", *words)
    done = run_botswarm(*words, folder=ROOT, environ={"BOTSWARM_BROKER_URL": url})
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


def test_a_running_feed_s_digest_is_heard_and_fresh_and_all_of_it_is_measured() -> None:
    port = free_port()
    with (
        EmbeddedBrokerServer() as server,
        SimulatedExchangeServer() as exchange,
        FeedProcess(
            exchange.state_dir, server.url(), settings={"BOTSWARM_METRICS_PORT": str(port)}
        ),
    ):
        code, answer = selftest(server.url(), "--venue", "simulated")
        metrics = scraped(port)
    assert code == 0, answer
    assert answer["data"]["digest"]["age_ms"] < 5000
    venue = 'exchange="simulated"'
    assert metrics[f"botswarm_exchange_connected{{{venue}}}"] == 1
    assert metrics[f"botswarm_feed_leads{{{venue}}}"] == 1
    assert metrics["botswarm_memory_usage_bytes"] > 10_000_000
    assert "botswarm_cpu_usage_percent" in metrics
    for name in ("events_published_total", "events_received_total", "event_latency_ms_count"):
        assert metrics[f'botswarm_{name}{{{venue},type="trade"}}'] > 0
    confirmed = f'botswarm_event_latency_ms_bucket{{{venue},le="+Inf",type="trade"}}'
    assert metrics[confirmed] == metrics[f'botswarm_event_latency_ms_count{{{venue},type="trade"}}']
    lost = {name.split('"')[3] for name in metrics if name.startswith("botswarm_events_lost_")}
    assert "gone_trade" in lost
    assert lost & {"duplicate", "missed_trade", "recovered_trade", "repeated_message"} == set()
    assert f'botswarm_events_irregular_total{{{venue},kind="duplicate"}}' in metrics
    described = {name.partition("{")[0] for name in metrics}
    assert {each.name for each in declared()} <= {
        name.removesuffix("_total").removesuffix("_count") for name in described
    } | {"botswarm_frames_rejected", "botswarm_security_events", "botswarm_clock_offset_seconds"}
    page = (ROOT / "docs/ticks.md").read_text()
    assert [each.name for each in declared() if each.name not in page] == []


def declared() -> list[Described]:
    """What is said of each venue, and of each server that is asked."""
    return [
        each
        for each in vars(botswarm.metrics).values()
        if isinstance(each, Described) and {"exchange", "server"} & {*each.label_names}
    ]


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_a_broker_that_is_not_there_is_told_with_its_cure() -> None:
    code, answer = selftest("amqp://a:b@127.0.0.1:2")
    assert code == 5
    assert "cannot reach the broker" in json.dumps(answer)
