"""Kraken's streams in our words: exact texts, checksummed books, answers one symbol at a time."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from botswarm.domain.market import Book, Candle, Quote, Status, Trade, Trading
from botswarm.domain.order import Side
from botswarm.exchanges.kraken.book import digits
from botswarm.exchanges.kraken.session import KrakenSession
from botswarm.exchanges.streams import (
    Beat,
    Broken,
    Changed,
    Declined,
    Heard,
    Stream,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

NOW_MS = 1_800_000_000_000

TICKER = (
    '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":65972.8,'
    '"bid_qty":0.10000000,"ask":65972.9,"ask_qty":39.67506683,"last":65972.9,"volume":4216.61829370,'
    '"vwap":64275.2,"low":61325.4,"high":66450.0,"change":4412.1,"change_pct":7.17}]}'
)
TRADES = (
    '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":68500.0,'
    '"qty":0.01044926,"ord_type":"limit","trade_id":70635299,'
    '"timestamp":"2024-05-27T12:43:11.798009Z"},{"symbol":"BTC/USD","side":"sell","price":68499.9,'
    '"qty":1,"ord_type":"market","trade_id":70635300,"timestamp":"2024-05-27T12:43:11.798009Z"}]}'
)
STATUS = (
    '{"channel":"status","type":"update","data":[{"api_version":"v2",'
    '"connection_id":12393906104898154338,"system":"online","version":"2.0.4"}]}'
)
# The worked example of the venue's own guide to the checksum.
DOCUMENTED = (
    '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
    '{"price":45283.5,"qty":0.10000000},{"price":45283.4,"qty":1.54582015},'
    '{"price":45282.1,"qty":0.10000000},{"price":45281.0,"qty":0.10000000},'
    '{"price":45280.3,"qty":1.54592586},{"price":45279.0,"qty":0.07990000},'
    '{"price":45277.6,"qty":0.03310103},{"price":45277.5,"qty":0.30000000},'
    '{"price":45277.3,"qty":1.54602737},{"price":45276.6,"qty":0.15445238}],"asks":['
    '{"price":45285.2,"qty":0.00100000},{"price":45286.4,"qty":1.54571953},'
    '{"price":45286.6,"qty":1.54571109},{"price":45289.6,"qty":1.54560911},'
    '{"price":45290.2,"qty":0.15890660},{"price":45291.8,"qty":1.54553491},'
    '{"price":45294.7,"qty":0.04454749},{"price":45296.1,"qty":0.35380000},'
    '{"price":45297.5,"qty":0.09945542},{"price":45299.5,"qty":0.18772827}],'
    '"checksum":3310070434}]}'
)


@pytest.fixture
def session() -> KrakenSession:
    return KrakenSession(name="kraken", stream_url="ws://127.0.0.1:1", reads_all=True)


def following(*streams: Stream) -> KrakenSession:
    session = KrakenSession(name="kraken", stream_url="ws://127.0.0.1:1")
    session.subscribe(streams)
    return session


def only(session: KrakenSession, frame: str) -> Heard:
    (heard,) = session.read(frame, NOW_MS)
    return heard


def test_trades_keep_the_text_of_their_numbers_and_name_the_taker_s_side(
    session: KrakenSession,
) -> None:
    first, second = session.read(TRADES, NOW_MS)
    assert first == Trade(
        venue="kraken",
        symbol="BTC-USD",
        trade_id=70635299,
        price=Decimal("68500.0"),
        quantity=Decimal("0.01044926"),
        taker_side=Side.BUY,
        exchange_ms=1716813791798,
        received_ms=NOW_MS,
    )
    assert isinstance(second, Trade)
    assert (second.taker_side, str(second.quantity)) == (Side.SELL, "1")
    assert str(first.price) == "68500.0"


def test_a_ticker_keeps_the_zeros_at_the_end(session: KrakenSession) -> None:
    quote = only(session, TICKER)
    assert isinstance(quote, Quote)
    assert (str(quote.bid), str(quote.bid_quantity)) == ("65972.8", "0.10000000")
    assert quote.exchange_ms == NOW_MS


def test_a_ticker_of_today_has_the_venue_s_time_and_is_numbered_by_it(
    session: KrakenSession,
) -> None:
    timed = TICKER.replace('"last":', '"timestamp":"2026-04-07T14:30:01.123456Z","last":')
    quote = only(session, timed)
    assert isinstance(quote, Quote)
    assert (quote.exchange_ms, quote.sequence) == (1775572201123, 1775572201123000)


def test_the_documented_book_has_the_documented_checksum(session: KrakenSession) -> None:
    book = only(session, DOCUMENTED)
    assert isinstance(book, Book)
    assert book.checksum == 3310070434
    assert (str(book.bids[0][1]), str(book.asks[9][0])) == ("0.10000000", "45299.5")
    assert len(book.bids) == len(book.asks) == 10


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("0.10000000}", "0.1000000}"),
        ("45285.2", "45285.20"),
        ("1.54602737", "1.54602738"),
        ("3310070434", "3310070435"),
    ],
)
def test_a_book_that_differs_in_one_digit_is_broken(
    session: KrakenSession, there: str, instead: str
) -> None:
    assert there in DOCUMENTED
    broken = only(session, DOCUMENTED.replace(there, instead, 1))
    assert isinstance(broken, Broken)
    assert (broken.stream, broken.reason) == (Stream("BTC-USD", "book"), "checksum")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("45285.2", "452852"), ("0.00100000", "100000"), ("0.00000", ""), ("1e-7", "1"), ("7", "7")],
)
def test_a_number_goes_into_the_checksum_without_point_and_leading_zeros(
    text: str, expected: str
) -> None:
    assert digits(text) == expected


class Venue:
    """A book kept another way than ours: a dictionary of texts, sorted anew for every checksum."""

    def __init__(self, seed: int, depth: int) -> None:
        self._random = random.Random(seed)
        self.depth = depth
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        for number in range(12 * depth):
            self.bids[f"{1000 - number / 10:.1f}"] = self._quantity()
            self.asks[f"{1000 + (number + 1) / 10:.1f}"] = self._quantity()

    def _quantity(self) -> str:
        return f"{self._random.choice((0.001, 1.0, 250.0)) * self._random.random():.8f}"

    def best(self, side: dict[str, str], sign: int, count: int) -> list[tuple[str, str]]:
        return sorted(side.items(), key=lambda level: sign * float(level[0]))[:count]

    def checksum(self) -> int:
        text = ""
        for price, quantity in self.best(self.asks, 1, 10) + self.best(self.bids, -1, 10):
            text += str(int(price.replace(".", ""))) + str(int(quantity.replace(".", "")))
        return zlib.crc32(text.encode())

    def frame(
        self, kind: str, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]
    ) -> str:
        sides = (
            ",".join(f'{{"price":{price},"qty":{quantity}}}' for price, quantity in side)
            for side in (bids, asks)
        )
        return (
            '{{"channel":"book","type":"{}","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],'
            '"checksum":{},"timestamp":"2026-04-07T14:30:00.000000Z"}}]}}'
        ).format(kind, *sides, self.checksum())

    def snapshot(self) -> str:
        return self.frame(
            "snapshot", self.best(self.bids, -1, self.depth), self.best(self.asks, 1, self.depth)
        )

    def step(self) -> str:
        """A change near the best prices, told as the venue does: only what is in the depth."""
        side, sign = self._random.choice(((self.bids, -1), (self.asks, 1)))
        before = dict(self.best(side, sign, self.depth))
        # Out of sight, nothing is told: what has fallen out is gone when others leave before it.
        for hidden, _ in self.best(side, sign, self.depth + 1)[self.depth :]:
            if len(side) > 2 * self.depth:
                del side[hidden]
        price, _ = self._random.choice(list(before.items()))
        if self._random.random() < 0.4 and len(side) > 2 * self.depth:
            del side[price]
        else:
            side[price] = self._quantity()
        after = dict(self.best(side, sign, self.depth))
        told = [(each, after[each]) for each in after if before.get(each) != after[each]]
        # What falls out of the depth is not told to be gone; what was taken away is.
        told += [(each, "0.00000000") for each in before if each not in side]
        self._random.shuffle(told)
        return self.frame("update", told, []) if sign < 0 else self.frame("update", [], told)

    def grow(self) -> str:
        """A better price than all: the last of the depth falls out, and is not told."""
        best = float(self.best(self.bids, -1, 1)[0][0])
        if best + 0.1 >= float(self.best(self.asks, 1, 1)[0][0]):
            return self.step()
        price = f"{best + 0.1:.1f}"
        self.bids[price] = self._quantity()
        return self.frame("update", [(price, self.bids[price])], [])


@pytest.mark.parametrize(
    ("seed", "depth", "steps"), [(1, 10, 1000), (2, 10, 1000), (3, 25, 400), (4, 100, 100)]
)
def test_every_checksum_of_a_long_walk_is_reproduced(
    session: KrakenSession, seed: int, depth: int, steps: int
) -> None:
    venue = Venue(seed, depth)
    assert isinstance(only(session, venue.snapshot()), Book)
    for number in range(steps):
        frame = venue.grow() if number % 5 == 0 else venue.step()
        book = only(session, frame)
        assert isinstance(book, Book), f"step {number}: {book}"
        told = [(str(price), str(quantity)) for price, quantity in book.bids]
        assert told == venue.best(venue.bids, -1, 10)


def test_a_change_that_is_left_out_is_found_by_the_next_checksum() -> None:
    session = following(Stream("BTC-USD", "book"))
    venue = Venue(5, 10)
    session.read(venue.snapshot(), NOW_MS)
    venue.step()
    heard: Sequence[Heard] = ()
    for _ in range(50):
        heard = session.read(venue.step(), NOW_MS)
        if isinstance(heard[0], Broken):
            break
    (broken,) = heard
    assert isinstance(broken, Broken)
    assert broken.reason == "checksum"
    assert session.read(venue.step(), NOW_MS) == []
    assert isinstance(only(session, venue.snapshot()), Book)
    assert isinstance(only(session, venue.step()), Book)


def test_a_crossed_book_is_broken_even_with_its_checksum(session: KrakenSession) -> None:
    venue = Venue(6, 10)
    session.read(venue.snapshot(), NOW_MS)
    price = venue.best(venue.asks, 1, 1)[0][0]
    venue.bids[price] = "1.00000000"
    broken = only(session, venue.frame("update", [(price, "1.00000000")], []))
    assert isinstance(broken, Broken)
    assert broken.reason == "crossed"


def test_who_reads_a_recording_is_told_changes_that_have_no_whole_book(
    session: KrakenSession,
) -> None:
    assert isinstance(only(session, Venue(7, 10).step()), Changed)


def test_changes_that_go_on_without_a_whole_book_are_broken_again_and_again() -> None:
    session, venue = following(Stream("BTC-USD", "book")), Venue(7, 10)
    broken = []
    for second in range(14):
        heard = session.read(venue.step(), NOW_MS + 1000 * second)
        broken += [(second, each.reason) for each in heard if isinstance(each, Broken)]
    assert broken == [(5, "sequence"), (11, "sequence")]
    session.read(venue.snapshot(), NOW_MS)
    assert isinstance(only(session, venue.step()), Book)


def test_a_book_is_begun_anew_by_ending_and_beginning_it() -> None:
    session = following(Stream("BTC-USD", "book"))
    ending, beginning = map(json.loads, session.resync(Stream("BTC-USD", "book")))
    assert (ending["method"], beginning["method"]) == ("unsubscribe", "subscribe")
    assert beginning["params"] == {
        "channel": "book",
        "symbol": ["BTC/USD"],
        "depth": 10,
        "snapshot": True,
    }
    assert session.read(answer(ending, "BTC/USD"), NOW_MS) == ()
    assert only(session, answer(beginning, "BTC/USD")) == Subscribed(
        streams=(Stream("BTC-USD", "book"),)
    )


def answer(message: dict[str, Any], pair: str, **fields: Any) -> str:
    result = {"channel": message["params"]["channel"], "symbol": pair}
    told = {
        "method": message["method"],
        "req_id": message["req_id"],
        "success": True,
        "result": result,
        "time_in": "2023-09-25T09:04:31.742599Z",
    }
    return json.dumps(told | fields)


def ohlc(begin: str, close: str, said: str) -> str:
    return (
        f'{{"channel":"ohlc","type":"update","timestamp":"{said}","data":[{{"symbol":"ETH/USD",'
        f'"open":3027.80,"high":3027.80,"low":3026.13,"close":{close},"trades":9,"volume":13.31603062,'
        f'"vwap":3027.01,"interval_begin":"{begin}","interval":1,"timestamp":"2024-05-17T11:13:00Z"}}]}}'
    )


def test_a_candle_is_closed_when_the_next_one_begins(session: KrakenSession) -> None:
    first = only(session, ohlc("2024-05-17T11:12:00.000000000Z", "3026.13", "2024-05-17T11:12:03Z"))
    assert isinstance(first, Candle)
    assert (first.open_ms, first.timeframe, first.is_closed) == (1715944320000, "1m", False)
    session.read(ohlc("2024-05-17T11:12:00Z", "3026.50", "2024-05-17T11:12:40Z"), NOW_MS)
    closed, opened = session.read(
        ohlc("2024-05-17T11:13:00Z", "3027.00", "2024-05-17T11:13:01Z"), NOW_MS
    )
    assert isinstance(closed, Candle)
    assert (str(closed.close), closed.is_closed, closed.trades) == ("3026.50", True, 9)
    assert isinstance(opened, Candle)
    assert not opened.is_closed
    assert session.read(ohlc("2024-05-17T11:12:00Z", "1.00", "2024-05-17T11:12:40Z"), NOW_MS) == []


def test_a_frame_of_many_candles_tells_the_last_one_open_and_the_others_closed(
    session: KrakenSession,
) -> None:
    said = "2024-05-17T11:14:01Z"
    frames = [
        json.loads(ohlc(f"2024-05-17T11:{minute}:00Z", "3026.5", said)) for minute in (12, 13, 14)
    ]
    frames[0]["data"] = [each["data"][0] for each in frames]
    heard = session.read(json.dumps(frames[0]), NOW_MS)
    assert [each.is_closed for each in heard if isinstance(each, Candle)] == [True, True, False]


def test_each_channel_is_one_message_and_each_symbol_one_answer() -> None:
    session = KrakenSession(name="kraken", stream_url="")
    streams = [Stream("BTC-USD", "quote"), Stream("ETH-USD", "quote"), Stream("BTC-USD", "trade")]
    ticker, trade = map(json.loads, session.subscribe(streams))
    assert ticker["params"] == {
        "channel": "ticker",
        "symbol": ["BTC/USD", "ETH/USD"],
        "event_trigger": "bbo",
        "snapshot": True,
    }
    assert trade["params"] == {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": False}
    assert only(session, answer(ticker, "ETH/USD")) == Subscribed(streams=(streams[1],))
    assert only(session, answer(ticker, "BTC/USD")) == Subscribed(streams=(streams[0],))
    session.unsubscribe([streams[1]])
    ending = {"method": "unsubscribe", "req_id": 3, "params": {"channel": "ticker"}}
    assert only(session, answer(ending, "ETH/USD")) == Unsubscribed(streams=(streams[1],))


def test_a_symbol_the_venue_does_not_have_is_declined_alone() -> None:
    session = KrakenSession(name="kraken", stream_url="")
    good, bad = Stream("BTC-USD", "trade"), Stream("FOO-BAR", "trade")
    (message,) = map(json.loads, session.subscribe([good, bad]))
    error = {
        "error": "Currency pair not supported FOO/BAR",
        "method": "subscribe",
        "req_id": message["req_id"],
        "success": False,
    }
    for frame in (error, error | {"symbol": "FOO/BAR"}):
        declined = only(session, json.dumps(frame))
        assert isinstance(declined, Declined)
        assert declined.streams == (bad,)
    repeated = error | {"error": "Already subscribed", "symbol": "BTC/USD"}
    assert only(session, json.dumps(repeated)) == Subscribed(streams=(good,))


def test_too_many_messages_are_declined_without_naming_a_stream(session: KrakenSession) -> None:
    assert only(session, '{"Error":"Exceeded msg rate"}') == Declined(
        streams=(), reason="'Exceeded msg rate'"
    )


def instruments(**states: str) -> str:
    pairs = [
        {"symbol": name.replace("_", "/"), "status": state, "qty_min": 0.5}
        for name, state in states.items()
    ]
    return json.dumps(
        {"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": pairs}}
    )


def test_a_pair_s_status_is_told_when_it_is_new() -> None:
    session = following(Stream("EUR-USD", "status"))
    status = only(session, instruments(EUR_USD="online", BTC_USD="online"))
    assert isinstance(status, Status)
    assert (status.symbol, status.trading, status.words) == ("EUR-USD", Trading.OPEN, "online")
    assert session.read(instruments(EUR_USD="online"), NOW_MS) == []
    for state, trading in (
        ("cancel_only", Trading.CANCEL_ONLY),
        ("post_only", Trading.POST_ONLY),
        ("limit_only", Trading.LIMIT_ONLY),
        ("work_in_progress", Trading.HALTED),
    ):
        status = only(session, instruments(EUR_USD=state))
        assert isinstance(status, Status)
        assert status.trading is trading


def test_who_asks_later_is_told_the_status_that_is_known() -> None:
    session = following(Stream("EUR-USD", "status"))
    session.read(instruments(EUR_USD="online", BTC_USD="cancel_only"), NOW_MS)
    late = Stream("BTC-USD", "status")
    (message,) = map(json.loads, session.subscribe([late]))
    told = {
        "error": "Already subscribed",
        "method": "subscribe",
        "req_id": message["req_id"],
        "success": False,
    }
    taken, status = session.read(json.dumps(told), NOW_MS)
    assert taken == Subscribed(streams=(late,))
    assert isinstance(status, Status)
    assert (status.symbol, status.trading) == ("BTC-USD", Trading.CANCEL_ONLY)


def test_the_whole_venue_s_state_is_that_of_every_market_whose_status_is_followed() -> None:
    followed = Stream("BTC-USD", "status"), Stream("EUR-USD", "status")
    session = following(*followed, Stream("ETH-USD", "trade"))
    assert session.read(STATUS, NOW_MS) == ()
    session.read(instruments(EUR_USD="cancel_only"), NOW_MS)
    heard = session.read(STATUS.replace('"online"', '"post_only"'), NOW_MS)
    told = {each.symbol: each.trading for each in heard if isinstance(each, Status)}
    assert told == {"BTC-USD": Trading.POST_ONLY, "EUR-USD": Trading.CANCEL_ONLY}
    heard = session.read(STATUS.replace('"online"', '"maintenance"'), NOW_MS)
    assert {each.trading for each in heard if isinstance(each, Status)} == {Trading.HALTED}
    heard = session.read(STATUS, NOW_MS)
    told = {each.symbol: each.trading for each in heard if isinstance(each, Status)}
    assert told == {"BTC-USD": Trading.OPEN, "EUR-USD": Trading.CANCEL_ONLY}


def test_a_venue_that_was_closed_before_tells_so_to_each_market_that_comes() -> None:
    session = KrakenSession(name="kraken", stream_url="")
    session.read(STATUS.replace('"online"', '"maintenance"'), NOW_MS)
    (message,) = map(json.loads, session.subscribe([Stream("BTC-USD", "status")]))
    _, status = session.read(answer(message, "BTC/USD"), NOW_MS)
    assert isinstance(status, Status)
    assert status.trading is Trading.HALTED
    assert "maintenance" in status.words


def test_heartbeats_and_answers_to_our_ping_are_signs_of_life(session: KrakenSession) -> None:
    assert only(session, '{"channel":"heartbeat"}') == Beat()
    ping = json.loads(session.ping() or "")
    assert ping["method"] == "ping"
    pong = {"method": "pong", "req_id": ping["req_id"], "time_out": "2024-05-17T11:13:00Z"}
    assert only(session, json.dumps(pong)) == Beat(exchange_ms=1715944380000)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("CloudFlare WebSocket proxy restarting", "not_json"),
        ("", "not_json"),
        (b"\x00\xff", "not_text"),
        ("[]", "wrong_shape"),
        ("{}", "wrong_shape"),
        ('{"channel":"level3","data":[]}', "unknown_event"),
        ('{"method":"add_order","success":true}', "unknown_event"),
        ('{"channel":"trade","data":{}}', "wrong_shape"),
        ('{"channel":"later","x":' + "[" * 100_000, "too_deep"),
        ('{"channel":"trade","data":' + "[" * 100_000, "too_deep"),
        (TRADES.replace("BTC/USD", "BTC-USD"), "unknown_market"),
        (TRADES.replace('"side":"buy"', '"side":"both"'), "wrong_shape"),
        (TRADES.replace("68500.0", "-68500.0"), "bad_number"),
        (TRADES.replace("68500.0", "0.0"), "bad_number"),
        (TRADES.replace("68500.0", "1e400"), "bad_number"),
        (TRADES.replace("68500.0", "1" * 5000), "bad_number"),
        (TRADES.replace("68500.0", "NaN"), "not_json"),
        (TRADES.replace("68500.0", '"NaN"'), "bad_number"),
        (TRADES.replace("70635299", "70635299.0"), "bad_number"),
        (TRADES.replace("2024-05-27T", "2924-05-27T"), "bad_time"),
        (DOCUMENTED.replace("3310070434", "-1"), "bad_number"),
        (DOCUMENTED.replace("3310070434", str(2**33)), "bad_number"),
        (DOCUMENTED.replace("45283.5", "null"), "bad_number"),
    ],
)
def test_what_cannot_be_read_says_why(
    session: KrakenSession, frame: str | bytes, reason: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        session.read(frame, NOW_MS)
    assert refused.value.reason == reason
    assert len(session.read(TRADES, NOW_MS)) == 2


def test_a_market_that_nobody_asked_for_is_unknown() -> None:
    session = following(Stream("ETH-USD", "trade"))
    with pytest.raises(Unreadable) as refused:
        session.read(TRADES, NOW_MS)
    assert refused.value.reason == "unknown_market"
