"""From the exchange's streams to the ticks exchange and the market book, on both brokers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
import psutil
import pytest
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.config import Secret
from botswarm.domain.market import Candle, Trade
from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.feed import tracker as tracking
from botswarm.feed.bell import Bell
from botswarm.feed.errands import Keeper
from botswarm.feed.publisher import Publisher
from botswarm.feed.tracker import Tracker
from botswarm.ledger import migrate
from botswarm.ledger.bots import Bot, Bots, BotState
from botswarm.ledger.candles import Candles
from botswarm.ledger.session import Database
from botswarm.market.book import MarketBook
from botswarm.market.consumer import Follower
from botswarm.market.history import first_whole
from botswarm.market.wire import EXCHANGE, Digest, MarketDigest
from botswarm.messages import EvaluateMarket
from botswarm.queueing.table import declared
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    wait_until,
)
from tests.integration.feed_process import FeedProcess, Reader

START: dict[str, Callable[[], AmqpServer]] = {
    "rabbitmq": RabbitMQServer,
    "embedded": EmbeddedBrokerServer,
}
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
RSS_MAX = 100 * 1024 * 1024


@pytest.fixture(scope="module", params=list(START))
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with START[request.param]() as server:
        yield server


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def feed(broker: AmqpServer, exchange: SimulatedExchangeServer) -> Iterator[FeedProcess]:
    """For tests that leave it running."""
    with FeedProcess(exchange.state_dir, broker.url()) as process:
        yield process


@pytest.fixture(scope="module")
def elsewhere(broker: AmqpServer) -> str:
    """A vhost of the same broker where no feed leads yet."""
    broker.add_vhost("elsewhere")
    return broker.url("elsewhere")


@pytest.fixture
def reader(broker: AmqpServer) -> Iterator[Reader]:
    made = Reader(broker.url())
    yield made
    made.close()


def wall_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def data(exchange: SimulatedExchangeServer) -> Iterator[BinanceMarketData]:
    """The exchange's own word on what happened there."""
    card = exchange.card
    made = BinanceMarketData(name="simulated", rest_url=card.rest_url, stream_url=card.stream_url)
    yield made
    made.close()


def trades_of_the_exchange(
    data: BinanceMarketData, symbol: str
) -> dict[int, tuple[Decimal, Decimal, Side, int]]:
    return {
        trade.trade_id: (trade.price, trade.quantity, trade.taker_side, trade.exchange_ms)
        for trade in data.latest_trades(symbol, limit=1000)
    }


def is_whole(reader: Reader, symbol: str) -> bool:
    seen = reader.trades[symbol]
    return len(seen) == max(seen) - min(seen) + 1


def assert_every_trade_was_published(data: BinanceMarketData, reader: Reader) -> None:
    """From the first to the last that was read, each once and exact, none missing."""
    for symbol in SYMBOLS:
        seen = reader.trades[symbol]
        assert sorted(seen) == list(range(min(seen), max(seen) + 1)), symbol
        true = trades_of_the_exchange(data, symbol)
        for trade_id, trade in seen.items():
            if trade_id >= min(true):
                told = (trade.price, trade.quantity, trade.taker_side, trade.exchange_ms)
                assert told == true[trade_id]


@pytest.mark.parametrize("mishap", ["disconnect_streams", "shutdown"])
def test_every_trade_of_the_exchange_is_published_also_over_a_lost_connection(
    mishap: str,
    exchange: SimulatedExchangeServer,
    data: BinanceMarketData,
    feed: FeedProcess,
    reader: Reader,
) -> None:
    def everywhere(count: int) -> bool:
        return all(len(reader.trades.get(symbol, ())) >= count for symbol in SYMBOLS)

    assert reader.read_until(lambda: everywhere(5), 60)
    before = {symbol: max(reader.trades[symbol]) for symbol in SYMBOLS}
    # Longer than the market is ever quiet, so that something is really missed.
    exchange.arm("feed_outage", seconds=1.5)
    exchange.arm(mishap)
    assert reader.read_until(lambda: any(batch.is_recovered for batch in reader.batches), 60)
    # A gap is seen with the next trade of its market, and mended within a second.
    assert reader.read_until(
        lambda: all(
            is_whole(reader, symbol) and max(reader.trades[symbol]) > before[symbol] + 2
            for symbol in SYMBOLS
        ),
        60,
    )
    assert_every_trade_was_published(data, reader)
    assert all(max(reader.trades[symbol]) > before[symbol] for symbol in SYMBOLS)
    assert reader.repeated == 0
    assert {batch.missing for batch in reader.batches} == {0}
    kinds = {f"simulated.{symbol}.{kind}" for symbol in SYMBOLS for kind in ("trade", "quote")}
    assert kinds | {"simulated.digest"} <= reader.keys
    assert feed.said(" ended: ") or feed.said(" is replaced: ")
    assert psutil.Process(feed.pid).memory_info().rss < RSS_MAX


def test_published_candles_are_those_of_the_exchange_and_come_once(
    data: BinanceMarketData, feed: FeedProcess, reader: Reader
) -> None:
    def closed(timeframe: str) -> int:
        return sum(candle.timeframe == timeframe for candle in reader.candles)

    assert reader.read_until(lambda: closed("1s") >= 12, 60)
    identities = [(each.symbol, each.timeframe, each.open_ms) for each in reader.candles]
    assert len(set(identities)) == len(identities)
    compared = 0
    for symbol in SYMBOLS:
        true = {each.open_ms: each for each in data.candles(symbol, "1s", limit=60)}
        for candle in reader.candles:
            if candle.symbol == symbol and candle.timeframe == "1s":
                theirs = true[candle.open_ms]
                told = (candle.high, candle.low, candle.close, candle.volume, candle.trades)
                assert told[2:] == (theirs.close, theirs.volume, theirs.trades)
                compared += 1
    assert compared >= 12


def test_digests_keep_a_book_that_shows_the_market_within_a_second(
    broker: AmqpServer, data: BinanceMarketData, feed: FeedProcess
) -> None:
    load = first_whole(
        lambda venue, symbol, timeframe, limit: data.candles(symbol, timeframe, limit=limit),
        wall_ms=wall_ms,
    )
    book = MarketBook(load)
    follower = Follower(broker.url, book)
    follower.start()
    try:
        assert follower.wait_until_following(5)
        wait_until(lambda: len(book.markets()) == len(SYMBOLS), "all markets", 5)
        for symbol in SYMBOLS:
            sequence = book.sequence("simulated", symbol)
            assert book.wait_for("simulated", symbol, sequence + 1, 5)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            view = book.view("simulated", "BTC-USDT", {"1s": 200, "1m": 200})
            assert view is not None
            assert view.trade is not None
            assert view.quote is not None
            assert not view.quote.is_crossed
            assert not view.is_gapped
            assert wall_ms() - view.exchange_ms < 1000
            assert [len(view.candles[timeframe]) for timeframe in ("1s", "1m")] == [200, 200]
            time.sleep(0.25)
    finally:
        follower.stop()


def test_one_bad_message_ends_neither_the_follower_nor_its_book(broker: AmqpServer) -> None:
    book = MarketBook()
    follower = Follower(broker.url, book)
    follower.start()
    try:
        assert follower.wait_until_following(5)
        with publishing(broker) as channel:
            for body in (b"", b"\xff\x00", b"[]", b'{"v":9}', b'{"v":1,"kind":"digest"}'):
                channel.basic_publish(amqp.Message(body), EXCHANGE, "simulated.digest")
            good = b'{"v":1,"kind":"digest","venue":"x","sent_ms":1,"markets":[%s]}' % (
                b'{"symbol":"A-B","sequence":5,"trade":null,"quote":null}'
            )
            channel.basic_publish(amqp.Message(good), EXCHANGE, "x.digest")
        assert book.wait_for("x", "A-B", 5, 5)
        assert follower.malformed == 5
    finally:
        follower.stop()


def test_a_follower_comes_back_when_its_broker_does() -> None:
    with EmbeddedBrokerServer() as server:
        book = MarketBook()
        follower = Follower(server.url, book)
        follower.start()
        try:
            assert follower.wait_until_following(5)
            server.kill()
            wait_until(lambda: not follower.wait_until_following(0), "the loss to be seen", 5)
            server.start()
            assert follower.wait_until_following(10)
            assert follower.connects == 2
        finally:
            follower.stop()


def test_a_second_feed_stands_by_and_takes_over_when_the_first_is_killed(
    elsewhere: str, exchange: SimulatedExchangeServer, data: BinanceMarketData
) -> None:
    with (
        FeedProcess(exchange.state_dir, elsewhere) as first,
        FeedProcess(exchange.state_dir, elsewhere) as second,
        contextlib.closing(Reader(elsewhere)) as reader,
    ):
        assert first.said("leading")
        assert second.said("standing by")
        reader.read_until(lambda: False, 2)
        assert reader.repeated == 0  # two feeds, and every trade once
        sequence = reader.digests[-1].markets[0].sequence
        first.kill()
        killed = time.monotonic()
        assert reader.read_until(lambda: second.said("leading"), 5)
        assert time.monotonic() - killed < 3
        count = len(reader.digests)
        assert reader.read_until(lambda: len(reader.digests) > count + 4, 10)
        assert reader.digests[-1].markets[0].sequence > sequence
        reader.read_until(lambda: False, 0.5)
        assert_every_trade_was_published(data, reader)
        assert reader.repeated == 0
        candles = [(each.symbol, each.timeframe, each.open_ms) for each in reader.candles]
        assert len(candles) == len(set(candles))
        began = time.monotonic()
        second.stop()
        assert time.monotonic() - began < 3
        assert second.said("stopping; feed simulated leads")
        assert second.said('"stopped"')
        assert not second.said("Traceback")


def test_a_feed_survives_the_loss_of_its_broker_and_loses_no_candle(
    exchange: SimulatedExchangeServer,
) -> None:
    with EmbeddedBrokerServer() as server, FeedProcess(exchange.state_dir, server.url()) as feed:
        reader = Reader(server.url(), "simulated.digest", name="watch")
        assert reader.read_until(lambda: bool(candles_in(reader)), 10)
        before = candles_in(reader)
        server.kill()
        reader.close()
        time.sleep(2.5)
        server.start()
        again = Reader(server.url(), "simulated.digest", name="watch")
        assert again.read_until(lambda: len(candles_in(again)) >= 6, 15)
        again.close()
        opened = sorted(
            {
                each.open_ms
                for each in before + candles_in(again)
                if (each.symbol, each.timeframe) == ("BTC-USDT", "1s")
            }
        )
        # The first reader may have died with a digest on its way: one candle at the most.
        missing = len(range(opened[0], opened[-1] + 1, 1000)) - len(opened)
        assert missing <= 1
        assert feed.running


def test_a_feed_follows_an_exchange_that_was_killed_and_came_back() -> None:
    with (
        SimulatedExchangeServer() as venue,
        EmbeddedBrokerServer() as server,
        FeedProcess(venue.state_dir, server.url()) as feed,
        contextlib.closing(Reader(server.url(), "simulated.digest")) as reader,
    ):
        assert reader.read_until(lambda: bool(candles_in(reader)), 15)
        venue.kill()
        reader.read_until(lambda: False, 2)
        told = len(reader.digests)
        venue.start()
        back_ms = wall_ms()

        def is_whole_again() -> bool:
            latest = {
                market.symbol: market
                for digest in reader.digests[told:]
                for market in digest.markets
            }
            return len(latest) == len(SYMBOLS) and all(
                market.trade is not None
                and market.trade.exchange_ms > back_ms
                and not market.is_gapped
                for market in latest.values()
            )

        assert reader.read_until(is_whole_again, 20)
        assert feed.running
        opened = sorted(
            candle.open_ms for candle in candles_in(reader) if candle.symbol == "BTC-USDT"
        )
        assert opened == list(range(opened[0], opened[-1] + 1, 1000))


def candles_in(reader: Reader) -> list[Candle]:
    return [
        candle
        for digest in reader.digests
        for market in digest.markets
        for candle in market.candles
        if candle.timeframe == "1s"
    ]


def test_a_blocked_broker_never_stalls_the_feed_nor_fills_its_memory(
    broker: AmqpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "TRADES_KEPT_MAX", 2000)
    tracker = Tracker("blocked", wall_ms)
    tracker.follow(["A-B"])
    rung: list[Digest] = []
    publisher = Publisher(broker.url, tracker, on_digest=rung.append, wall_ms=wall_ms)
    publisher.start()
    reader = Reader(broker.url(), "blocked.#")
    numbers = iter(range(1, 10_000_000))
    try:
        wait_until(lambda: publisher.is_leader, "the lead", 10)
        tracker.put([a_trade(next(numbers)) for _ in range(10)])
        assert reader.read_until(lambda: len(reader.trades.get("A-B", ())) == 10, 5)
        broker.raise_memory_alarm()
        try:
            deadline = time.monotonic() + 15
            while not publisher.is_blocked and time.monotonic() < deadline:
                tracker.put([a_trade(next(numbers))])
                time.sleep(0.02)
            assert publisher.is_blocked
            slowest = 0.0
            for _ in range(400):
                began = time.monotonic()
                tracker.put([a_trade(next(numbers)) for _ in range(50)])
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 0.5
            counts = tracker.counts
            assert counts.conflated_trades > 15_000
            kept = sum(market.waiting_trades for market in tracker._markets.values())
            assert kept <= 2000
        finally:
            broker.clear_memory_alarm()
        last = next(numbers) - 1
        assert reader.read_until(lambda: last in reader.trades["A-B"], 20)
        told = sum(batch.missing for batch in reader.batches)
        assert told == counts.conflated_trades
        assert len(reader.trades["A-B"]) + told == last
    finally:
        publisher.stop()
        reader.close()


def test_the_ledger_gets_the_past_and_every_minute_that_closes(
    tmp_path: Path, exchange: SimulatedExchangeServer, data: BinanceMarketData
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    database = Database(Secret(url))
    migrate.migrate(database, wait_s=0)
    candles = Candles(database)
    with (
        EmbeddedBrokerServer() as server,
        FeedProcess(exchange.state_dir, server.url(), database_url=url),
    ):
        wait_until(
            lambda: len(candles.load("simulated", "BTC-USDT", "1m", limit=500)) >= 499,
            "the past in the ledger",
            20,
        )
    kept = candles.load("simulated", "BTC-USDT", "1m", limit=100)
    assert set(kept) <= set(data.candles("BTC-USDT", "1m", limit=110))
    database.close()


def test_only_markets_with_running_bots_ring_and_bots_may_come_and_go(
    tmp_path: Path, exchange: SimulatedExchangeServer
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    database = Database(Secret(url))
    migrate.migrate(database, wait_s=0)
    bots, now = Bots(database), datetime.now(UTC)
    with EmbeddedBrokerServer() as server, publishing(server) as channel:
        for queue in declared():
            queue.bind(channel).declare()
        bots.create(a_bot("one", "ETH-USDT"), now, actor="test")
        bots.create(a_bot("lost", "NOPE-USDT"), now, actor="test")
        with FeedProcess(exchange.state_dir, server.url(), database_url=url) as feed:
            assert rung_until(channel, lambda rung: len(rung) >= 3) == {"ETH-USDT"}
            assert feed.said("has no market NOPE-USDT")
            bots.create(a_bot("two", "SOL-USDT"), now, actor="test")
            assert "SOL-USDT" in rung_until(channel, lambda rung: "SOL-USDT" in rung)
            bots.set_state("one", BotState.STOPPED, now, reason="enough", actor="test")
            bots.set_state("two", BotState.STOPPED, now, reason="enough", actor="test")
            wait_until(lambda: not rung_until(channel, lambda rung: False, 1.5), "silence", 15)
    database.close()


def rung_until(
    channel: Any, condition: Callable[[list[str]], bool], timeout_s: float = 15
) -> set[str]:
    """The markets that rang since the last call, until the condition holds of them."""
    rung: list[str] = []
    deadline = time.monotonic() + timeout_s
    while not condition(rung) and time.monotonic() < deadline:
        message = channel.basic_get("strategy", no_ack=True)
        if message is None:
            time.sleep(0.02)
            continue
        assert message.headers["task"] == EvaluateMarket.task
        assert message.properties["delivery_mode"] == 1
        assert message.properties["expiration"] == "5000"
        _, fields, _ = json.loads(message.body)
        assert set(fields) == {"venue", "symbol", "sequence"}
        assert abs(fields["sequence"] - wall_ms()) < 10_000
        rung.append(fields["symbol"])
    return set(rung)


def a_bot(name: str, symbol: str) -> Bot:
    return Bot(
        name=name,
        strategy="none",
        venue="simulated",
        symbol=symbol,
        account="paper",
        timeframe="1s",
        parameters={},
        state=BotState.RUNNING,
    )


def test_what_the_keeper_could_not_save_is_saved_later() -> None:
    wall = [0]
    tracker = Tracker("v", lambda: wall[0])
    tracker.follow(["A-B"])
    saved: list[Candle] = []
    is_down = True

    def save(candles: Sequence[Candle]) -> None:
        if is_down:
            raise Unreachable("the ledger is away")
        saved.extend(candles)

    keeper = Keeper(tracker, save)
    keeper.is_on_duty = True
    for minute in range(4):
        tracker.put([trade_at(minute + 1, minute * 60_000)])
    for _ in range(3):
        with pytest.raises(Unreachable):
            keeper.run()
    is_down = False
    keeper.run()
    keeper.run()
    # Minute 0 was half over at the first trade, minute 3 is not closed.
    assert [(each.timeframe, each.open_ms) for each in saved] == [("1m", 60_000), ("1m", 120_000)]


def test_the_bell_rings_for_markets_with_bots_and_not_too_often() -> None:
    rung: list[EvaluateMarket] = []
    now = [0.0]
    bell = Bell(rung.append, lambda: now[0])
    bell.listen(["A-B"])
    bell.start()
    # For it much time has passed between any two digests.
    tracker = Tracker("v", wall_ms, iter(range(10_000_000)).__next__)
    tracker.follow(["A-B", "C-D"])
    last = 0
    for number in range(1, 41):
        now[0] = number * 0.1
        tracker.put([a_trade(number), a_trade(number, "C-D")])
        digest = tracker.take_digest()
        assert digest is not None
        last = digest.markets[0].sequence
        bell.hear(digest)
        wait_until(lambda: all(due > now[0] for due, *_ in bell._due.values()), "the ring", 2)
    bell.stop()
    assert {message.symbol for message in rung} == {"A-B"}
    assert 3 <= len(rung) <= 8
    assert [message.sequence for message in rung] == sorted(message.sequence for message in rung)
    assert rung[-1].sequence <= last


def test_a_tick_rings_at_once_or_a_moment_later_and_silence_never() -> None:
    rung: list[tuple[float, int]] = []
    now = [0.0]
    bell = Bell(lambda message: rung.append((now[0], message.sequence)), lambda: now[0])
    bell.listen(["A-B"])
    bell.start()

    def hear(at: float, number: int, candles: tuple[Candle, ...] = ()) -> None:
        now[0] = at
        trade = trade_at(number, number)  # the same one when it is told once more
        market = MarketDigest(
            symbol="A-B", sequence=int(at * 10), trade=trade, quote=None, candles=candles
        )
        bell.hear(Digest(venue="v", sent_ms=0, markets=(market,)))
        wait_until(lambda: all(due > now[0] for due, *_ in bell._due.values()), "the ring", 2)

    second, minute = (
        Candle(
            venue="v",
            symbol="A-B",
            timeframe=timeframe,
            open_ms=0,
            open=Decimal(1),
            high=Decimal(1),
            low=Decimal(1),
            close=Decimal(1),
            volume=Decimal(1),
            trades=1,
            is_closed=True,
        )
        for timeframe in ("1s", "1m")
    )
    hear(0.0, 1)
    hear(0.4, 2)  # too soon, so it waits; the next one comes in time and takes it along
    hear(1.0, 3)
    hear(1.5, 3, (second,))  # nobody traded: that a second went by is no news
    hear(1.6, 3, (minute,))
    hear(2.0, 4)  # what the candle rang for holds up no tick
    hear(2.5, 5)  # too soon, and the last one for long
    hear(3.1, 5)
    hear(3.3, 5)
    bell.stop()
    assert rung == [(0.0, 0), (1.0, 10), (1.6, 16), (2.0, 20), (3.3, 25)]


def test_a_slow_broker_delays_the_bell_and_only_the_latest_word_counts() -> None:
    rung: list[EvaluateMarket] = []
    entered, go_on = threading.Event(), threading.Event()

    def slowly(message: EvaluateMarket) -> None:
        entered.set()
        assert go_on.wait(10)
        rung.append(message)

    now = [0.0]
    bell = Bell(slowly, lambda: now[0])
    bell.listen(["A-B"])
    bell.start()
    tracker = Tracker("v", wall_ms, iter(range(10_000_000)).__next__)
    tracker.follow(["A-B"])
    sequences = []
    for number in range(1, 6):
        now[0] += 2
        tracker.put([a_trade(number)])
        digest = tracker.take_digest()
        assert digest is not None
        sequences.append(digest.markets[0].sequence)
        bell.hear(digest)
        assert entered.wait(5)
    go_on.set()
    wait_until(lambda: len(rung) == 2, "the latest word", 5)
    bell.stop()
    assert [message.sequence for message in rung] == [sequences[0], sequences[-1]]
    assert bell.coalesced == 3


def a_trade(number: int, symbol: str = "A-B") -> Trade:
    return trade_at(number, wall_ms(), symbol)


def trade_at(number: int, now: int, symbol: str = "A-B") -> Trade:
    return Trade(
        venue="v",
        symbol=symbol,
        trade_id=number,
        price=Decimal("1.5"),
        quantity=Decimal(number),
        taker_side=Side.BUY,
        exchange_ms=now,
        received_ms=now,
    )


@contextlib.contextmanager
def publishing(broker: AmqpServer) -> Iterator[Any]:
    make: Any = Connection  # kombu's types are not all there
    with make(broker.url()) as connection:
        channel = connection.channel()
        channel.confirm_select()
        yield channel
