"""Coinbase's and Kraken's sides are read from a server that was written without our readers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest
import websocket

from botswarm.domain.market import Book, Candle, Quote, Status, Trade
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.exchanges.coinbase.market import CoinbaseExchangeMarketData, CoinbaseMarketData
from botswarm.exchanges.kraken.market import KrakenMarketData
from botswarm.exchanges.streams import (
    Beat,
    Broken,
    Heard,
    Skipped,
    Stream,
    Subscribed,
    Unsubscribed,
)
from botswarm.testing.exchange import SimulatedExchangeServer

SYMBOLS = ("BTC-USDT", "ETH-USDT")
LISTEN_MAX_S = 20.0
Data = CoinbaseMarketData | CoinbaseExchangeMarketData | KrakenMarketData
Make = Callable[[SimulatedExchangeServer], Data]


def coinbase(server: SimulatedExchangeServer) -> Data:
    card = server.card
    return CoinbaseMarketData(
        name="coinbase", rest_url=card.coinbase_rest_url, stream_url=card.coinbase_stream_url
    )


def coinbase_exchange(server: SimulatedExchangeServer) -> Data:
    card = server.card
    return CoinbaseExchangeMarketData(
        name="coinbase-exchange",
        rest_url=card.coinbase_exchange_rest_url,
        stream_url=card.coinbase_exchange_stream_url,
    )


def kraken(server: SimulatedExchangeServer) -> Data:
    card = server.card
    return KrakenMarketData(
        name="kraken", rest_url=card.kraken_rest_url, stream_url=card.kraken_stream_url
    )


each_venue = pytest.mark.parametrize("make", [coinbase, coinbase_exchange, kraken])


@pytest.fixture
def data(make: Make, server: SimulatedExchangeServer) -> Iterator[Data]:
    with closing(make(server)) as data:
        yield data


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@dataclass
class Listener:
    """One connection and all that was heard on it."""

    data: Data
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = self.data.session()
        self.socket = websocket.create_connection(self.session.url(()), timeout=LISTEN_MAX_S)

    def say(self, messages: Sequence[str]) -> None:
        for message in messages:
            self.socket.send(message)

    def until(self, is_enough: Callable[[], bool]) -> None:
        end = time.monotonic() + LISTEN_MAX_S
        while not is_enough():
            assert time.monotonic() < end, Counter(type(each).__name__ for each in self.heard)
            self.heard += self.session.read(self.socket.recv(), int(time.time() * 1000))

    def taken(self, kind: type[Subscribed] | type[Unsubscribed]) -> set[Stream]:
        return {stream for each in self.heard if isinstance(each, kind) for stream in each.streams}

    def count(self, kind: type) -> int:
        return sum(isinstance(each, kind) for each in self.heard)

    def trades(self, symbol: str) -> list[Trade]:
        return [each for each in self.heard if isinstance(each, Trade) and each.symbol == symbol]

    def close(self) -> None:
        self.socket.close()


@each_venue
def test_every_channel_of_a_venue_is_taken_told_and_ended(
    data: Data,
) -> None:
    streams = [Stream(symbol, channel) for symbol in SYMBOLS for channel in sorted(data.channels)]
    kinds = {"trade": Trade, "quote": Quote, "candle": Candle, "book": Book, "status": Status}
    with closing(Listener(data)) as listener:
        listener.say(listener.session.subscribe(streams))
        listener.until(
            lambda: (
                listener.taken(Subscribed) == set(streams)
                and all(listener.count(kinds[channel]) >= 2 for channel in data.channels)
                and listener.count(Book) >= 20
                and len(listener.trades("BTC-USDT")) >= 5
                and listener.count(Beat) >= 1
            )
        )
        assert listener.count(Broken) == 0
        ids = [trade.trade_id for trade in listener.trades("BTC-USDT")]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        listener.say(listener.session.unsubscribe(streams[:2]))
        listener.until(lambda: listener.taken(Unsubscribed) == set(streams[:2]))


@each_venue
def test_a_book_that_is_begun_anew_comes_whole_again(
    data: Data,
) -> None:
    book = Stream("BTC-USDT", "book")
    with closing(Listener(data)) as listener:
        listener.say(listener.session.subscribe([book]))
        listener.until(lambda: listener.count(Book) >= 3)
        listener.heard.clear()
        listener.say(listener.session.resync(book))
        listener.until(lambda: listener.taken(Subscribed) == {book} and listener.count(Book) >= 3)
        assert listener.count(Broken) == 0


@pytest.mark.parametrize(
    ("make", "fault", "reason"),
    [
        (kraken, "bad_checksum", "checksum"),
        (kraken, "crossed_book", "crossed"),
        (coinbase, "crossed_book", "crossed"),
        (coinbase_exchange, "crossed_book", "crossed"),
    ],
)
def test_a_book_that_breaks_is_told_of_and_comes_whole_again(
    data: Data, server: SimulatedExchangeServer, fault: str, reason: str
) -> None:
    book = Stream("BTC-USDT", "book")
    with closing(Listener(data)) as listener:
        listener.say(listener.session.subscribe([book]))
        listener.until(lambda: listener.count(Book) >= 2)
        server.arm(fault, venue=data.name, symbol="BTCUSDT")
        listener.until(lambda: listener.count(Broken) == 1)
        broken = listener.heard[-1]
        assert isinstance(broken, Broken)
        assert (broken.stream, broken.reason) == (book, reason)
        listener.say(listener.session.resync(book))
        listener.heard.clear()
        listener.until(lambda: listener.count(Book) >= 3)
        assert listener.count(Broken) == 0


def missing_between(trades: Sequence[Trade]) -> list[int]:
    ids = {trade.trade_id for trade in trades}
    return sorted(set(range(min(ids), max(ids) + 1)) - ids)


@each_venue
def test_a_frame_that_is_withheld_is_missed_and_its_trades_are_told_by_rest(
    data: Data, server: SimulatedExchangeServer
) -> None:
    with closing(Listener(data)) as listener:
        listener.say(listener.session.subscribe([Stream("BTC-USDT", "trade")]))
        listener.until(lambda: listener.count(Trade) >= 2)
        server.arm("withhold", venue=data.name, symbol="BTCUSDT", channel="trade")
        listener.until(lambda: missing_between(listener.trades("BTC-USDT")) != [])
        missing = missing_between(listener.trades("BTC-USDT"))
        first, last = missing[0], missing[-1]
        told = data.trades_between("BTC-USDT", first, last)
        assert [trade.trade_id for trade in told] == list(range(first, last + 1))
        skipped = [each.count for each in listener.heard if isinstance(each, Skipped)]
        assert skipped == ([1] if data.name == "coinbase" else [])


@each_venue
def test_trades_by_rest_are_those_of_the_one_market_behind_all_venues(
    data: Data, server: SimulatedExchangeServer
) -> None:
    card = server.card
    binance = BinanceMarketData(name="b", rest_url=card.rest_url, stream_url=card.stream_url)
    with closing(binance) as other:
        end = time.monotonic() + LISTEN_MAX_S
        while len(known := other.latest_trades("BTC-USDT", limit=1000)) < 10:
            assert time.monotonic() < end
            time.sleep(0.2)
    told = data.latest_trades("BTC-USDT", limit=30)
    told_again = data.trades_between("BTC-USDT", told[0].trade_id, told[-1].trade_id)
    assert [trade.trade_id for trade in told_again] == [trade.trade_id for trade in told]
    by_id = {trade.trade_id: trade for trade in known}
    common = [trade for trade in told if trade.trade_id in by_id]
    assert len(common) >= 5
    for trade in common:
        same = by_id[trade.trade_id]
        assert (trade.price, trade.quantity) == (same.price, same.quantity)
        assert (trade.taker_side, trade.exchange_ms) == (same.taker_side, same.exchange_ms)


@each_venue
def test_candles_by_rest_are_whole_closed_and_the_newest_comes_last(
    data: Data,
) -> None:
    for timeframe, length_ms, limit in (("1m", 60_000, 350), ("4h", 14_400_000, 20)):
        told = data.candles("BTC-USDT", timeframe, limit=limit)
        opened = [candle.open_ms for candle in told]
        assert opened == list(range(opened[0], opened[0] + limit * length_ms, length_ms))
        assert all(candle.is_closed for candle in told)
        assert opened[-1] + length_ms <= time.time() * 1000 < opened[-1] + 3 * length_ms


@each_venue
def test_a_venue_lists_its_markets_under_our_names(
    data: Data,
) -> None:
    found = {instrument.symbol: instrument for instrument in data.instruments()}
    assert set(SYMBOLS) <= set(found)
    assert all(each.tick_size > 0 and each.lot_size > 0 for each in found.values())
