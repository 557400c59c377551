"""Live prices in a real Redis: there while it is, and nobody's loss when it is not."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from botswarm.config import Secret
from botswarm.domain.market import Trade
from botswarm.errors import Unreachable
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.live.price import contents_key, encode, price_key
from botswarm.live.store import LiveStore
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer, RedisServer, free_port, wait_until
from tests.integration.feed_process import FeedProcess, Reader
from tests.unit.test_live_price import NOW, a_price

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
ENVIRONMENT = "development"
USUAL_MS, STALL_MS = 400, 2000
"""Digests come four times a second; on a busy machine one may be late."""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBrokerServer]:
    with EmbeddedBrokerServer() as server:
        yield server


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(redis: RedisServer) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(redis.url()) as made:
        made.flushall()
        yield made


@pytest.fixture
def feed(
    broker: EmbeddedBrokerServer, exchange: SimulatedExchangeServer, redis: RedisServer
) -> Iterator[FeedProcess]:
    with FeedProcess(exchange.state_dir, broker.url(), redis_url=redis.url()) as process:
        yield process


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    told: dict[str, Any]
    took_s: float

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.told["data"]
        return data

    @property
    def symbols(self) -> list[str]:
        return [each["symbol"] for each in self.data["prices"]]


class Shell:
    """``botswarm … --json`` as a person has it: the words and the environment, nothing else."""

    def __init__(self, state_dir: Path, broker_url: str, redis_url: str) -> None:
        plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
        self.environment = plain | {
            "BOTSWARM_STATE_DIR": str(state_dir),
            "BOTSWARM_BROKER_URL": broker_url,
            "REDIS_URL": redis_url,
        }

    def __call__(self, *words: str) -> Answer:
        began = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "botswarm", *words, "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "Traceback" not in run.stderr
        return Answer(run.returncode, json.loads(run.stdout), time.monotonic() - began)


@pytest.fixture
def ask(
    broker: EmbeddedBrokerServer, exchange: SimulatedExchangeServer, redis: RedisServer
) -> Shell:
    return Shell(exchange.state_dir, broker.url(), redis.url())


def keys(client: redis_client.Redis) -> set[str]:
    """Of prices: what all machines together asked of a venue is counted there, too."""
    found: Any = client.keys("*:live:*")
    return {key.decode() for key in found}


EXPECTED = {
    contents_key(ENVIRONMENT, "simulated"),
    *(price_key(ENVIRONMENT, "simulated", symbol) for symbol in SYMBOLS),
}


def test_the_feed_keeps_a_true_price_of_every_market_in_redis(
    feed: FeedProcess,
    client: redis_client.Redis,
    ask: Shell,
    exchange: SimulatedExchangeServer,
) -> None:
    wait_until(lambda: keys(client) == EXPECTED, "every market, and nothing else", 20)

    def have_traded() -> bool:
        """A market's quote can come long before its first trade."""
        return all(ask_redis(client, symbol).get("trade") for symbol in SYMBOLS)

    wait_until(have_traded, "a trade of every market", 20)
    ttls: list[Any] = [client.pttl(key) for key in EXPECTED]
    assert all(0 < ttl <= 30_000 for ttl in ttls)
    answer = ask("feed", "prices")
    assert (answer.code, answer.data["source"]) == (0, "redis")
    assert (answer.data["missing"], answer.data["unreadable"]) == ([], 0)
    assert answer.symbols == list(SYMBOLS)
    assert not any(each["is_stale"] for each in answer.data["prices"])
    card = exchange.card
    with contextlib.closing(
        BinanceMarketData(name="simulated", rest_url=card.rest_url, stream_url=card.stream_url)
    ) as data:
        for each in answer.data["prices"]:
            true = {f"{trade.price:f}" for trade in data.latest_trades(each["symbol"], limit=1000)}
            assert each["last"] in true
    # It goes on, also for the market that moves least.
    sequences = set[int]()

    def have_moved() -> bool:
        sequences.add(ask_redis(client, "BTC-USDT")["sequence"])
        return len(sequences) >= 5

    wait_until(have_moved, "newer prices", 20)


def ask_redis(client: redis_client.Redis, symbol: str) -> dict[str, Any]:
    body: Any = client.get(price_key(ENVIRONMENT, "simulated", symbol))
    found: dict[str, Any] = json.loads(body)
    return found


def test_status_reads_the_live_prices_and_says_where_they_are(
    feed: FeedProcess, client: redis_client.Redis, ask: Shell
) -> None:
    wait_until(lambda: keys(client) == EXPECTED, "every market", 10)
    told = ask("status").data["parts"]["feed"]
    assert (told["state"], told["source"], told["missing"]) == ("ok", "redis", [])
    client.set(price_key(ENVIRONMENT, "simulated", "ETH-USDT"), b"\x00garbage")
    ask.environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}"
    told = ask("status").data["parts"]["feed"]
    assert (told["state"], told["source"]) == ("warn", "ticks")
    assert "cannot use Redis" in told["words"]


def test_without_redis_the_prices_come_from_the_feed_itself(
    broker: EmbeddedBrokerServer, exchange: SimulatedExchangeServer
) -> None:
    ask = Shell(exchange.state_dir, broker.url(), "")
    with FeedProcess(exchange.state_dir, broker.url()):

        def all_were_heard() -> bool:
            answer = ask("feed", "prices")
            assert answer.took_s < 5
            return answer.code == 0 and answer.symbols == list(SYMBOLS)

        wait_until(all_were_heard, "three markets that move within a second", 20)
        answer = ask("feed", "prices")
        assert answer.data["source"] == "ticks"
        assert answer.told["warnings"] == []
    answer = ask("feed", "prices")
    assert answer.code == 3
    assert answer.data["missing"] == list(SYMBOLS)


def flush(server: RedisServer, client: redis_client.Redis) -> Callable[[], object]:
    client.flushall()
    return lambda: None


def kill(server: RedisServer, client: redis_client.Redis) -> Callable[[], object]:
    server.kill()
    return server.start


def hang(server: RedisServer, client: redis_client.Redis) -> Callable[[], object]:
    os.kill(server.pid, signal.SIGSTOP)
    return lambda: os.kill(server.pid, signal.SIGCONT)


def forbid(server: RedisServer, client: redis_client.Redis) -> Callable[[], object]:
    client.config_set("maxmemory", "1")
    return lambda: client.config_set("maxmemory", "0")


def began_of(reader: Reader, symbol: str) -> list[int]:
    """What was missed before this feed began is asked for, and may come while we listen."""
    return [
        tick.trade_id
        for batch in reader.batches
        if batch.symbol == symbol and not batch.is_recovered
        for tick in batch.ticks
        if isinstance(tick, Trade)
    ]


@pytest.mark.parametrize("mishap", [flush, kill, hang, forbid])
def test_whatever_happens_to_redis_no_tick_is_lost_and_nothing_waits(
    mishap: Callable[[RedisServer, redis_client.Redis], Callable[[], object]],
    broker: EmbeddedBrokerServer,
    redis: RedisServer,
    client: redis_client.Redis,
    feed: FeedProcess,
    ask: Shell,
) -> None:
    wait_until(lambda: keys(client) == EXPECTED, "every market", 10)
    reader = Reader(broker.url())
    reader.read_until(lambda: False, 0.5)
    began_ms = time.time() * 1000
    mend = mishap(redis, client)
    try:
        reader.read_until(lambda: False, 3)
        if mishap in (kill, hang):
            answer = ask("feed", "prices")
            assert (answer.code, answer.data["source"]) == (0, "ticks")
            assert "cannot use Redis" in answer.told["warnings"][0]
            assert answer.took_s < 5
    finally:
        mend()
    wait_until(lambda: keys(client) == EXPECTED, "the prices to come back", 10)
    before = ask_redis(client, "BTC-USDT")["sequence"]
    wait_until(lambda: ask_redis(client, "BTC-USDT")["sequence"] > before, "newer prices", 10)
    # Where this feed began is known once every market has had a trade of its own time.
    assert reader.read_until(lambda: all(began_of(reader, each) for each in SYMBOLS), 20)
    reader.close()
    told = [digest.sent_ms for digest in reader.digests if digest.sent_ms > began_ms]
    gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert statistics.median(gaps) < USUAL_MS
    assert max(gaps) < STALL_MS
    for symbol in SYMBOLS:
        first = min(began_of(reader, symbol))
        seen = sorted(each for each in reader.trades[symbol] if each >= first)
        assert seen == list(range(first, seen[-1] + 1)), symbol
    assert reader.repeated == 0
    assert {batch.missing for batch in reader.batches} == {0}
    assert feed.running
    assert not feed.said("Traceback")
    if mishap is not flush:
        assert feed.said("live prices are not written")
        assert feed.said("live prices are written again")


def test_a_feed_ends_at_once_while_redis_hangs(
    feed: FeedProcess, redis: RedisServer, client: redis_client.Redis
) -> None:
    wait_until(lambda: keys(client) == EXPECTED, "every market", 10)
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: feed.said("live prices are not written"), "the loss to be seen", 10)
        began = time.monotonic()
        feed.stop()
        assert time.monotonic() - began < 3
        assert feed.said("times not written")
    finally:
        os.kill(redis.pid, signal.SIGCONT)


def test_what_nobody_renews_vanishes(redis: RedisServer, client: redis_client.Redis) -> None:
    store = LiveStore(Secret(redis.url()), "test", ttl_s=0.3)
    store.write([a_price()], ["BTC-USDT"])
    assert [each.symbol for each in store.read("v", NOW).prices] == ["BTC-USDT"]
    wait_until(lambda: not keys(client), "the price to vanish", 5)
    assert store.read("v", NOW).prices == ()
    store.close()


def test_environments_on_one_redis_do_not_see_each_other(
    redis: RedisServer, client: redis_client.Redis
) -> None:
    staging, production = (
        LiveStore(Secret(redis.url()), environment) for environment in ("staging", "production")
    )
    staging.write([a_price()], ["BTC-USDT"])
    assert len(staging.read("v", NOW).prices) == 1
    assert production.read("v", NOW).prices == ()
    staging.close()
    production.close()


def test_a_swarm_of_garbage_in_redis_is_missing_prices_and_nothing_worse(
    redis: RedisServer, client: redis_client.Redis
) -> None:
    store = LiveStore(Secret(redis.url()), "test")
    garbage: dict[str, bytes] = {
        "EMPTY": b"{}",
        "BYTES": bytes(range(256)),
        "DEEP": b'{"x":' + b"[" * 4000,
        "LONG": encode(a_price("LONG"))[:-1] + b',"x":"' + b"x" * 8_000_000 + b'"}',
        "OTHER": encode(a_price("ANOTHER")),
        "HUGE": encode(a_price("HUGE")).replace(b"100410.10", b"1E+999999999"),
        "NONE": encode(replace(a_price("NONE"), trade=None, quote=None)),
        "WORDS": encode(a_price("WORDS")).replace(b"100410.10", b"a lot"),
    }
    good = a_price()
    store.write([good], [good.symbol, *garbage, "LIST", "HASH", "GONE"])
    for symbol, body in garbage.items():
        client.set(price_key("test", "v", symbol), body)
    client.rpush(price_key("test", "v", "LIST"), "7")
    client.hset(price_key("test", "v", "HASH"), "price", "7")
    found = store.read("v", NOW, ["WANTED"])
    assert found.prices == (good,)
    assert found.missing == tuple(sorted({*garbage, "LIST", "HASH", "GONE", "WANTED"}))
    assert found.unreadable == len(garbage) + 2
    # The same bytes, seen an hour before they were written, are from the future.
    assert store.read("v", NOW - 3_600_000).prices == ()
    for odd in (b"\xff\xfe", b'{"a":1}', b"[" * 10_000):
        client.set(contents_key("test", "v"), odd)
        found = store.read("v", NOW, [good.symbol])
        assert (found.prices, found.unreadable) == ((good,), 1)
    client.delete(contents_key("test", "v"))
    client.rpush(contents_key("test", "v"), "7")
    assert store.read("v", NOW, [good.symbol]).prices == (good,)
    # Whatever stands in the way, the next write puts it right.
    store.write([a_price("LIST"), a_price("HASH")], ["LIST", "HASH"])
    assert [each.symbol for each in store.read("v", NOW).prices] == ["HASH", "LIST"]
    store.close()


def test_garbage_is_told_to_whoever_asks_for_prices(client: redis_client.Redis, ask: Shell) -> None:
    """No feed runs: what is there stays, and is shown for what it is."""
    now = time.time_ns() // 1_000_000
    good = a_price("BTC-USDT")
    assert good.trade is not None
    old = replace(
        good,
        venue="simulated",
        quote=None,
        trade=replace(good.trade, venue="simulated", exchange_ms=now - 20_000),
    )
    client.set(contents_key(ENVIRONMENT, "simulated"), encode([*SYMBOLS, "DOGE-USDT"]))
    client.set(price_key(ENVIRONMENT, "simulated", "BTC-USDT"), encode(old))
    client.set(price_key(ENVIRONMENT, "simulated", "ETH-USDT"), b"\x1b[2Jgarbage")
    answer = ask("feed", "prices")
    assert (answer.code, answer.data["source"]) == (0, "redis")
    assert answer.data["missing"] == ["DOGE-USDT", "ETH-USDT", "SOL-USDT"]
    assert answer.data["unreadable"] == 1
    assert "1 values in Redis" in answer.told["warnings"][0]
    (price,) = answer.data["prices"]
    assert price["is_stale"] is True
    assert 20 <= price["age_s"] < 40
    assert (price["last"], price["bid"]) == ("100410.10", None)


@pytest.mark.parametrize("listener", ["nobody", "no redis"])
def test_what_is_no_redis_is_unreachable_and_nothing_worse(
    listener: str, broker: EmbeddedBrokerServer
) -> None:
    port = free_port() if listener == "nobody" else broker.port
    store = LiveStore(Secret(f"redis://:secret@127.0.0.1:{port}/0"), "test")
    for call in (lambda: store.read("v", NOW), lambda: store.write([a_price()], ["BTC-USDT"])):
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            call()
        assert time.monotonic() - began < 2
        assert "secret" not in str(caught.value)
    store.close()
