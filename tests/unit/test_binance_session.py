"""The dialogue with Binance's streams: who asked for what, gaps by its own rules, its farewell."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from botswarm.config.table import BY_NAME
from botswarm.domain.market import Book, Level, Quote, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.binance import symbols
from botswarm.exchanges.binance.depth import ASKED_AGAIN_AFTER, SNAPSHOT_LEVELS, WAITING_MAX
from botswarm.exchanges.binance.session import RULES, BinanceSession
from botswarm.exchanges.reading import FRAME_MAX_BYTES
from botswarm.exchanges.streams import (
    AggregateTrade,
    Broken,
    Changed,
    Declined,
    GoingAway,
    Heard,
    NeedsWhole,
    Stream,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

NOW_MS = 1_700_000_000_000
BTC = Stream("BTC-USDT", "book")


def session(*streams: Stream, **options: Any) -> BinanceSession:
    made = BinanceSession(name="binance", stream_url="ws://127.0.0.1:1/", **options)
    made.subscribe(streams)
    return made


def depth(first: int, last: int, bids: Any = (), asks: Any = (), symbol: str = "BTCUSDT") -> str:
    told = {"e": "depthUpdate", "E": NOW_MS, "s": symbol, "U": first, "u": last}
    return json.dumps({**told, "b": list(bids), "a": list(asks)})


def book(sequence: int, bids: Sequence[Level], asks: Sequence[Level]) -> Book:
    return Book(
        venue="binance",
        symbol="BTC-USDT",
        sequence=sequence,
        bids=tuple(bids),
        asks=tuple(asks),
        exchange_ms=NOW_MS,
        received_ms=NOW_MS,
    )


def whole(sequence: int) -> Book:
    return book(sequence, [(Decimal(99), Decimal(1))], [(Decimal(101), Decimal(1))])


def kinds(heard: Sequence[Heard]) -> list[str]:
    return [type(each).__name__ for each in heard]


# --- subscriptions ----------------------------------------------------------------------------


def test_a_full_connection_is_asked_for_within_the_rate_of_one_second() -> None:
    streams = [Stream(f"A{number}-USDT", "trade") for number in range(RULES.streams_max)]
    messages = session().subscribe(streams)
    assert len(messages) <= RULES.sends_per_s
    named = [name for message in messages for name in json.loads(message)["params"]]
    assert named == [f"a{number}usdt@trade" for number in range(RULES.streams_max)]


def test_answers_are_matched_to_what_was_asked_by_their_number() -> None:
    talk = session()
    (first,), (second,) = talk.subscribe([BTC]), talk.unsubscribe([BTC])
    numbers = [json.loads(message)["id"] for message in (first, second)]
    assert talk.read(f'{{"result":null,"id":{numbers[1]}}}', 0) == (Unsubscribed(streams=(BTC,)),)
    assert talk.read(f'{{"result":null,"id":{numbers[0]}}}', 0) == (Subscribed(streams=(BTC,)),)
    assert talk.read(f'{{"result":null,"id":{numbers[0]}}}', 0) == ()


@pytest.mark.parametrize(
    "answer",
    [
        '{"code":2,"msg":"Invalid request: unknown variant","id":1}',
        '{"error":{"code":2,"msg":"Invalid request: unknown variant"},"id":1}',
    ],
)
def test_a_refusal_names_the_streams_that_will_not_come(answer: str) -> None:
    talk = session(BTC)
    (declined,) = talk.read(answer, 0)
    assert isinstance(declined, Declined)
    assert declined.streams == (BTC,)
    assert "unknown variant" in declined.reason


def test_a_refusal_of_nothing_in_particular_is_told_too() -> None:
    (declined,) = session().read('{"code":3,"msg":"Invalid JSON: expected value"}', 0)
    assert isinstance(declined, Declined)
    assert declined.streams == ()


@pytest.mark.parametrize(
    "frame",
    [
        '{"e":"serverShutdown","E":1770123456789}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    ],
)
def test_the_venue_s_farewell_is_heard_raw_and_combined(frame: str) -> None:
    assert session().read(frame, 0) == (GoingAway(reason="serverShutdown"),)


def test_a_market_that_was_not_asked_for_is_left_out() -> None:
    with pytest.raises(Unreadable) as refused:
        session(BTC).read(depth(1, 1, symbol="ETHUSDT"), NOW_MS)
    assert refused.value.reason == "unknown_market"


def test_names_in_any_alphabet_are_asked_for_and_understood() -> None:
    talk = session()
    (message,) = talk.subscribe([Stream("这是测试币-456", "trade")])
    assert '"这是测试币456@trade"' in message
    frame = {"e": "trade", "s": "这是测试币456", "t": 1, "p": "1", "q": "1", "T": 5, "m": True}
    (trade,) = talk.read(json.dumps(frame, ensure_ascii=False), NOW_MS)
    assert isinstance(trade, Trade)
    assert trade.symbol == "这是测试币-456"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("BTCUSDT", "BTC-USDT"),
        ("BTCFDUSD", "BTC-FDUSD"),
        ("BNBBTC", "BNB-BTC"),
        ("USDTTRY", "USDT-TRY"),
        ("1000SATSTRY", "1000SATS-TRY"),
        ("这是测试币456", "这是测试币-456"),
        ("USDT", None),
        ("", None),
        ("btcusdt", None),
        ("BTC\nUSDT", None),
        ("A" * 50 + "USDT", None),
    ],
)
def test_a_symbol_is_split_by_the_asset_it_is_quoted_in(theirs: str, ours: str | None) -> None:
    assert symbols.split(theirs) == ours


# --- trades and quotes ------------------------------------------------------------------------


def test_an_aggregate_trade_keeps_the_ids_of_the_trades_in_it() -> None:
    frame = (
        '{"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT",'
        '"a":15683430,"p":"0.35280000","q":"58.00000000","f":19862788,"l":19862790,'
        '"T":1633998523963,"m":false,"M":true,"st":1}}'
    )
    (trade,) = session(Stream("NKN-USDT", "trade")).read(frame, NOW_MS)
    assert isinstance(trade, AggregateTrade)
    assert (trade.trade_id, trade.first_id, trade.last_id) == (15683430, 19862788, 19862790)
    assert trade.taker_side is Side.BUY


def test_times_in_microseconds_are_read_to_the_millisecond() -> None:
    frame = {"e": "trade", "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "m": True}
    frame |= {"E": NOW_MS * 1000 + 5, "T": NOW_MS * 1000 + 999}
    (trade,) = session(BTC).read(json.dumps(frame), NOW_MS)
    assert isinstance(trade, Trade)
    assert trade.exchange_ms == NOW_MS


def test_the_quote_of_futures_with_an_event_name_is_read_too() -> None:
    frame = {"e": "bookTicker", "u": 400900217, "E": NOW_MS - 7, "T": NOW_MS - 9, "s": "BTCUSDT"}
    frame |= {"b": "25.35190000", "B": "31.21000000", "a": "25.36520000", "A": "40.66000000"}
    (quote,) = session(BTC).read(json.dumps(frame), NOW_MS)
    assert isinstance(quote, Quote)
    assert (quote.exchange_ms, quote.received_ms) == (NOW_MS - 9, NOW_MS)


@pytest.mark.parametrize("kind", ["24hrTicker", "24hrMiniTicker", "avgPrice"])
def test_events_of_no_use_to_us_are_no_error(kind: str) -> None:
    assert session(BTC).read(json.dumps({"e": kind, "s": "BTCUSDT", "P": "-1.2"}), 0) == ()


def test_an_event_nobody_knows_is_counted_as_such() -> None:
    with pytest.raises(Unreadable) as refused:
        session(BTC).read('{"e":"tomorrow"}', 0)
    assert refused.value.reason == "unknown_event"


# --- order books ------------------------------------------------------------------------------


def test_a_book_is_asked_for_once_and_continues_with_what_came_meanwhile() -> None:
    talk = session(BTC)
    assert talk.read(depth(11, 12, [["99", "5"]]), NOW_MS) == (NeedsWhole(stream=BTC),)
    assert talk.read(depth(13, 14, [["98", "2"]]), NOW_MS) == ()
    heard = talk.whole(whole(12))
    assert kinds(heard) == ["Book", "Book"]
    last = heard[-1]
    assert isinstance(last, Book)
    assert (last.sequence, last.bids) == (
        14,
        ((Decimal(99), Decimal(1)), (Decimal(98), Decimal(2))),
    )


def test_a_book_older_than_the_first_change_is_asked_for_again() -> None:
    talk = session(BTC)
    talk.read(depth(11, 12), NOW_MS)
    assert talk.whole(whole(9)) == (NeedsWhole(stream=BTC),)
    assert kinds(talk.whole(whole(10))) == ["Book", "Book"]


def test_changes_that_wait_for_a_book_take_no_more_than_so_much_room() -> None:
    talk = session(BTC)
    asked = [number for number in range(1, 1500) if talk.read(depth(number, number), NOW_MS)]
    assert asked == [1, 1 + ASKED_AGAIN_AFTER, 1 + 2 * ASKED_AGAIN_AFTER]
    assert talk.whole(whole(1499 - WAITING_MAX - 1)) == (NeedsWhole(stream=BTC),)
    heard = talk.whole(whole(1499 - WAITING_MAX))
    assert kinds(heard) == ["Book"] * (WAITING_MAX + 1)


def test_a_missing_change_breaks_the_book_and_a_new_whole_mends_it() -> None:
    talk = session(BTC)
    talk.read(depth(11, 12), NOW_MS)
    talk.whole(whole(12))
    assert kinds(talk.read(depth(13, 13, [["99", "0"]]), NOW_MS)) == ["Book"]
    broken, wanted = talk.read(depth(15, 16), NOW_MS)
    assert isinstance(broken, Broken)
    assert (broken.stream, broken.reason) == (BTC, "sequence")
    assert wanted == NeedsWhole(stream=BTC)
    assert talk.read(depth(17, 17), NOW_MS) == ()
    assert kinds(talk.whole(whole(16))) == ["Book", "Book"]


def test_a_change_told_twice_changes_nothing() -> None:
    talk = session(BTC)
    talk.read(depth(11, 12), NOW_MS)
    talk.whole(whole(12))
    talk.read(depth(13, 13, [["99", "7"]]), NOW_MS)
    assert talk.read(depth(11, 12, [["99", "5"]]), NOW_MS) == ()
    (now,) = talk.read(depth(14, 14), NOW_MS)
    assert isinstance(now, Book)
    assert now.bids == ((Decimal(99), Decimal(7)),)


def test_a_crossed_book_is_thrown_away() -> None:
    talk = session(BTC)
    talk.read(depth(11, 12), NOW_MS)
    talk.whole(whole(12))
    broken, _ = talk.read(depth(13, 13, [["105", "1"]]), NOW_MS)
    assert isinstance(broken, Broken)
    assert broken.reason == "crossed"


def test_beyond_the_levels_that_were_asked_for_nothing_is_claimed() -> None:
    bids = [(Decimal(2000 - step), Decimal(1)) for step in range(SNAPSHOT_LEVELS)]
    talk = session(BTC, book_levels=2)
    talk.read(depth(11, 12), NOW_MS)
    talk.whole(book(12, bids, [(Decimal(2001), Decimal(1))]))
    gone = [[str(price), "0"] for price, _ in bids[:-2]]
    assert kinds(talk.read(depth(13, 13, gone), NOW_MS)) == ["Book"]
    heard = talk.read(depth(14, 14, [[str(bids[-1][0]), "0"], ["5", "1"]]), NOW_MS)
    assert heard == (NeedsWhole(stream=BTC),)


def test_after_the_end_of_a_subscription_its_last_changes_ask_for_nothing() -> None:
    talk = session(BTC)
    talk.unsubscribe([BTC])
    assert talk.read(depth(11, 12), NOW_MS) == ()


def test_a_partial_book_has_the_market_of_its_stream_s_name() -> None:
    told = {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]}
    frame = {"stream": "btcusdt@depth10@100ms", "data": told}
    (found,) = session(Stream("BTC-USDT", "trade")).read(json.dumps(frame), NOW_MS)
    assert isinstance(found, Book)
    assert (found.symbol, found.sequence, found.exchange_ms) == ("BTC-USDT", 160, NOW_MS)
    (raw,) = session(BTC).read(json.dumps(told), NOW_MS)
    assert raw == found
    with pytest.raises(Unreadable) as refused:
        session(BTC, Stream("ETH-USDT", "book")).read(json.dumps(told), NOW_MS)
    assert refused.value.reason == "unknown_market"


def test_a_reader_of_recordings_hears_the_changes_and_their_holes() -> None:
    talk = session(BTC, tells_changes=True)
    (told,) = talk.read(depth(11, 12, [["99.50", "0.00"]]), NOW_MS)
    assert isinstance(told, Changed)
    assert [str(part) for part in told.bids[0]] == ["99.50", "0.00"]
    assert kinds(talk.read(depth(13, 14), NOW_MS)) == ["Changed"]
    assert kinds(talk.read(depth(16, 17), NOW_MS)) == ["Broken", "Changed"]


def test_a_book_kept_from_changes_is_the_venue_s_own_after_any_history() -> None:
    dice = random.Random(3)
    bids = {Decimal(90 + step): Decimal(1) for step in range(10)}
    asks = {Decimal(101 + step): Decimal(1) for step in range(10)}
    talk = session(BTC)
    talk.read(depth(101, 101), NOW_MS)
    talk.whole(book(101, sorted(bids.items(), reverse=True), sorted(asks.items())))
    number = 101
    for _ in range(500):
        side, low = dice.choice([(bids, 60), (asks, 101)])
        changed = {Decimal(low + dice.randrange(40)): Decimal(dice.randrange(3)) for _ in range(3)}
        side |= changed
        rows = [[str(price), str(quantity)] for price, quantity in changed.items()]
        first, number = number + 1, number + dice.randrange(1, 4)
        sides = (rows, ()) if side is bids else ((), rows)
        (told,) = talk.read(depth(first, number, *sides), NOW_MS)
        assert isinstance(told, Book)
        standing = sorted(((p, q) for p, q in bids.items() if q), reverse=True)
        assert told.bids == tuple(standing[:10])
        assert told.asks == tuple(sorted((p, q) for p, q in asks.items() if q)[:10])


def test_a_frame_of_any_size_that_a_connection_may_be_set_to_take_is_read() -> None:
    trade = {"e": "trade", "E": NOW_MS, "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "T": NOW_MS}
    told = json.dumps({**trade, "m": True}).encode()
    (heard,) = session(BTC).read(told.ljust(2 * RULES.frame_max_bytes), NOW_MS)
    assert isinstance(heard, Trade)
    with pytest.raises(Unreadable):
        session(BTC).read(told.ljust(FRAME_MAX_BYTES + 1), NOW_MS)
    assert BY_NAME["feed_frame_max_bytes"].kind.schema["maximum"] == FRAME_MAX_BYTES
