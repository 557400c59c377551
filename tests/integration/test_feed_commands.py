"""One feed on four venues, looked at and told what to follow from another shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from botswarm.cli import feed_status
from botswarm.config import load
from botswarm.feed.reception import Reception
from botswarm.ledger import migrate
from botswarm.ledger.session import Database
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer, wait_until
from tests.integration.feed_process import FeedProcess, Reader

VENUES = ("coinbase", "coinbase-exchange", "kraken", "simulated")

HEARING_CTRL_C = """
import runpy, signal
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("botswarm", run_name="__main__")
"""
"""Whoever runs the tests in the background has them ignore Ctrl-C."""


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[AmqpServer]:
    with EmbeddedBrokerServer() as server:
        yield server


@pytest.fixture(scope="module")
def settings(broker: AmqpServer, exchange: SimulatedExchangeServer) -> Mapping[str, str]:
    card = exchange.card
    ledger = f"sqlite:///{exchange.state_dir / 'ledger.db'}"
    migrate.migrate(Database(ledger))
    return {
        "BOTSWARM_STATE_DIR": str(exchange.state_dir),
        "BOTSWARM_BROKER_URL": broker.url(),
        "DATABASE_URL": ledger,
        "BOTSWARM_FEED_VENUES": ",".join(VENUES),
        "BOTSWARM_FEED_MARKETS": "BTC-USDT,kraken:ETH-USDT",
        "BOTSWARM_COINBASE_REST_URL": card.coinbase_rest_url,
        "BOTSWARM_COINBASE_STREAM_URL": card.coinbase_stream_url,
        "BOTSWARM_COINBASE_EXCHANGE_REST_URL": card.coinbase_exchange_rest_url,
        "BOTSWARM_COINBASE_EXCHANGE_STREAM_URL": card.coinbase_exchange_stream_url,
        "BOTSWARM_KRAKEN_REST_URL": card.kraken_rest_url,
        "BOTSWARM_KRAKEN_STREAM_URL": card.kraken_stream_url,
        "BOTSWARM_FEED_PING_EVERY_S": "1",
        "BOTSWARM_FEED_CONNECTIONS_INITIAL": "2",
    }


@pytest.fixture(scope="module")
def feed(
    settings: Mapping[str, str], broker: AmqpServer, exchange: SimulatedExchangeServer
) -> Iterator[FeedProcess]:
    with FeedProcess(exchange.state_dir, broker.url(), settings=settings) as process:
        yield process


class Shell:
    def __init__(self, settings: Mapping[str, str]) -> None:
        plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
        self._environment = plain | dict(settings)

    def __call__(self, *words: str) -> tuple[int, Any]:
        run = subprocess.run(
            [sys.executable, "-m", "botswarm", *words, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return run.returncode, json.loads(run.stdout)

    def feeds(self) -> dict[str, Mapping[str, Any]]:
        """Without a process of its own, for it is asked again and again."""
        asked = feed_status.ask(load(environ=self._environment).settings)
        return {feed["venue"]: feed for each in asked for feed in each["feeds"]}


@pytest.fixture
def shell(settings: Mapping[str, str]) -> Shell:
    return Shell(settings)


def served(shell: Shell) -> dict[str, tuple[int, int]]:
    return {
        venue: (feed["pool"]["subscriptions"], feed["pool"]["wanted"])
        for venue, feed in shell.feeds().items()
    }


def is_measured(feed: Mapping[str, Any]) -> bool:
    pool = feed["pool"]
    pings = [each["ping_ms"] for each in pool["connections"]]
    return None not in pings and pool["messages_per_s"] > 0


def test_one_feed_follows_four_venues_and_says_how_each_is(
    feed: FeedProcess, shell: Shell, broker: AmqpServer
) -> None:
    expected = dict.fromkeys(VENUES, (2, 2)) | {"kraken": (4, 4)}
    wait_until(lambda: served(shell) == expected, "all streams of all venues", 30)
    reader = Reader(broker.url(), "*.BTC-USDT.trade")
    assert reader.read_until(lambda: {batch.venue for batch in reader.batches} == set(VENUES), 20)
    reader.close()
    wait_until(lambda: all(map(is_measured, shell.feeds().values())), "pings and rates", 20)
    code, answer = shell("feed", "status")
    assert code == 0
    process = answer["data"]["processes"][0]
    assert process["pid"] == feed.pid
    assert 0 < process["taken"]["sockets"] <= process["taken"]["sockets_expected_max"]
    assert process["security"] == {}
    for each in process["feeds"]:
        pool = each["pool"]
        assert (each["role"], pool["is_connected"], pool["breaker"]) == ("leads", True, "closed")
        assert pool["score"] > 0.9, pool
        assert 0 < pool["budget_left"] <= pool["budget_max"]
        assert pool["attempts"] == pool["opened"] == len(pool["connections"])


def test_markets_come_and_go_by_command_while_the_feed_runs(
    feed: FeedProcess, shell: Shell, broker: AmqpServer
) -> None:
    wait_until(lambda: len(served(shell)) == len(VENUES), "all venues", 30)
    before = shell.feeds()["kraken"]["pool"]["attempts"]
    code, answer = shell(
        "feed", "subscribe", "SOL-USDT", "--venue", "kraken", "--channel", "book",
        "--channel", "trade",
    )  # fmt: skip
    assert (code, answer["data"]["new"]) == (0, 2)
    reader = Reader(broker.url(), "kraken.SOL-USDT.book")
    wait_until(lambda: served(shell)["kraken"] == (7, 7), "trades, quotes and book", 15)
    assert reader.read_until(lambda: bool(reader.batches), 15)
    reader.close()
    _, answer = shell("feed", "subscribe")
    asked = [(each["venue"], each["symbol"], each["channel"]) for each in answer["data"]]
    assert asked == [("kraken", "SOL-USDT", "book"), ("kraken", "SOL-USDT", "trade")]
    assert shell("feed", "unsubscribe", "SOL-USDT", "--venue", "kraken")[0] == 0
    wait_until(lambda: served(shell)["kraken"] == (4, 4), "fewer streams", 15)
    assert shell.feeds()["kraken"]["pool"]["attempts"] == before


def test_what_does_not_exist_is_refused_with_its_name(feed: FeedProcess, shell: Shell) -> None:
    wait_until(lambda: len(served(shell)) == len(VENUES), "all venues", 30)
    for words, cause in [
        (("subscribe", "NO-SUCH"), "simulated has no market NO-SUCH"),
        (("subscribe", "BTC-USDT", "--venue", "nowhere"), "there is no venue 'nowhere'"),
        (("unsubscribe", "BTC-USDT"), "nobody asked for BTC-USDT of simulated"),
    ]:
        code, answer = shell("feed", *words)
        assert (code, answer["error"]["cause"]) == (4, cause)


def test_each_enabled_venue_is_tried_and_measured(shell: Shell) -> None:
    code, answer = shell("feed", "validate", "--for", "3")
    trials = {each["venue"]: each for each in answer["data"]}
    assert code == 0, answer.get("error")
    assert set(trials) == set(VENUES)
    for trial in trials.values():
        assert trial["served"] == trial["streams"] >= 2
        assert trial["acknowledged_ms"] is not None
        assert trial["ping_ms"] is not None
        assert trial["frames"] > 0


def test_a_venue_that_is_not_there_is_told_with_its_cause(
    settings: Mapping[str, str], exchange: SimulatedExchangeServer
) -> None:
    nowhere = {**settings, "BOTSWARM_KRAKEN_STREAM_URL": "ws://127.0.0.1:9/v2"}
    began = time.monotonic()
    code, answer = Shell(nowhere)("feed", "validate", "--venue", "kraken", "--for", "2")
    assert code == 3
    assert "kraken: no connection: no connection to 127.0.0.1:9" in answer["error"]["cause"]
    assert time.monotonic() - began < 20


def test_without_a_broker_the_feeds_of_this_machine_are_shown_with_a_warning(
    settings: Mapping[str, str], feed: FeedProcess, exchange: SimulatedExchangeServer
) -> None:
    wait_until(lambda: bool(list(exchange.state_dir.glob("feed-status-*.json"))), "its card", 20)
    nowhere = {**settings, "BOTSWARM_BROKER_URL": "amqp://guest:guest@127.0.0.1:9/"}
    code, answer = Shell(nowhere)("feed", "status")
    assert code == 0
    assert [each["pid"] for each in answer["data"]["processes"]] == [feed.pid]
    assert "these are the feeds of this machine alone" in answer["warnings"][-1]


def test_without_any_feed_the_status_says_so(shell: Shell, feed: FeedProcess) -> None:
    feed.stop()
    code, answer = shell("feed", "status")
    assert (code, answer["error"]["cause"]) == (3, "no feed answers")


def test_every_feed_of_the_broker_answers_once_also_on_rabbitmq(
    settings: Mapping[str, str],
) -> None:
    with RabbitMQServer() as server:
        answers = [
            {"instance_id": f"feed-{number}", "pid": number, "taken": {}, "feeds": []}
            for number in range(3)
        ]
        desks = [Reception(server.url, lambda each=each: each) for each in answers]  # type: ignore[misc]  # bound now
        for desk in desks:
            desk.start()
        own = load(environ={**settings, "BOTSWARM_BROKER_URL": server.url()}).settings
        wait_until(lambda: len(feed_status.ask(own)) == 3, "all three", 20)
        assert feed_status.ask(own) == answers
        for desk in desks:
            desk.stop()


def test_ctrl_c_ends_a_long_validation_at_once(settings: Mapping[str, str]) -> None:
    plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
    running = subprocess.Popen(
        [sys.executable, "-c", HEARING_CTRL_C, "feed", "validate", "--for", "60"],
        env=plain | dict(settings) | {"PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    attempts = Path(settings["BOTSWARM_STATE_DIR"]) / "feed-attempts-kraken.txt"
    before = attempts.stat().st_mtime if attempts.exists() else 0.0
    wait_until(lambda: attempts.exists() and attempts.stat().st_mtime > before, "an attempt", 20)
    running.send_signal(signal.SIGINT)
    try:
        _, said = running.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        state = Path(f"/proc/{running.pid}/status").read_text()
        running.send_signal(signal.SIGABRT)
        pytest.fail(f"it goes on: {running.communicate()[1]}\n{state}")
    assert (running.returncode, "interrupted" in said, "Traceback" in said) == (130, True, False)
