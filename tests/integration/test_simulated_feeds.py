"""The feeds of Coinbase and Kraken as the simulated exchange speaks them, and their mishaps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from zlib import crc32

import pytest

from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import wait_until
from tests.integration.stream_client import Client, Message, client, trading_exchange

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
def advanced(exchange: SimulatedExchangeServer) -> Iterator[Client]:
    with client(exchange.card.coinbase_stream_url) as made:
        yield made


@pytest.fixture
def coinbase(exchange: SimulatedExchangeServer) -> Iterator[Client]:
    with client(exchange.card.coinbase_exchange_stream_url) as made:
        yield made


@pytest.fixture
def kraken(exchange: SimulatedExchangeServer) -> Iterator[Client]:
    with client(exchange.card.kraken_stream_url) as made:
        assert made.hear()["data"][0]["system"] == "online"
        yield made


def true_trades(exchange: SimulatedExchangeServer, symbol: str) -> dict[int, tuple[str, ...]]:
    """The engine's own, by id: price, quantity, taker's side."""
    found: dict[int, tuple[str, ...]] = {}
    for row in exchange.streams("trades"):
        if row["symbol"] == symbol:
            found |= {each[0]: tuple(each[1:4]) for each in row["trades"]}
    return found


# --- Coinbase Exchange ------------------------------------------------------------------------


def test_coinbase_exchange_tells_every_match_once_with_the_makers_side(
    exchange: SimulatedExchangeServer, coinbase: Client
) -> None:
    coinbase.say(type="subscribe", product_ids=PRODUCTS, channels=["matches", "ticker"])
    first = coinbase.hear()
    assert first["type"] == "subscriptions"
    assert [each["name"] for each in first["channels"]] == ["matches", "ticker"]
    matches: list[Message] = []
    takers: dict[int, str] = {}
    while len(matches) < 10:
        message = coinbase.hear()
        if message["product_id"] != "BTC-USDT":
            continue
        if message["type"] == "ticker":
            takers[message["trade_id"]] = message["side"]
            assert Decimal(message["best_bid"]) < Decimal(message["best_ask"])
        else:
            assert message["type"] == ("match" if matches else "last_match")
            matches.append(message)
    ids = [each["trade_id"] for each in matches]
    assert ids == list(range(ids[0], ids[0] + 10))
    wait_until(lambda: ids[-1] in true_trades(exchange, "BTCUSDT"), "the journal", 5)
    true = true_trades(exchange, "BTCUSDT")
    for each in matches:
        price, quantity, side = true[each["trade_id"]]
        assert Decimal(each["price"]) == Decimal(price)
        assert Decimal(each["size"]) == Decimal(quantity)
        assert each["side"] == {"buy": "sell", "sell": "buy"}[side]
        if each["trade_id"] in takers:
            assert takers[each["trade_id"]] == side


def test_coinbase_exchange_hangs_up_on_who_asks_for_nothing_and_explains_what_is_wrong(
    exchange: SimulatedExchangeServer, coinbase: Client
) -> None:
    began = time.monotonic()
    coinbase.say(type="subscribe", product_ids=["DOGE-XYZ"], channels=["matches"])
    error = coinbase.hear()
    assert (error["type"], error["reason"]) == ("error", "DOGE-XYZ is not a valid product")
    coinbase.say(type="subscribe", product_ids=PRODUCTS, channels=["level2"])
    assert "require authentication" in coinbase.hear()["reason"]
    coinbase.say(type="shout")
    assert coinbase.hear()["type"] == "error"
    with pytest.raises(ConnectionError):
        coinbase.hear()
    assert 4.5 < time.monotonic() - began < 8


def test_coinbase_exchange_heartbeats_name_the_last_trade_and_end_when_unsubscribed(
    coinbase: Client,
) -> None:
    channels = ["matches", {"name": "heartbeat", "product_ids": ["ETH-USDT"]}]
    coinbase.say(type="subscribe", product_ids=["ETH-USDT"], channels=channels)
    last, beats = 0, 0
    while beats < 2:
        message = coinbase.hear()
        if message["type"] in ("match", "last_match"):
            last = message["trade_id"]
        elif message["type"] == "heartbeat":
            beats += 1
            assert message["last_trade_id"] == last
    coinbase.say(type="unsubscribe", channels=["heartbeat", "matches"])
    left = coinbase.until(lambda message: message["type"] == "subscriptions")
    assert left["channels"] == []


def test_a_book_kept_from_level2_batch_is_never_crossed_until_that_is_ordered(
    exchange: SimulatedExchangeServer, coinbase: Client
) -> None:
    coinbase.say(type="subscribe", product_ids=["BTC-USDT"], channels=["level2_batch"])
    sides: dict[str, dict[Decimal, Decimal]] = {}

    def crossed_by(message: Message) -> bool:
        if message["type"] == "snapshot":
            sides["buy"] = {Decimal(p): Decimal(q) for p, q in message["bids"]}
            sides["sell"] = {Decimal(p): Decimal(q) for p, q in message["asks"]}
        for side, price, size in message.get("changes", ()):
            sides[side][Decimal(price)] = Decimal(size)
            if not Decimal(size):
                del sides[side][Decimal(price)]
        return max(sides["buy"]) >= min(sides["sell"])

    coinbase.until(lambda message: message["type"] == "subscriptions")
    assert not any(crossed_by(coinbase.hear()) for _ in range(8))
    exchange.arm("crossed_book", venue="coinbase-exchange", symbol="BTCUSDT")
    coinbase.until(crossed_by)


def test_coinbase_exchange_pages_trades_by_id_and_tells_candles_newest_first(
    exchange: SimulatedExchangeServer,
) -> None:
    root = "/coinbase-exchange/products/BTC-USDT"
    newest = exchange.public("GET", f"{root}/trades", limit=3).body
    ids = [each["trade_id"] for each in newest]
    assert ids == [ids[0], ids[0] - 1, ids[0] - 2]
    older = exchange.public("GET", f"{root}/trades", limit=2, after=ids[-1])
    assert [each["trade_id"] for each in older.body] == [ids[-1] - 1, ids[-1] - 2]
    assert older.headers["cb-after"] == str(ids[-1] - 2)
    candles = exchange.public("GET", f"{root}/candles", granularity=60).body
    times = [each[0] for each in candles]
    assert times == sorted(times, reverse=True)
    assert len(times) == 300
    assert all(low <= opened <= high for _, low, high, opened, _, _ in candles)
    products = exchange.public("GET", "/coinbase-exchange/products").body
    assert {each["id"] for each in products} == set(PRODUCTS)
    assert exchange.public("GET", "/coinbase-exchange/products/NO-NE").status == 404


# --- Coinbase Advanced ------------------------------------------------------------------------


def test_advanced_counts_its_frames_and_tells_every_trade_once(
    exchange: SimulatedExchangeServer, advanced: Client
) -> None:
    for channel in ("heartbeats", "market_trades", "ticker", "level2", "candles", "status"):
        wish: Message = {"type": "subscribe", "channel": channel}
        advanced.say(
            **wish if channel in ("heartbeats", "status") else wish | {"product_ids": PRODUCTS}
        )
    heard, ids, numbers = set[str](), list[int](), list[int]()
    snapshot: list[int] = []
    while len(ids) < 10 or "heartbeats" not in heard:
        message = advanced.hear()
        heard.add(message["channel"])
        numbers.append(message["sequence_num"])
        for event in message["events"]:
            trades = [t for t in event.get("trades", ()) if t["product_id"] == "BTC-USDT"]
            told = [int(each["trade_id"]) for each in trades]
            assert told == sorted(told, reverse=True)
            if event.get("type") == "snapshot":
                snapshot += told
            else:
                ids += reversed(told)
    assert numbers == list(range(len(numbers)))
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert max(snapshot) == ids[0] - 1
    assert heard == {
        *("heartbeats", "market_trades", "ticker", "l2_data", "candles", "status"),
        "subscriptions",
    }


def test_a_frame_that_advanced_loses_leaves_a_hole_in_its_count(
    exchange: SimulatedExchangeServer, advanced: Client
) -> None:
    advanced.say(type="subscribe", channel="market_trades", product_ids=["BTC-USDT"])
    advanced.until(lambda message: message["channel"] == "subscriptions")
    last = advanced.hear()["sequence_num"]
    exchange.arm("withhold", venue="coinbase", symbol="BTCUSDT")
    skipped = 0
    for _ in range(4):
        number = advanced.hear()["sequence_num"]
        skipped += number - last - 1
        last = number
    assert skipped == 1


def test_advanced_answers_what_its_adapter_asks(exchange: SimulatedExchangeServer) -> None:
    root = "/coinbase/api/v3/brokerage"
    products = exchange.public("GET", f"{root}/market/products").body
    assert {each["product_id"] for each in products["products"]} == set(PRODUCTS)
    now = int(time.time())
    path = f"{root}/market/products/BTC-USDT"
    found = exchange.public(
        "GET", f"{path}/candles", start=now - 600, end=now, granularity="ONE_MINUTE"
    ).body["candles"]
    opened = [int(each["start"]) for each in found]
    assert len(opened) == 10
    assert opened == sorted(opened, reverse=True)
    wrong = exchange.public("GET", f"{path}/candles", start=0, end=now, granularity="ONE_MINUTE")
    assert wrong.status == 400
    trades = exchange.public("GET", f"{path}/ticker", limit=5).body["trades"]
    ids = [int(each["trade_id"]) for each in trades]
    assert ids == list(range(ids[0], ids[0] - 5, -1))
    assert "epochSeconds" in exchange.public("GET", f"{root}/time").body


# --- Kraken -----------------------------------------------------------------------------------


def bare(number: str) -> str:
    return number.replace(".", "").lstrip("0")


class KrakenBook:
    """Kept from the literal text of the numbers, as Kraken's document says."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bids: dict[Decimal, tuple[str, str]] = {}
        self.asks: dict[Decimal, tuple[str, str]] = {}

    def is_right(self, message: Message) -> bool:
        (data,) = message["data"]
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        for side, rows, is_down in (
            (self.bids, data["bids"], True),
            (self.asks, data["asks"], False),
        ):
            for row in rows:
                price, quantity = row["price"], row["qty"]
                if quantity:
                    side[price] = str(price), f"{quantity:f}"
                else:
                    side.pop(price, None)
            for price in sorted(side, reverse=is_down)[self.depth :]:
                del side[price]
        levels = [self.asks[price] for price in sorted(self.asks)[:10]]
        levels += [self.bids[price] for price in sorted(self.bids, reverse=True)[:10]]
        text = "".join(bare(price) + bare(quantity) for price, quantity in levels)
        return bool(crc32(text.encode()) == data["checksum"])


def test_krakens_books_have_the_checksum_its_document_says_until_another_is_ordered(
    exchange: SimulatedExchangeServer, kraken: Client
) -> None:
    kraken.say(
        method="subscribe", params={"channel": "book", "symbol": PAIRS, "depth": 10}, req_id=7
    )
    books = {name: KrakenBook(10) for name in PAIRS}
    acks, checked = 0, 0
    while checked < 40:
        message = kraken.hear()
        if message.get("method") == "subscribe":
            acks += 1
            assert (message["success"], message["req_id"]) == (True, 7)
        elif message["channel"] == "book":
            checked += 1
            assert books[message["data"][0]["symbol"]].is_right(message)
    assert acks == len(PAIRS)
    exchange.arm("bad_checksum", venue="kraken", symbol="ETHUSDT")
    kraken.until(
        lambda message: (
            message["channel"] == "book"
            and not books[message["data"][0]["symbol"]].is_right(message)
        )
    )


def test_a_stale_snapshot_of_kraken_is_betrayed_by_the_next_checksum(
    exchange: SimulatedExchangeServer, kraken: Client
) -> None:
    exchange.arm("stale_snapshot", venue="kraken", symbol="BTCUSDT")
    kraken.say(method="subscribe", params={"channel": "book", "symbol": ["BTC/USDT"], "depth": 25})
    book = KrakenBook(25)
    first = kraken.until(lambda message: message.get("channel") == "book")
    assert book.is_right(first)
    kraken.until(lambda message: message["channel"] == "book" and not book.is_right(message))


def test_kraken_tells_every_trade_once_and_numbers_keep_their_zeros(
    exchange: SimulatedExchangeServer, kraken: Client
) -> None:
    wish = {"channel": "trade", "symbol": ["BTC/USDT"], "snapshot": True}
    kraken.say(method="subscribe", params=wish)
    ids: list[int] = []
    while len(ids) < 60:
        message = kraken.hear()
        if message.get("channel") != "trade":
            continue
        for each in message["data"]:
            ids.append(each["trade_id"])
            assert str(each["price"]).partition(".")[2].isdigit()
            assert len(f"{each['qty']:f}".partition(".")[2]) == 8
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_kraken_beats_every_second_answers_pings_and_names_each_market_it_lacks(
    kraken: Client,
) -> None:
    kraken.say(method="ping", req_id=1)
    assert kraken.hear()["method"] == "pong"  # and no heartbeat before the first subscription
    wish = {"channel": "ticker", "symbol": ["BTC/USDT", "NO/NE"], "event_trigger": "bbo"}
    kraken.say(method="subscribe", params=wish)
    assert kraken.hear()["success"]
    assert kraken.hear()["channel"] == "ticker"
    refused = kraken.until(lambda message: message.get("method") == "subscribe")
    assert (refused["success"], refused["symbol"]) == (False, "NO/NE")
    for _ in range(2):
        kraken.until(lambda message: message.get("channel") == "heartbeat")
    kraken.say(method="subscribe", params={"channel": "instrument"})
    pairs = kraken.until(lambda message: message.get("channel") == "instrument")["data"]["pairs"]
    assert {each["symbol"] for each in pairs} == set(PAIRS)
    kraken.say(method="unsubscribe", params=wish | {"symbol": ["BTC/USDT"]})
    assert kraken.until(lambda message: message.get("method") == "unsubscribe")["success"]


def test_kraken_answers_what_its_adapter_asks_and_200_when_it_refuses(
    exchange: SimulatedExchangeServer,
) -> None:
    root = "/kraken/0/public"
    pairs = exchange.public("GET", f"{root}/AssetPairs").body["result"]
    assert pairs["XBTUSDT"]["wsname"] == "XBT/USDT"
    first = exchange.public("GET", f"{root}/Trades", pair="XBTUSDT", since=0, count=5).body[
        "result"
    ]
    second = exchange.public(
        "GET", f"{root}/Trades", pair="XBTUSDT", since=first["last"], count=5
    ).body["result"]
    ids = [row[6] for row in first["XBTUSDT"] + second["XBTUSDT"]]
    assert ids == list(range(ids[0], ids[0] + 10))
    rows = exchange.public("GET", f"{root}/OHLC", pair="XBT/USDT", interval=5).body["result"]
    assert len(rows["XBTUSDT"]) == 720
    wrong = exchange.public("GET", f"{root}/Trades", pair="NONE")
    assert (wrong.status, wrong.body["error"]) == (200, ["EQuery:Unknown asset pair"])
