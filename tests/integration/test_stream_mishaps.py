"""What goes wrong with the streams of the simulated exchange when it is ordered, and only that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import websocket

from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import wait_until
from tests.integration.stream_client import DEADLINE_S, Client, client, trading_exchange

PRODUCTS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
PAIRS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with trading_exchange() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_armed(exchange: SimulatedExchangeServer) -> Iterator[None]:
    yield
    exchange.misbehaviour("DELETE")


@pytest.fixture
def coinbase(exchange: SimulatedExchangeServer) -> Iterator[Client]:
    with client(exchange.card.coinbase_exchange_stream_url) as made:
        yield made


@pytest.fixture
def kraken(exchange: SimulatedExchangeServer) -> Iterator[Client]:
    with client(exchange.card.kraken_stream_url) as made:
        assert made.hear()["data"][0]["system"] == "online"
        yield made


def binance_ids(line: Client, count: int) -> list[int]:
    return [line.hear()["t"] for _ in range(count)]


def test_frames_are_lost_doubled_and_swapped_as_ordered_and_the_journal_says_so(
    exchange: SimulatedExchangeServer,
) -> None:
    with client(exchange.card.stream_url + "/ws/btcusdt@trade") as line:
        start = binance_ids(line, 2)[-1]
        exchange.arm("withhold", venue="binance", symbol="BTCUSDT", times=2)
        exchange.arm("repeat", venue="binance", symbol="BTCUSDT")
        exchange.arm("reorder", venue="binance", symbol="BTCUSDT")
        heard = [start]
        while heard[-1] < start + 9:
            heard.append(line.hear()["t"])
        exchange.arm("disconnect_streams", venue="binance")
    counts = {number: heard.count(number) for number in range(start, start + 9)}
    assert sorted(counts.values()) == [0, 0, *[1] * 6, 2]
    assert sum(later < earlier for earlier, later in pairwise(heard)) == 1
    wait_until(
        lambda: any(row["venue"] == "binance" for row in exchange.streams("end")), "its end", 5
    )
    told = [
        number
        for row in exchange.streams("told")
        if (row["venue"], row["symbol"]) == ("binance", "BTCUSDT")
        for number in row["ids"]
    ]
    assert told[: told.index(heard[-1]) + 1][-len(heard) :] == heard


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("price_zero", '"p":"0.00"'),
        ("price_negative", '"p":"-1.00"'),
        ("price_nan", '"p":"NaN"'),
        ("price_huge", '"p":"1e400"'),
        ("text_frame", "CloudFlare WebSocket proxy restarting"),
        ("garbage_frame", "1e9999"),
        ("deep_frame", "[" * 100_000),
        ("oversized_frame", "x" * 4 * 1024 * 1024),
    ],
)
def test_a_frame_is_spoilt_as_ordered(
    exchange: SimulatedExchangeServer, kind: str, text: str
) -> None:
    with client(exchange.card.stream_url + "/ws/btcusdt@trade") as line:
        line.hear()
        exchange.arm(kind, venue="binance")
        deadline = time.monotonic() + DEADLINE_S
        while text not in line.socket.recv():
            assert time.monotonic() < deadline


def test_a_half_open_connection_stays_and_says_nothing(exchange: SimulatedExchangeServer) -> None:
    with client(exchange.card.stream_url + "/ws/btcusdt@bookTicker") as line:
        line.hear()
        exchange.arm("half_open", venue="binance")
        line.socket.settimeout(0.6)
        with pytest.raises(websocket.WebSocketTimeoutException):
            line.to_the_end()
        line.socket.ping()
        with pytest.raises(websocket.WebSocketTimeoutException):
            line.hear()
        assert line.socket.connected


def test_an_outage_of_one_venue_leaves_the_others_and_the_orders_alone(
    exchange: SimulatedExchangeServer, kraken: Client, coinbase: Client
) -> None:
    exchange.arm("outage", venue="kraken", seconds=1.5)
    began = time.monotonic()
    with pytest.raises((OSError, websocket.WebSocketException)):
        kraken.to_the_end()
    with pytest.raises((OSError, websocket.WebSocketException)):
        Client(exchange.card.kraken_stream_url)
    coinbase.say(type="subscribe", product_ids=PRODUCTS, channels=["matches"])
    assert coinbase.hear()["type"] == "subscriptions"
    assert exchange.order(newClientOrderId="while-kraken-is-away").status == 200

    def is_back() -> bool:
        try:
            with client(exchange.card.kraken_stream_url):
                return True
        except (OSError, websocket.WebSocketException):
            return False

    wait_until(is_back, "the venue to come back", 5)
    assert time.monotonic() - began > 1.4
    counts = exchange.stream_counts()["attempts"]["kraken"]
    assert counts["refused"] >= 1


def test_who_connects_more_often_than_the_venue_allows_is_sent_away(
    exchange: SimulatedExchangeServer,
) -> None:
    statuses: list[int] = []
    for _ in range(14):
        try:
            Client(exchange.card.coinbase_stream_url).socket.close()
        except websocket.WebSocketBadStatusException as error:
            statuses.append(error.status_code)
    assert statuses
    assert set(statuses) == {429}
    limited = exchange.stream_counts()["attempts"]["coinbase"]["limited"]
    assert limited == len(statuses)
    assert [row["outcome"] for row in exchange.streams("connect")].count("limited") == limited


def test_the_venues_say_that_they_will_end_a_connection_and_then_do(
    exchange: SimulatedExchangeServer, kraken: Client
) -> None:
    kraken.say(method="subscribe", params={"channel": "trade", "symbol": PAIRS})
    with client(exchange.card.stream_url + "/stream?streams=btcusdt@trade") as line:
        line.hear()
        exchange.arm("shutdown", seconds=0.5)
        line.until(lambda message: message["stream"] == "!serverShutdown")
        told = kraken.until(lambda message: message.get("channel") == "status")
        assert told["data"][0]["system"] == "maintenance"
        with pytest.raises((OSError, websocket.WebSocketException)):
            line.to_the_end()


def test_the_same_seed_orders_the_same_mishaps() -> None:
    from botswarm.exchanges.simulated.faults import Faults
    from botswarm.exchanges.simulated.random_streams import RandomStreams

    def wishes(seed: int) -> list[dict[str, object]]:
        chance = RandomStreams(seed, 10_000)
        return [chance.wish() for _ in range(300)]

    assert wishes(1) == wishes(1) != wishes(2)
    for wish in wishes(3):
        Faults().arm(wish)
