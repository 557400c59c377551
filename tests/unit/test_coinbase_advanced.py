"""Coinbase Advanced Trade's streams in our words: their numbers, names and order books."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from botswarm.domain.market import Book, Candle, Quote, Status, Trade, Trading
from botswarm.domain.order import Side
from botswarm.exchanges.coinbase.advanced_session import REPEATS_MAX, AdvancedSession
from botswarm.exchanges.coinbase.market import CoinbaseMarketData
from botswarm.exchanges.streams import (
    Beat,
    Broken,
    Declined,
    GoingAway,
    Heard,
    Skipped,
    Stream,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

NOW_MS = 1_800_000_000_000

TRADE = {
    "trade_id": "995098700",
    "product_id": "BTC-USD",
    "price": "68900.50",
    "size": "0.00150000",
    "side": "BUY",
    "time": "2026-04-07T14:30:00.123456Z",
}
TICKER = {
    "type": "ticker",
    "product_id": "BTC-USD",
    "price": "68900.50",
    "best_bid": "68900.49",
    "best_bid_quantity": "0.50000000",
    "best_ask": "68900.50",
    "best_ask_quantity": "0.12",
}


def level(side: str, price: str, quantity: str) -> dict[str, str]:
    return {
        "side": side,
        "event_time": "2026-04-07T14:30:00Z",
        "price_level": price,
        "new_quantity": quantity,
    }


def book(kind: str, *levels: tuple[str, str, str], product: str = "BTC-USD") -> dict[str, Any]:
    return {"type": kind, "product_id": product, "updates": [level(*each) for each in levels]}


SNAPSHOT = book("snapshot", ("bid", "10.0", "1"), ("bid", "9.5", "2"), ("offer", "10.5", "3"))
UPDATE = book("update", ("offer", "10.5", "0"), ("offer", "10.4", "1.0"))


class Feed:
    """Frames of one connection, numbered as the venue does."""

    def __init__(self, session: AdvancedSession | None = None, **options: Any) -> None:
        self.session = session or AdvancedSession(
            name="coinbase", stream_url="ws://127.0.0.1:1", **options
        )
        self.numbers = itertools.count()

    def read(self, channel: str, *events: Any, **fields: Any) -> Sequence[Heard]:
        frame = {
            "channel": channel,
            "client_id": "",
            "timestamp": "2026-04-07T14:30:01.123456789Z",
            "sequence_num": next(self.numbers),
            "events": events,
        }
        return self.session.read(json.dumps(frame | fields), NOW_MS)

    def only(self, channel: str, *events: Any, **fields: Any) -> Heard:
        (heard,) = self.read(channel, *events, **fields)
        return heard


@pytest.fixture
def feed() -> Feed:
    return Feed(reads_all=True)


def trades(*told: dict[str, Any], kind: str = "update") -> dict[str, Any]:
    return {"type": kind, "trades": list(told)}


def test_a_trade_s_side_is_taken_to_be_the_maker_s(feed: Feed) -> None:
    assert feed.only("market_trades", trades(TRADE)) == Trade(
        venue="coinbase",
        symbol="BTC-USD",
        trade_id=995098700,
        price=Decimal("68900.50"),
        quantity=Decimal("0.00150000"),
        taker_side=Side.SELL,
        exchange_ms=1775572200123,
        received_ms=NOW_MS,
    )


def test_the_newest_trade_stands_first_and_is_told_last(feed: Feed) -> None:
    told = [TRADE | {"trade_id": str(number)} for number in (1002, 1001, 999, 1000)]
    heard = feed.read("market_trades", trades(*told[:2]), trades(*told[2:]))
    assert [each.trade_id for each in heard if isinstance(each, Trade)] == [999, 1000, 1001, 1002]


def test_a_new_connection_begins_with_what_the_one_before_did_not_tell() -> None:
    data = CoinbaseMarketData(name="coinbase", rest_url="http://127.0.0.1:1", stream_url="")
    with closing(data):
        told = []
        for ids in ((3, 2, 1), (5, 4, 3, 2)):
            feed = Feed(session=data.session())
            feed.session.subscribe([Stream("BTC-USD", "trade")])
            past = [TRADE | {"trade_id": str(number)} for number in ids]
            told.append(feed.read("market_trades", trades(*past, kind="snapshot")))
        repeated = feed.read("market_trades", trades(TRADE | {"trade_id": "5"}))
    ids_told = [[each.trade_id for each in heard if isinstance(each, Trade)] for heard in told]
    assert ids_told == [[1, 2, 3], [4, 5]]
    assert len(repeated) == 1


def test_a_ticker_is_a_quote_numbered_by_the_venue_s_clock(feed: Feed) -> None:
    first = feed.only("ticker", {"type": "snapshot", "tickers": [TICKER]})
    assert isinstance(first, Quote)
    assert (str(first.bid_quantity), str(first.ask)) == ("0.50000000", "68900.50")
    assert (first.sequence, first.exchange_ms) == (1775572201123000, 1775572201123)
    event = {"type": "update", "tickers": [TICKER]}
    again = feed.only("ticker", event)
    other = feed.only("ticker", {"type": "update", "tickers": [TICKER | {"best_bid": "68900.4"}]})
    later = feed.only("ticker", event, timestamp="2026-04-07T14:30:01.124Z")
    numbers = [each.sequence for each in (again, other, later) if isinstance(each, Quote)]
    assert [number - first.sequence for number in numbers] == [0, 1, 1000]


def test_two_connections_give_a_quote_the_same_number() -> None:
    one, other = Feed(reads_all=True), Feed(reads_all=True)
    next(other.numbers)
    event = {"type": "update", "tickers": [TICKER]}
    first, second = one.only("ticker", event), other.only("ticker", event)
    assert isinstance(first, Quote)
    assert isinstance(second, Quote)
    assert first.sequence == second.sequence


def candle(start: int, close: str) -> dict[str, Any]:
    return {
        "start": str(start),
        "open": "10",
        "high": "12",
        "low": "9",
        "close": close,
        "volume": "1.5",
        "product_id": "BTC-USD",
    }


def test_a_candle_is_closed_when_the_next_one_begins(feed: Feed) -> None:
    start = 1775572200
    event = {"type": "update", "candles": [candle(start, "10.1")]}
    first = feed.only("candles", event)
    assert isinstance(first, Candle)
    assert (first.timeframe, first.open_ms, first.is_closed) == ("5m", start * 1000, False)
    feed.only("candles", {"type": "update", "candles": [candle(start, "10.2")]})
    heard = feed.read("candles", {"type": "update", "candles": [candle(start + 300, "11")]})
    told = [(each.open_ms // 1000, str(each.close), each.is_closed) for each in heard]  # type: ignore[union-attr]
    assert told == [(start, "10.2", True), (start + 300, "11", False)]


def test_a_candle_whose_changes_were_missed_is_never_called_closed(feed: Feed) -> None:
    start = 1775572200
    feed.only("candles", {"type": "update", "candles": [candle(start, "10.1")]})
    next(feed.numbers)
    skipped, after = feed.read(
        "candles", {"type": "update", "candles": [candle(start + 300, "11")]}
    )
    assert skipped == Skipped(count=1)
    assert isinstance(after, Candle)
    assert not after.is_closed


def test_a_book_is_what_its_changes_make_of_it(feed: Feed) -> None:
    first, second = feed.only("l2_data", SNAPSHOT), feed.only("l2_data", UPDATE)
    assert isinstance(first, Book)
    assert isinstance(second, Book)
    assert first.bids == ((Decimal("10.0"), Decimal(1)), (Decimal("9.5"), Decimal(2)))
    assert [(str(price), str(size)) for price, size in second.asks] == [("10.4", "1.0")]
    assert second.sequence > first.sequence


def test_a_hole_in_the_numbers_says_how_much_and_ends_every_book() -> None:
    feed = Feed()
    feed.session.subscribe([Stream("BTC-USD", "book"), Stream("ETH-USD", "book")])
    feed.read("l2_data", SNAPSHOT)
    feed.read("l2_data", SNAPSHOT | {"product_id": "ETH-USD"})
    for _ in range(3):
        next(feed.numbers)
    skipped, beat = feed.read("heartbeats", {"heartbeat_counter": 42})
    assert skipped == Skipped(count=3)
    assert isinstance(beat, Beat)
    assert feed.read("l2_data", UPDATE) == []
    assert isinstance(feed.only("l2_data", SNAPSHOT), Book)


def test_a_frame_that_cannot_be_read_is_still_counted(feed: Feed) -> None:
    feed.read("heartbeats", {})
    with pytest.raises(Unreadable):
        feed.read("market_trades", trades(TRADE | {"price": "-1"}))
    assert feed.only("heartbeats", {}) == Beat(exchange_ms=1775572201123)


def test_a_hole_before_a_frame_that_cannot_be_read_is_told_with_the_next(feed: Feed) -> None:
    feed.read("heartbeats", {})
    next(feed.numbers)
    with pytest.raises(Unreadable):
        feed.read("market_trades", trades(TRADE | {"price": "-1"}))
    assert feed.read("heartbeats", {})[0] == Skipped(count=1)
    assert isinstance(feed.only("heartbeats", {}), Beat)


def test_a_repeated_change_does_not_undo_what_came_since(feed: Feed) -> None:
    feed.read("l2_data", SNAPSHOT)
    feed.read("l2_data", UPDATE)
    last = feed.only("l2_data", book("update", ("offer", "10.4", "5")))
    assert feed.only("l2_data", UPDATE, sequence_num=1) == last
    after = feed.only("l2_data", book("update", ("bid", "9.5", "0")), sequence_num=3)
    assert isinstance(after, Book)
    assert after.asks == ((Decimal("10.4"), Decimal(5)),)


def test_frames_of_the_same_number_that_say_other_things_are_all_read(feed: Feed) -> None:
    """So the venue's documents number them."""
    first = feed.only("l2_data", SNAPSHOT, sequence_num=0)
    second = feed.only("l2_data", UPDATE, sequence_num=0)
    assert isinstance(first, Book)
    assert isinstance(second, Book)
    assert [str(price) for price, _ in second.asks] == ["10.4"]


def test_a_venue_that_counts_anew_is_followed_again(feed: Feed) -> None:
    feed.read("l2_data", SNAPSHOT, sequence_num=5000)
    for number in range(REPEATS_MAX):
        feed.read("heartbeats", {}, sequence_num=number)
    broken, _ = feed.read("heartbeats", {}, sequence_num=REPEATS_MAX)
    assert isinstance(broken, Broken)
    begun = feed.only("l2_data", SNAPSHOT, sequence_num=REPEATS_MAX + 1)
    assert isinstance(begun, Book)


def test_a_number_far_ahead_is_garbled_and_changes_nothing(feed: Feed) -> None:
    feed.read("heartbeats", {})
    with pytest.raises(Unreadable) as refused:
        feed.read("heartbeats", {}, sequence_num=2**40)
    assert refused.value.reason == "bad_number"
    assert feed.read("heartbeats", {}, sequence_num=1) == [Beat(exchange_ms=1775572201123)]


def test_dollars_in_another_coat_arrive_under_the_name_that_was_asked_for(feed: Feed) -> None:
    messages = feed.session.subscribe([Stream("BTC-USDC", "trade"), Stream("BTC-USDC", "quote")])
    assert [json.loads(message) for message in messages] == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "channel": "market_trades", "product_ids": ["BTC-USD"]},
        {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"]},
    ]
    trade = feed.only("market_trades", trades(TRADE))
    assert isinstance(trade, Trade)
    assert trade.symbol == "BTC-USDC"
    feed.session.subscribe([Stream("BTC-USD", "trade")])
    both = feed.read("market_trades", trades(TRADE))
    assert [each.symbol for each in both if isinstance(each, Trade)] == ["BTC-USDC", "BTC-USD"]


def test_a_market_that_nobody_asked_for_is_unknown() -> None:
    feed = Feed()
    feed.session.subscribe([Stream("ETH-USD", "trade")])
    with pytest.raises(Unreadable) as refused:
        feed.read("market_trades", trades(TRADE))
    assert refused.value.reason == "unknown_market"


def test_a_shared_product_is_left_when_its_last_name_is(feed: Feed) -> None:
    dollars, coins = Stream("BTC-USD", "trade"), Stream("BTC-USDC", "trade")
    feed.session.subscribe([dollars, coins])
    assert feed.session.unsubscribe([coins]) == []
    (message,) = feed.session.unsubscribe([dollars])
    assert json.loads(message)["product_ids"] == ["BTC-USD"]


def test_coins_with_a_book_of_their_own_keep_their_name(feed: Feed) -> None:
    _, message = feed.session.subscribe([Stream("USDT-USDC", "trade")])
    assert json.loads(message)["product_ids"] == ["USDT-USDC"]


def test_the_venue_s_list_says_what_was_taken_and_what_has_ended(feed: Feed) -> None:
    trade, quote = Stream("BTC-USD", "trade"), Stream("BTC-USD", "quote")
    feed.session.subscribe([trade, quote])
    first = {"subscriptions": {"market_trades": ["BTC-USD"], "heartbeats": ["heartbeats"]}}
    assert feed.only("subscriptions", first) == Subscribed(streams=(trade,))
    second = {"subscriptions": {"market_trades": ["BTC-USD"], "ticker": ["BTC-USD"]}}
    assert feed.only("subscriptions", second) == Subscribed(streams=(quote,))
    feed.session.unsubscribe([trade])
    third = {"subscriptions": {"ticker": ["BTC-USD"]}}
    assert feed.only("subscriptions", third) == Unsubscribed(streams=(trade,))


def test_a_status_is_told_when_it_is_new(feed: Feed) -> None:
    product = {"product_type": "SPOT", "id": "BTC-USD", "status": "online", "status_message": ""}
    event = {"type": "snapshot", "products": [product]}
    status = feed.only("status", event)
    assert isinstance(status, Status)
    assert (status.symbol, status.trading) == ("BTC-USD", Trading.OPEN)
    assert feed.read("status", event) == []
    halted = feed.only("status", {"type": "update", "products": [product | {"status": "delisted"}]})
    assert isinstance(halted, Status)
    assert (halted.trading, halted.words) == (Trading.HALTED, "delisted")


@pytest.mark.parametrize("counter", [42, "42"])
def test_a_heartbeat_counts_in_numbers_or_in_text(feed: Feed, counter: Any) -> None:
    event = {
        "current_time": "2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105",
        "heartbeat_counter": counter,
    }
    assert feed.only("heartbeats", event) == Beat(exchange_ms=1775572201123)


def test_frames_without_a_client_id_are_read_too(feed: Feed) -> None:
    frame = {"channel": "market_trades", "sequence_num": 0, "events": [trades(TRADE)]}
    (trade,) = feed.session.read(json.dumps(frame), NOW_MS)
    assert isinstance(trade, Trade)


def test_errors_say_whether_the_connection_or_a_stream_is_meant(feed: Feed) -> None:
    feed.session.subscribe([Stream("FOO-USD", "trade"), Stream("BTC-USD", "trade")])
    (declined,) = feed.session.read(
        '{"type":"error","message":"FOO-USD is not a valid product"}', NOW_MS
    )
    assert isinstance(declined, Declined)
    assert declined.streams == (Stream("FOO-USD", "trade"),)
    (going,) = feed.session.read('{"type":"error","message":"slow consumer"}', NOW_MS)
    assert isinstance(going, GoingAway)


@pytest.mark.parametrize(
    ("channel", "event", "reason"),
    [
        ("market_trades", trades(TRADE | {"side": "UNKNOWN_ORDER_SIDE"}), "wrong_shape"),
        ("market_trades", trades(TRADE | {"trade_id": "x"}), "bad_number"),
        ("market_trades", trades(TRADE | {"price": "1e400"}), "bad_number"),
        ("market_trades", trades(TRADE | {"time": "now"}), "bad_time"),
        ("market_trades", trades(TRADE | {"product_id": "BTC USD"}), "unknown_market"),
        ("market_trades", {"trades": {}}, "wrong_shape"),
        ("ticker", {"tickers": [TICKER | {"best_bid": "0"}]}, "bad_number"),
        ("l2_data", book("update", ("both", "1", "1")), "wrong_shape"),
        ("l2_data", book("update", ("bid", "1", "-1")), "bad_number"),
        ("candles", {"candles": [candle(1775572200, "0")]}, "bad_number"),
        ("tomorrow", {}, "unknown_event"),
        (None, {}, "wrong_shape"),
    ],
)
def test_what_cannot_be_read_says_why(feed: Feed, channel: str, event: Any, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        feed.read(channel, event)
    assert refused.value.reason == reason


def test_deep_nesting_is_refused_at_both_depths(feed: Feed) -> None:
    deep = "[" * 100_000
    for frame in (deep, '{"channel":"ticker","sequence_num":0,"events":' + deep):
        with pytest.raises(Unreadable) as refused:
            feed.session.read(frame, NOW_MS)
        assert refused.value.reason in ("too_deep", "wrong_shape")
