"""The market book shows what the feed said, knows what is missing, and never changes a view."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.market import Candle, Quote, Trade
from botswarm.domain.order import Side
from botswarm.errors import Malformed, Unreachable
from botswarm.market.book import CLOSING_TIME_MS, RELOAD_PAUSE_S, MarketBook, MarketView
from botswarm.market.history import first_whole
from botswarm.market.series import Line
from botswarm.market.wire import Batch, Digest, MarketDigest, decode, encode

SECOND = 1000


def candle(number: int, price: int | None = None, timeframe: str = "1s") -> Candle:
    value = Decimal(number if price is None else price)
    return Candle(
        venue="v",
        symbol="A-B",
        timeframe=timeframe,
        open_ms=number * SECOND,
        open=value,
        high=value + 1,
        low=value - 1,
        close=value,
        volume=Decimal("0.5"),
        trades=1,
        is_closed=True,
    )


def trade(at_ms: int) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=at_ms,
        price=Decimal("100.10"),
        quantity=Decimal("0.00000001"),
        taker_side=Side.SELL,
        exchange_ms=at_ms,
        received_ms=at_ms + 3,
    )


def quote(at_ms: int) -> Quote:
    one = Decimal("1.0")
    return Quote(
        venue="v",
        symbol="A-B",
        sequence=at_ms,
        bid=one,
        bid_quantity=one,
        ask=one * 2,
        ask_quantity=one,
        exchange_ms=at_ms,
        received_ms=at_ms,
    )


def digest(sequence: int, at_ms: int, *candles: Candle) -> Digest:
    news = MarketDigest(
        symbol="A-B", sequence=sequence, trade=trade(at_ms), quote=None, candles=candles
    )
    return Digest(venue="v", sent_ms=at_ms, markets=(news,))


class Past:
    """A source of history that says how often it was asked."""

    def __init__(self, candles: Sequence[Candle]) -> None:
        self.candles = candles
        self.asked = 0

    def __call__(self, venue: str, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        self.asked += 1
        return [each for each in self.candles if each.timeframe == timeframe][-limit:]


class Monotonic:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_view_joins_history_and_digests_without_a_seam() -> None:
    past = Past([candle(number) for number in range(10)])
    book = MarketBook(past)
    book.apply(digest(1, 10_500, candle(9)))
    view = book.view("v", "A-B", {"1s": 5})
    assert view is not None
    assert view.candles["1s"].close.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]
    book.apply(digest(2, 11_500, candle(10), candle(11)))
    view = book.view("v", "A-B", {"1s": 5})
    assert view is not None
    series = view.candles["1s"]
    assert series.open_ms.tolist() == [7000, 8000, 9000, 10_000, 11_000]
    assert series.high.tolist() == [8.0, 9.0, 10.0, 11.0, 12.0]
    assert series.volume.tolist() == [0.5] * 5
    assert not view.is_gapped
    assert (view.sequence, view.exchange_ms, view.trade) == (2, 11_500, trade(11_500))
    assert past.asked == 1


def test_nothing_is_known_of_a_market_nobody_spoke_of() -> None:
    book = MarketBook()
    assert book.view("v", "A-B", {"1s": 5}) is None
    assert book.sequence("v", "A-B") == 0
    assert not book.wait_for("v", "A-B", 1, 0.01)


def test_a_lost_digest_is_a_gap_until_history_fills_it() -> None:
    monotonic = Monotonic()
    past = Past([candle(number) for number in range(10)])
    book = MarketBook(past, monotonic=monotonic)
    book.apply(digest(1, 10_500))
    assert not _view(book).is_gapped
    book.apply(digest(2, 12_500, candle(11)))  # number 10 was in a digest that never came
    assert _view(book).is_gapped
    past.candles = [candle(number) for number in range(12)]
    assert _view(book).is_gapped  # asked a moment ago, so not again
    monotonic.now += RELOAD_PAUSE_S
    assert not _view(book).is_gapped
    assert past.asked == 2


def test_a_candle_that_does_not_come_is_a_gap_once_its_time_is_over() -> None:
    book = MarketBook(Past([candle(number) for number in range(10)]))
    book.apply(digest(1, 11_000 + CLOSING_TIME_MS - 1))
    assert not _view(book).is_gapped
    book.apply(digest(2, 11_000 + CLOSING_TIME_MS))
    assert _view(book).is_gapped


def test_a_young_market_shows_what_there_is() -> None:
    monotonic = Monotonic()
    past = Past([candle(8), candle(9)])
    book = MarketBook(past, monotonic=monotonic)
    book.apply(digest(1, 10_500))
    view = _view(book)
    assert len(view.candles["1s"]) == 2
    assert not view.is_gapped
    monotonic.now += 1000
    _view(book)
    assert past.asked == 1  # there is no more, so nobody asks again
    assert len(_view(book, 6).candles["1s"]) == 2
    assert past.asked == 2


def test_without_any_history_a_market_is_gapped_and_no_error() -> None:
    def unreachable(venue: str, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        raise Unreachable("the venue is down")

    book = MarketBook(unreachable)
    book.apply(digest(1, 10_500))
    view = _view(book)
    assert view.is_gapped
    assert len(view.candles["1s"]) == 0


def test_an_older_digest_changes_nothing_but_its_candles_are_kept() -> None:
    book = MarketBook(Past([candle(number) for number in range(9)]))
    book.apply(digest(5, 10_500))
    _view(book)
    book.apply(digest(4, 9_500, candle(9)))
    view = _view(book)
    assert (view.sequence, view.exchange_ms) == (5, 10_500)
    assert view.candles["1s"].open_ms[-1] == 9000


def test_a_digest_without_a_quote_leaves_the_last_one_standing() -> None:
    book = MarketBook()
    news = MarketDigest(symbol="A-B", sequence=1, trade=None, quote=quote(10_400))
    book.apply(Digest(venue="v", sent_ms=0, markets=(news,)))
    book.apply(digest(2, 10_500))
    view = book.view("v", "A-B", {})
    assert view is not None
    assert (view.quote, view.exchange_ms) == (quote(10_400), 10_500)


def test_a_view_never_changes_whatever_comes_later() -> None:
    past = Past([candle(number) for number in range(9)])
    book = MarketBook(past)
    book.apply(digest(1, 10_500, candle(9)))
    before = _view(book, 8)
    copies = [array.copy() for array in (before.candles["1s"].open_ms, before.candles["1s"].close)]
    for number in range(10, 2000):
        book.apply(digest(number, number * SECOND + 1500, candle(number)))
        if number % 7 == 0:
            book.apply(digest(number, 0, candle(number - 3, price=1)))
            _view(book, 8)
    assert numpy.array_equal(before.candles["1s"].open_ms, copies[0])
    assert numpy.array_equal(before.candles["1s"].close, copies[1])
    with pytest.raises(ValueError, match="read-only"):
        before.candles["1s"].close[0] = 0.0


@given(st.lists(st.integers(0, 60), max_size=150), st.integers(1, 30))
def test_a_line_holds_the_latest_candles_in_order_in_whatever_order_they_came(
    numbers: list[int], kept: int
) -> None:
    line = Line(SECOND, kept)
    expected: dict[int, int] = {}
    for turn, number in enumerate(numbers):
        line.add([candle(number, price=turn)])
        expected[number] = turn
        expected = dict(sorted(expected.items())[-kept:])
        series, has_holes = line.latest(kept)
        assert series.open_ms.tolist() == [each * SECOND for each in expected]
        assert series.close.tolist() == [float(price) for price in expected.values()]
        known = list(expected)
        assert has_holes == (known[-1] - known[0] + 1 != len(known))


def test_waiting_ends_when_the_digest_arrives() -> None:
    book = MarketBook()
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(book.wait_for("v", "A-B", 2, 10.0)))
    waiter.start()
    book.apply(digest(1, 10_000))
    assert waiter.is_alive()
    book.apply(digest(2, 10_500))
    waiter.join(5)
    assert answers == [True]


def test_threads_that_look_while_digests_come_see_whole_markets() -> None:
    book = MarketBook(Past([candle(number) for number in range(10)]))
    book.apply(digest(1, 10_500))
    wrong: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            view = _view(book, 8)
            opened = view.candles["1s"].open_ms.tolist()
            if opened != list(range(opened[0], opened[0] + 8 * SECOND, SECOND)) or view.is_gapped:
                wrong.append(opened)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    for number in range(10, 3000):
        book.apply(digest(number, number * SECOND + 1500, candle(number)))
    done.set()
    for looker in lookers:
        looker.join()
    assert wrong == []


def test_the_second_source_is_asked_only_for_what_the_first_does_not_have_whole() -> None:
    ledger = Past([candle(number) for number in range(10) if number != 4])
    venue = Past([candle(number) for number in range(10)])
    load = first_whole(ledger, venue, wall_ms=lambda: 10_500)
    assert [each.open_ms for each in load("v", "A-B", "1s", 4)] == [6000, 7000, 8000, 9000]
    assert venue.asked == 0
    assert len(load("v", "A-B", "1s", 8)) == 8
    assert venue.asked == 1
    late = first_whole(ledger, venue, wall_ms=lambda: 60_000)
    late("v", "A-B", "1s", 4)
    assert venue.asked == 2


def test_every_message_comes_back_as_it_was_sent() -> None:
    messages: list[Digest | Batch] = [
        digest(7, 10_500, candle(9), candle(10)),
        Batch(venue="v", symbol="A-B", kind="trade", ticks=(trade(1), trade(2)), missing=3),
        Batch(venue="v", symbol="A-B", kind="quote", ticks=(quote(1),)),
        Batch(venue="v", symbol="A-B", kind="candle", ticks=(candle(1),)),
    ]
    for message in messages:
        assert decode(encode(message)) == message
    assert b'"price":"100.10"' in encode(messages[1])


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"v":2,"kind":"digest"}', b'{"v":1,"kind":"poem"}']
)
def test_what_is_no_message_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body)


@given(st.data())
def test_a_mutated_message_is_read_or_malformed(chosen: st.DataObject) -> None:
    body = bytearray(encode(digest(7, 10_500, candle(9))))
    for _ in range(chosen.draw(st.integers(1, 4))):
        start = chosen.draw(st.integers(0, len(body)))
        body[start : start + chosen.draw(st.integers(0, 5))] = chosen.draw(st.binary(max_size=5))
    try:
        decode(bytes(body))
    except Malformed:
        return


def _view(book: MarketBook, history: int = 5) -> MarketView:
    view = book.view("v", "A-B", {"1s": history})
    assert view is not None
    return view


@given(
    st.builds(
        lambda digits, places: Decimal(digits).scaleb(-places),
        st.integers(0, 10**15),
        st.integers(0, 18),
    )
)
def test_prices_and_quantities_keep_every_digit_and_get_no_exponent(number: Decimal) -> None:
    told = replace(trade(1), price=number, quantity=number, symbol="DOGE-USDT")
    body = encode(Batch(venue="v", symbol="DOGE-USDT", kind="trade", ticks=(told,)))
    assert f'"price":"{number:f}","quantity":"{number:f}"'.encode() in body
    back = decode(body)
    assert isinstance(back, Batch)
    assert back.ticks == (told,)


def test_who_looks_at_no_candles_asks_for_no_history_and_misses_none() -> None:
    past = Past([])
    book = MarketBook(first_whole(past, wall_ms=lambda: 10_500))
    book.apply(digest(1, 10_500))
    view = book.view("v", "A-B", {"1s": 0})
    assert view is not None
    assert (len(view.candles["1s"]), view.is_gapped, past.asked) == (0, False, 0)
