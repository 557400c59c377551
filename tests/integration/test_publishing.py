"""The publisher over broken connections, in turn with another, and with nobody who listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from urllib.parse import urlsplit

import pytest

from botswarm.domain.market import Book, Quote, Status, Tick, Trade, Trading
from botswarm.domain.order import Side
from botswarm.feed.publisher import Publisher
from botswarm.feed.tracker import Tracker
from botswarm.testing.proxy import FaultProxy, Toxics
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    wait_until,
)
from tests.integration.feed_process import Reader

numbers = count(1)


@pytest.fixture(scope="module", params=[RabbitMQServer, EmbeddedBrokerServer])
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as server:
        yield server


@pytest.fixture
def venue() -> str:
    """Its own for each test: what was said last is kept by venue."""
    return f"venue{next(numbers)}"


def wall_ms() -> int:
    return int(time.time() * 1000)


def a_trade(venue: str, trade_id: int, symbol: str = "A-B") -> Trade:
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=trade_id,
        price=Decimal("1.10"),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=wall_ms(),
        received_ms=wall_ms(),
    )


class Source:
    """Puts trades of a market into one or more trackers, as fast as it is told to."""

    def __init__(self, venue: str, *trackers: Tracker) -> None:
        self._venue, self._trackers = venue, list(trackers)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.last_id = 0

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopped.wait(0.002):
            self.last_id += 1
            trade = a_trade(self._venue, self.last_id)
            for tracker in self._trackers:
                tracker.put([trade])


@contextmanager
def publishing(url: str, venue: str, *, has_readers: bool = False) -> Iterator[Publisher]:
    tracker = Tracker(venue, wall_ms)
    tracker.follow(["A-B"])
    made = Publisher(
        lambda: url,
        tracker,
        on_digest=lambda digest: None,
        wall_ms=wall_ms,
        has_readers=lambda: has_readers,
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()


def through(proxy: FaultProxy, url: str) -> str:
    port = urlsplit(url).port
    return url.replace(f":{port}", f":{proxy.port}")


def led_again(publisher: Publisher, connects: int) -> Callable[[], bool]:
    return lambda: publisher.connects > connects and publisher.is_leader


def read_all(reader: Reader, source: Source) -> None:
    """Until the last trade has come; then each must have come, and only once."""

    def is_whole() -> bool:
        return set(reader.trades.get("A-B", ())) >= set(range(1, source.last_id + 1))

    assert reader.read_until(is_whole, 15)
    reader.read_until(lambda: False, 0.3)
    assert reader.repeated == 0


def test_a_connection_cut_with_messages_on_their_way_loses_and_repeats_nothing(
    broker: AmqpServer, venue: str
) -> None:
    host, port = urlsplit(broker.url()).hostname, urlsplit(broker.url()).port
    assert host is not None
    assert port is not None
    reader = Reader(broker.url(), f"{venue}.#")
    with FaultProxy(port) as proxy, publishing(through(proxy, broker.url()), venue) as publisher:
        wait_until(lambda: publisher.is_leader, "the lead", 10)
        with Source(venue, publisher.tracker) as source:
            for _ in range(3):
                reader.read_until(lambda: False, 0.3)
                # Confirms are under way for a while, so that there are some to lose.
                proxy.set(down=Toxics(latency_s=0.2))
                reader.read_until(lambda: False, 0.5)
                connects = publisher.connects
                proxy.reset()
                proxy.heal()
                wait_until(led_again(publisher, connects), "the lead again", 10)
        read_all(reader, source)
        assert publisher.tally.repeats == 0
    reader.close()


def test_what_a_restarted_broker_may_have_had_is_sent_again_and_marked(venue: str) -> None:
    with EmbeddedBrokerServer() as server, publishing(server.url(), venue) as publisher:
        wait_until(lambda: publisher.is_leader, "the lead", 10)
        port = urlsplit(server.url()).port
        assert port is not None
        with Source(venue, publisher.tracker):
            time.sleep(0.3)
            # Nothing is confirmed any more, and then the broker dies with it.
            outlet = publisher._outlet
            assert outlet is not None
            outlet.__dict__["_confirmed"] = lambda tag, multiple: None
            wait_until(lambda: len(outlet.unconfirmed) > 10, "messages on their way", 5)
            server.kill()
            server.start()
            reader = Reader(server.url(), f"{venue}.#")
            wait_until(lambda: publisher.is_leader, "the lead again", 10)
            assert reader.read_until(lambda: bool(reader.batches), 10)
        assert publisher.tally.repeats > 10
        reader.close()


def test_another_feed_that_goes_on_after_a_broker_s_restart_marks_what_it_cannot_know(
    venue: str,
) -> None:
    with EmbeddedBrokerServer() as server:
        reader = Reader(server.url(), f"{venue}.#")
        with publishing(server.url(), venue) as first, publishing(server.url(), venue) as second:
            wait_until(lambda: first.is_leader or second.is_leader, "the lead", 10)
            one, other = (first, second) if first.is_leader else (second, first)
            wait_until(lambda: other.is_standing_by, "standing by", 10)
            with Source(venue, first.tracker, second.tracker):
                assert reader.read_until(lambda: len(reader.trades.get("A-B", ())) > 20, 10)
                heard = set(reader.trades["A-B"])
                reader.close()
                one._stop.set()
                server.kill()
                server.start()
                reader = Reader(server.url(), f"{venue}.#")
                wait_until(lambda: other.is_leader, "the lead to go over", 10)
                assert reader.read_until(lambda: len(reader.trades.get("A-B", ())) > 20, 10)
        again = {
            tick.trade_id
            for batch in reader.batches
            if batch.kind == "trade" and not batch.is_repeat
            for tick in batch.ticks
            if isinstance(tick, Trade)
        } & heard
        assert not again, "said again without a word"
        assert other.tally.repeats > 0
        reader.close()


def test_two_feeds_in_turn_say_every_trade_once(broker: AmqpServer, venue: str) -> None:
    reader = Reader(broker.url(), f"{venue}.#")
    with publishing(broker.url(), venue) as first:
        wait_until(lambda: first.is_leader, "the lead", 10)
        with publishing(broker.url(), venue) as second:
            wait_until(lambda: second.is_standing_by, "standing by", 10)
            with Source(venue, first.tracker, second.tracker) as source:
                reader.read_until(lambda: False, 0.6)
                assert not second.is_leader
                sequence = reader.digests[-1].markets[0].sequence
                # As if its process died: nothing that waits is said any more.
                first._stop.set()
                assert first._outlet is not None
                first._outlet._socket.close()
                wait_until(lambda: second.is_leader, "the lead to go over", 5)
                reader.read_until(lambda: False, 0.5)
            read_all(reader, source)
            assert reader.digests[-1].markets[0].sequence > sequence
            falls = [
                later.markets[0].sequence <= earlier.markets[0].sequence
                for earlier, later in zip(reader.digests, reader.digests[1:], strict=False)
            ]
            assert not any(falls)
    reader.close()


def test_digests_that_nobody_reads_are_counted_while_somebody_should(
    broker: AmqpServer, venue: str
) -> None:
    with publishing(broker.url(), venue, has_readers=True) as publisher:
        wait_until(lambda: publisher.is_leader, "the lead", 10)
        publisher.tracker.put([a_trade(venue, 1)])
        wait_until(lambda: publisher.tally.unroutable == 1, "the digest to come back", 5)
        reader = Reader(broker.url(), f"{venue}.digest")
        publisher.tracker.put([a_trade(venue, 2)])
        assert reader.read_until(lambda: bool(reader.digests), 5)
        wait_until(lambda: publisher._outlet is not None and not publisher._outlet.unconfirmed,
                   "all confirms", 5)  # fmt: skip
        assert publisher.tally.unroutable == 1
        reader.close()


def test_books_and_statuses_go_out_the_newest_book_and_every_status(
    broker: AmqpServer, venue: str
) -> None:
    reader = Reader(broker.url(), f"{venue}.#")
    with publishing(broker.url(), venue) as publisher:
        wait_until(lambda: publisher.is_leader, "the lead", 10)
        ticks: list[Tick] = [a_book(venue, 1), a_book(venue, 3), a_book(venue, 2)]
        ticks += [a_status(venue, Trading.HALTED), a_status(venue, Trading.HALTED)]
        ticks += [a_status(venue, Trading.OPEN), a_quote(venue)]
        publisher.tracker.put(ticks)
        assert reader.read_until(lambda: len(reader.batches) >= 3 and bool(reader.digests), 5)
        said = {batch.kind: batch.ticks for batch in reader.batches}
        assert said["book"] == (ticks[1],)
        assert said["status"] == (ticks[3], ticks[5])
        assert reader.digests[-1].markets[0].status == ticks[5]
        counts = publisher.tracker.counts
        assert (counts.conflated_books, counts.duplicates) == (1, 1)
    reader.close()


def a_book(venue: str, sequence: int) -> Book:
    return Book(
        venue=venue,
        symbol="A-B",
        sequence=sequence,
        bids=((Decimal("1.0"), Decimal(5)),),
        asks=((Decimal("1.1"), Decimal("0.0000001")),),
        exchange_ms=1,
        received_ms=2,
    )


def a_status(venue: str, trading: Trading) -> Status:
    return Status(venue=venue, symbol="A-B", trading=trading, exchange_ms=1, received_ms=2)


def a_quote(venue: str) -> Quote:
    one = Decimal(1)
    return Quote(
        venue=venue,
        symbol="A-B",
        sequence=1,
        bid=one,
        bid_quantity=one,
        ask=one + 1,
        ask_quantity=one,
        exchange_ms=1,
        received_ms=2,
    )
