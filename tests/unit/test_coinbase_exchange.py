"""Coinbase Exchange's feed in our words: whose side, what an error means, what a book is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from botswarm.domain.market import Book, Quote, Status, Trade, Trading
from botswarm.domain.order import Side
from botswarm.exchanges.coinbase.exchange_session import ExchangeSession
from botswarm.exchanges.streams import (
    Beat,
    Broken,
    Changed,
    Declined,
    GoingAway,
    Heard,
    Stream,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

NOW_MS = 1_700_000_000_000

# Recorded from the venue in 2021; the heartbeat is its documentation's.
MATCH = {
    "type": "match",
    "trade_id": 1287328,
    "maker_order_id": "27fff20b-0000-4000-8000-000000000000",
    "taker_order_id": "1da6ce16-0000-4000-8000-000000000000",
    "side": "buy",
    "size": "4",
    "price": "0.00033422",
    "product_id": "BAND-BTC",
    "sequence": 722008262,
    "time": "2021-04-17T16:44:05.540848Z",
}
TICKER = {
    "type": "ticker",
    "sequence": 722008262,
    "product_id": "BAND-BTC",
    "price": "0.00033422",
    "open_24h": "0.00033991",
    "best_bid": "0.00033421",
    "best_ask": "0.00033467",
    "side": "sell",
    "time": "2021-04-17T16:44:05.540848Z",
    "trade_id": 1287328,
    "last_size": "4",
}
HEARTBEAT = {
    "type": "heartbeat",
    "sequence": 90,
    "last_trade_id": 20,
    "product_id": "BTC-USD",
    "time": "2014-11-07T08:19:28.464459Z",
}
SNAPSHOT = {
    "type": "snapshot",
    "product_id": "SKL-BTC",
    "bids": [["0.00001300", "100"], ["0.00001299", "7"]],
    "asks": [["0.00001310", "20.5"], ["0.00001320", "3"]],
}
UPDATE = {
    "type": "l2update",
    "product_id": "SKL-BTC",
    "changes": [["sell", "0.00001306", "660.5"], ["buy", "0.00001300", "0"]],
    "time": "2021-04-17T16:43:37.075687Z",
}


@pytest.fixture
def session() -> ExchangeSession:
    return ExchangeSession(name="coinbase-exchange", stream_url="ws://127.0.0.1:1", reads_all=True)


def read(session: ExchangeSession, frame: dict[str, Any]) -> Sequence[Heard]:
    return session.read(json.dumps(frame), NOW_MS)


def only(session: ExchangeSession, frame: dict[str, Any]) -> Heard:
    (heard,) = read(session, frame)
    return heard


def subscriptions(**channels: list[str]) -> dict[str, Any]:
    listed = [{"name": name, "product_ids": found} for name, found in channels.items()]
    return {"type": "subscriptions", "channels": listed}


def test_a_match_names_the_maker_s_side_and_we_the_taker_s(session: ExchangeSession) -> None:
    assert only(session, MATCH) == Trade(
        venue="coinbase-exchange",
        symbol="BAND-BTC",
        trade_id=1287328,
        price=Decimal("0.00033422"),
        quantity=Decimal(4),
        taker_side=Side.SELL,
        exchange_ms=1618677845540,
        received_ms=NOW_MS,
    )


def test_the_last_match_before_subscribing_is_a_trade_too(session: ExchangeSession) -> None:
    trade = only(session, MATCH | {"type": "last_match", "side": "sell"})
    assert isinstance(trade, Trade)
    assert trade.taker_side is Side.BUY


def test_a_ticker_of_the_old_feed_is_a_quote_of_unknown_quantities(
    session: ExchangeSession,
) -> None:
    quote = only(session, TICKER)
    assert isinstance(quote, Quote)
    assert (str(quote.bid), str(quote.ask)) == ("0.00033421", "0.00033467")
    assert (quote.bid_quantity, quote.ask_quantity) == (Decimal(0), Decimal(0))
    assert (quote.sequence, quote.exchange_ms) == (722008262, 1618677845540)


def test_a_ticker_keeps_the_quantities_it_tells(session: ExchangeSession) -> None:
    quote = only(session, TICKER | {"best_bid_size": "1.50", "best_ask_size": "0.25"})
    assert isinstance(quote, Quote)
    assert (str(quote.bid_quantity), str(quote.ask_quantity)) == ("1.50", "0.25")


def test_a_heartbeat_tells_the_market_s_last_trade(session: ExchangeSession) -> None:
    assert only(session, HEARTBEAT) == Beat(
        exchange_ms=1415348368464, symbol="BTC-USD", last_trade_id=20
    )
    stuck = only(session, HEARTBEAT | {"last_trade_id": 0})
    assert isinstance(stuck, Beat)
    assert stuck.last_trade_id is None


def test_a_book_is_what_its_changes_make_of_it(session: ExchangeSession) -> None:
    first, second = only(session, SNAPSHOT), only(session, UPDATE)
    assert isinstance(first, Book)
    assert isinstance(second, Book)
    assert [str(price) for price, _ in first.bids] == ["0.00001300", "0.00001299"]
    assert second.bids == ((Decimal("0.00001299"), Decimal(7)),)
    assert [(str(price), str(size)) for price, size in second.asks] == [
        ("0.00001306", "660.5"),
        ("0.00001310", "20.5"),
        ("0.00001320", "3"),
    ]
    assert second.exchange_ms == 1618677817075


def following(*streams: Stream) -> ExchangeSession:
    session = ExchangeSession(name="c", stream_url="ws://127.0.0.1:1")
    session.subscribe(streams)
    return session


def test_a_crossed_book_is_dropped_until_a_whole_one_comes() -> None:
    session = following(Stream("SKL-BTC", "book"))
    read(session, SNAPSHOT)
    crossing = UPDATE | {"changes": [["buy", "0.00001310", "1"]]}
    broken = only(session, crossing)
    assert broken == Broken(
        stream=Stream("SKL-BTC", "book"), reason="crossed", words="bid 0.00001310, ask 0.00001310"
    )
    assert read(session, UPDATE) == []
    assert isinstance(only(session, SNAPSHOT), Book)


def test_changes_that_go_on_without_a_whole_book_are_broken_again_and_again() -> None:
    session, frame = following(Stream("SKL-BTC", "book")), json.dumps(UPDATE)
    broken = []
    for second in range(14):
        heard = session.read(frame, NOW_MS + 1000 * second)
        broken += [(second, each.reason) for each in heard if isinstance(each, Broken)]
    assert broken == [(5, "sequence"), (11, "sequence")]
    read(session, SNAPSHOT)
    assert isinstance(only(session, UPDATE), Book)


def test_who_reads_a_recording_is_told_changes_that_have_no_whole_book() -> None:
    session = ExchangeSession(name="c", stream_url="", reads_all=True)
    changed = only(session, UPDATE)
    assert isinstance(changed, Changed)
    assert changed.asks == ((Decimal("0.00001306"), Decimal("660.5")),)
    assert changed.bids == ((Decimal("0.00001300"), Decimal(0)),)


def test_a_frame_is_applied_whole_or_not_at_all(session: ExchangeSession) -> None:
    (before,) = read(session, SNAPSHOT)
    bad = UPDATE | {"changes": [["sell", "0.00001306", "1"], ["sell", "0.00001307", "-1"]]}
    with pytest.raises(Unreadable) as refused:
        read(session, bad)
    assert refused.value.reason == "bad_number"
    same = UPDATE | {"changes": [["buy", "0.00000001", "1"]]}
    (after,) = read(session, same)
    assert isinstance(before, Book)
    assert isinstance(after, Book)
    assert after.asks == before.asks


def test_a_market_s_status_is_told_when_it_changes(session: ExchangeSession) -> None:
    product = {
        "id": "BTC-USD",
        "status": "online",
        "status_message": None,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
    }
    frame = {"type": "status", "products": [product], "currencies": [{"id": "USD"}]}
    status = only(session, frame)
    assert isinstance(status, Status)
    assert (status.symbol, status.trading, status.words) == ("BTC-USD", Trading.OPEN, "online")
    assert read(session, frame) == []
    for flags, trading in (
        ({"post_only": True}, Trading.POST_ONLY),
        ({"limit_only": True}, Trading.LIMIT_ONLY),
        ({"post_only": True, "cancel_only": True}, Trading.CANCEL_ONLY),
        ({"trading_disabled": True}, Trading.HALTED),
        ({"status": "offline", "status_message": "maintenance"}, Trading.HALTED),
    ):
        status = only(session, frame | {"products": [product | flags]})
        assert isinstance(status, Status)
        assert status.trading is trading


def test_one_message_subscribes_all_channels_with_heartbeats(session: ExchangeSession) -> None:
    streams = [
        Stream("BTC-USD", "trade"),
        Stream("BTC-USD", "quote"),
        Stream("ETH-USD", "book"),
        Stream("ETH-USD", "status"),
    ]
    (message,) = session.subscribe(streams)
    assert json.loads(message) == {
        "type": "subscribe",
        "channels": [
            {"name": "matches", "product_ids": ["BTC-USD"]},
            {"name": "ticker", "product_ids": ["BTC-USD"]},
            {"name": "level2_batch", "product_ids": ["ETH-USD"]},
            {"name": "status"},
            {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]},
        ],
    }


def test_a_heartbeat_ends_with_its_market_s_last_stream(session: ExchangeSession) -> None:
    trade, quote = Stream("BTC-USD", "trade"), Stream("BTC-USD", "quote")
    session.subscribe([trade, quote])
    (message,) = session.unsubscribe([quote])
    assert [channel["name"] for channel in json.loads(message)["channels"]] == ["ticker"]
    (message,) = session.unsubscribe([trade])
    assert [channel["name"] for channel in json.loads(message)["channels"]] == [
        "matches",
        "heartbeat",
    ]


def test_the_venue_s_list_says_what_is_new_in_it_and_what_has_gone(
    session: ExchangeSession,
) -> None:
    trade, quote = Stream("BTC-USD", "trade"), Stream("BTC-USD", "quote")
    session.subscribe([trade, quote])
    both = subscriptions(matches=["BTC-USD"], ticker=["BTC-USD"], heartbeat=["BTC-USD"])
    assert only(session, both) == Subscribed(streams=(quote, trade))
    assert read(session, both) == []
    session.unsubscribe([quote])
    fewer = subscriptions(matches=["BTC-USD"], heartbeat=["BTC-USD"])
    assert only(session, fewer) == Unsubscribed(streams=(quote,))


def test_a_book_that_is_begun_anew_has_not_ended(session: ExchangeSession) -> None:
    book = Stream("BTC-USD", "book")
    session.subscribe([book])
    read(session, subscriptions(level2_batch=["BTC-USD"]))
    begin, again = session.resync(book)
    assert (json.loads(begin)["type"], json.loads(again)["type"]) == ("unsubscribe", "subscribe")
    assert read(session, subscriptions(heartbeat=["BTC-USD"])) == []
    assert only(session, subscriptions(level2_batch=["BTC-USD"])) == Subscribed(streams=(book,))


def test_an_error_names_the_streams_it_declines(session: ExchangeSession) -> None:
    session.subscribe([Stream("FOO-BAR", "trade"), Stream("BTC-USD", "trade")])
    error = {"type": "error", "message": "Failed to subscribe", "reason": "FOO-BAR is not valid"}
    declined = only(session, error)
    assert isinstance(declined, Declined)
    assert declined.streams == (Stream("FOO-BAR", "trade"),)
    assert "FOO-BAR is not valid" in declined.reason


@pytest.mark.parametrize("message", ["ErrSlowConsume", "ErrSlowRead", "Message too big"])
def test_errors_before_the_end_of_a_connection_say_that_it_ends(
    session: ExchangeSession, message: str
) -> None:
    assert isinstance(only(session, {"type": "error", "message": message}), GoingAway)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "not_json"),
        ("CloudFlare WebSocket proxy restarting", "not_json"),
        (b"\xff\xfe", "not_text"),
        ("[]", "wrong_shape"),
        ("{}", "wrong_shape"),
        ('{"type":"received","product_id":"BTC-USD"}', "unknown_event"),
        (json.dumps(MATCH | {"product_id": "not a market"}), "unknown_market"),
        (json.dumps(MATCH | {"side": "both"}), "wrong_shape"),
        (json.dumps(MATCH | {"price": "NaN"}), "bad_number"),
        (json.dumps(MATCH | {"price": 0.1}), "bad_number"),
        (json.dumps(MATCH | {"size": "0"}), "bad_number"),
        (json.dumps(MATCH | {"trade_id": "12"}), "bad_number"),
        (json.dumps(MATCH | {"time": "yesterday"}), "bad_time"),
        (json.dumps(MATCH | {"time": "2100-01-01T00:00:00Z"}), "bad_time"),
        (json.dumps(TICKER | {"best_bid": None}), "bad_number"),
        ('{"type":"match","later":' + "[" * 100_000, "too_deep"),
        (json.dumps(UPDATE | {"changes": [["sell", "1"]]}), "wrong_shape"),
    ],
)
def test_what_cannot_be_read_says_why(
    session: ExchangeSession, frame: str | bytes, reason: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        session.read(frame, NOW_MS)
    assert refused.value.reason == reason
    assert isinstance(only(session, MATCH), Trade)


def test_a_market_that_nobody_asked_for_is_unknown() -> None:
    session = following(Stream("BTC-USD", "trade"))
    with pytest.raises(Unreadable) as refused:
        read(session, MATCH)
    assert refused.value.reason == "unknown_market"


def test_a_book_of_very_many_levels_stays_small_and_right() -> None:
    session = ExchangeSession(name="c", stream_url="", reads_all=True)
    bids = [[str(20_000 - number), "1"] for number in range(15_000)]
    asks = [[str(20_001 + number), "1"] for number in range(15_000)]
    (book,) = read(session, SNAPSHOT | {"bids": bids, "asks": asks})
    assert isinstance(book, Book)
    assert [int(price) for price, _ in book.bids] == list(range(20_000, 19_990, -1))
    gone = [["buy", str(20_000 - number), "0"] for number in range(4995)]
    (broken,) = read(session, UPDATE | {"changes": gone})
    assert isinstance(broken, Broken)
    assert broken.reason == "sequence"


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-1", "0", "x"])
def test_a_level_that_cannot_be_is_found_among_very_many(
    session: ExchangeSession, price: str
) -> None:
    bids = [[str(20_000 - number), "1"] for number in range(15_000)]
    bids[14_000] = [price, "1"]
    with pytest.raises(Unreadable) as refused:
        read(session, SNAPSHOT | {"bids": bids})
    assert refused.value.reason == "bad_number"


def test_the_best_of_very_many_levels_are_found_in_any_order(session: ExchangeSession) -> None:
    bids = [[str(1 + number * 7919 % 20_011), "1"] for number in range(15_000)]
    asks = [[str(30_000 + number * 7919 % 20_011), "1"] for number in range(15_000)]
    (book,) = read(session, SNAPSHOT | {"bids": bids, "asks": asks})
    assert isinstance(book, Book)
    highest = sorted((int(price) for price, _ in bids), reverse=True)[:10]
    lowest = sorted(int(price) for price, _ in asks)[:10]
    assert [int(price) for price, _ in book.bids] == highest
    assert [int(price) for price, _ in book.asks] == lowest
