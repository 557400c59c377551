"""What the feed keeps of each market: gaps seen, repetitions left out, and room that is bounded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.market import Candle, Quote, Trade
from botswarm.domain.order import Side
from botswarm.feed import tracker as tracking
from botswarm.feed.market import BATCH_MAX
from botswarm.feed.order import HOLD_S
from botswarm.feed.said import Said
from botswarm.feed.tracker import MARKET_EVERY_S, Tracker
from botswarm.market.wire import Batch, Digest, encode

START = 1_700_000_000_000


class Wall:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


class Monotonic:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def trade(trade_id: int, at_ms: int = 0, symbol: str = "A-B") -> Trade:
    return Trade(
        venue="v",
        symbol=symbol,
        trade_id=trade_id,
        price=Decimal(trade_id + 1),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=START + at_ms,
        received_ms=START + at_ms + 5,
    )


def quote(sequence: int, at_ms: int = 0) -> Quote:
    one = Decimal(1)
    return Quote(
        venue="v",
        symbol="A-B",
        sequence=sequence,
        bid=one,
        bid_quantity=one,
        ask=one + 1,
        ask_quantity=one,
        exchange_ms=START + at_ms,
        received_ms=START + at_ms,
    )


def candle(at_ms: int) -> Candle:
    one = Decimal(1)
    return Candle(
        venue="v",
        symbol="A-B",
        timeframe="1s",
        open_ms=START + at_ms,
        open=one,
        high=one,
        low=one,
        close=one,
        volume=one,
        trades=1,
        is_closed=True,
    )


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def tracker(wall: Wall, monotonic: Monotonic) -> Tracker:
    made = Tracker("v", wall, monotonic)
    made.follow(["A-B"])
    return made


def published(tracker: Tracker) -> list[int]:
    return [
        tick.trade_id
        for batch in tracker.take_batches()
        for tick in batch.ticks
        if isinstance(tick, Trade)
    ]


def digest(tracker: Tracker) -> Digest:
    clock = tracker._monotonic
    assert isinstance(clock, Monotonic)
    clock.s += MARKET_EVERY_S
    found = tracker.take_digest()
    assert found is not None
    return found


def wait(tracker: Tracker, seconds: float) -> None:
    clock = tracker._monotonic
    assert isinstance(clock, Monotonic)
    clock.s += seconds
    tracker.advance()


def test_a_gap_is_counted_marked_and_its_trades_are_asked_for(tracker: Tracker) -> None:
    tracker.put([trade(1), trade(2), trade(5, 100)])
    assert published(tracker) == [1, 2]
    assert tracker.wanted_trades() == []
    wait(tracker, HOLD_S)
    assert (tracker.counts.gaps, tracker.counts.missed_trades) == (1, 2)
    assert digest(tracker).markets[0].gaps == 1
    assert tracker.wanted_trades() == [("A-B", [range(3, 5)])]
    assert published(tracker) == [5]
    tracker.recover("A-B", [trade(2), trade(4), trade(5), trade(6)])
    tracker.give_up("A-B", range(3, 5))
    (batch,) = tracker.take_batches()
    assert batch.is_recovered
    assert [each.trade_id for each in batch.ticks if isinstance(each, Trade)] == [4]
    assert batch.missing == 1  # the venue did not have number 3 any more
    assert digest(tracker).markets[0].missed == 1
    assert tracker.wanted_trades() == []


def test_a_trade_that_was_overtaken_goes_out_in_its_place(tracker: Tracker) -> None:
    tracker.put([trade(1), trade(3), trade(4)])
    wait(tracker, HOLD_S / 2)
    tracker.put([trade(2), trade(3), trade(5)])
    wait(tracker, HOLD_S)
    assert published(tracker) == [1, 2, 3, 4, 5]
    counts = tracker.counts
    assert (counts.gaps, counts.reordered, counts.duplicates) == (0, 2, 1)


def test_a_lost_trade_that_comes_at_last_is_published_as_recovered(tracker: Tracker) -> None:
    tracker.put([trade(1), trade(3)])
    wait(tracker, HOLD_S)
    assert published(tracker) == [1, 3]
    tracker.put([trade(2)])
    (batch,) = tracker.take_batches()
    assert (batch.is_recovered, batch.ticks) == (True, (trade(2),))
    assert (tracker.counts.duplicates, tracker.counts.recovered_trades) == (0, 1)
    assert tracker.wanted_trades() == []


def test_a_trade_that_only_the_venue_s_heartbeat_tells_of_is_missed_within_a_second(
    tracker: Tracker,
) -> None:
    tracker.put([trade(1)])
    tracker.announce("A-B", 3)
    wait(tracker, HOLD_S)
    assert tracker.wanted_trades() == [("A-B", [range(2, 4)])]
    tracker.put([trade(4)])
    assert tracker.counts.gaps == 1
    tracker.recover("A-B", [trade(2), trade(3)])
    assert sorted(published(tracker)) == [1, 2, 3, 4]
    assert tracker.counts.recovered_trades == 2


def test_where_nobody_knows_what_was_lost_the_venue_s_latest_trades_tell(
    tracker: Tracker,
) -> None:
    tracker.put([trade(1)])
    tracker.suspect(["A-B", "X-Y"])
    assert tracker.wanted_trades() == [("A-B", [])]
    tracker.recover("A-B", [trade(1), trade(2), trade(3)])
    assert sorted(published(tracker)) == [1, 2, 3]
    assert (tracker.counts.gaps, tracker.counts.recovered_trades) == (1, 2)
    assert tracker.wanted_trades() == []


def test_what_two_connections_bring_goes_out_once(tracker: Tracker) -> None:
    tracker.put([trade(1), trade(2)])
    tracker.put([trade(1), trade(2), trade(3)])
    assert published(tracker) == [1, 2, 3]
    assert tracker.counts.duplicates == 2
    assert tracker.counts.gaps == 0


def test_a_venue_that_begins_to_count_anew_is_followed_on(tracker: Tracker) -> None:
    tracker.put([trade(1000), quote(5000)])
    tracker.put([trade(1, 60_000), trade(2, 60_001), quote(1, 60_000)])
    assert published(tracker) == [1000, 1, 2]
    assert tracker.counts.gaps == 1
    assert digest(tracker).markets[0].quote == quote(1, 60_000)


def test_only_the_newest_quote_waits(tracker: Tracker) -> None:
    tracker.put([quote(1), quote(3), quote(2)])
    (batch,) = tracker.take_batches()
    assert batch.ticks == (quote(3),)
    assert tracker.counts.conflated_quotes == 1
    assert tracker.take_batches() == []


def test_while_nobody_takes_trades_the_oldest_go_and_are_counted(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "TRADES_KEPT_MAX", 10)
    tracker.put([trade(number) for number in range(1, 26)])
    (batch,) = tracker.take_batches()
    assert [each.trade_id for each in batch.ticks if isinstance(each, Trade)] == list(range(16, 26))
    assert batch.missing == tracker.counts.conflated_trades == 15


def test_long_batches_are_cut(tracker: Tracker) -> None:
    tracker.put([trade(number) for number in range(1, 2 * BATCH_MAX + 2)])
    sizes = [len(batch.ticks) for batch in tracker.take_batches()]
    assert sizes == [BATCH_MAX, BATCH_MAX, 1]


def test_a_digest_holds_what_changed_since_the_last_one(tracker: Tracker, wall: Wall) -> None:
    tracker.follow(["A-B", "C-D"])
    tracker.put([trade(1), trade(1, symbol="C-D")])
    assert {market.symbol for market in digest(tracker).markets} == {"A-B", "C-D"}
    assert tracker.take_digest() is None
    # The first second was half over; the next one is whole, and closed by the trade after it.
    tracker.put([trade(2, 1000), trade(3, 2000)])
    (market,) = digest(tracker).markets
    assert market.trade == trade(3, 2000)
    assert [(each.timeframe, each.open_ms) for each in market.candles] == [("1s", START + 1000)]
    tracker.put([quote(1)])
    (market,) = digest(tracker).markets
    assert market.candles == ()


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=50))
def test_sequence_numbers_rise_whatever_the_clock_does(steps: list[int]) -> None:
    wall = Wall()
    tracker = Tracker("v", wall, Monotonic())
    tracker.follow(["A-B"])
    seen = []
    for number, step in enumerate(steps, start=1):
        wall.ms += step
        tracker.put([trade(number, number)])
        seen.append(digest(tracker).markets[0].sequence)
    assert seen == sorted(set(seen))
    # A feed that takes over starts above all of them, though its clock is an hour behind.
    successor = Tracker("v", lambda: START - 3_600_000, Monotonic())
    successor.follow(["A-B"])
    said = Said()
    said.add(b'{"sequence":%d,"kind":"note"}' % seen[-1])
    successor.resume(said)
    successor.put([trade(1)])
    assert digest(successor).markets[0].sequence > seen[-1]


def test_quiet_markets_close_their_candles_by_the_venue_s_clock(
    tracker: Tracker, wall: Wall
) -> None:
    tracker.put([trade(1), trade(2, 1000)])
    wall.ms = START + 2000 + 5 + 499
    tracker.advance()
    assert digest(tracker).markets[0].candles == ()
    wall.ms += 1
    tracker.advance()
    assert [each.open_ms for each in digest(tracker).markets[0].candles] == [START + 1000]


def test_a_clock_that_was_set_closes_no_candle_early_for_more_than_a_minute(
    tracker: Tracker, wall: Wall
) -> None:
    # Our clock is ten seconds behind at first, then it is set right; the market is lively.
    for number in range(1, 1000):
        exchange_ms = number * 100
        offset_ms = -10_000 if exchange_ms < 10_000 else 0
        wall.ms = START + exchange_ms + offset_ms + 5
        told = trade(number, exchange_ms)
        tracker.put([replace(told, received_ms=wall.ms)])
        tracker.advance()
        if exchange_ms == 80_000:
            late = tracker.counts.late
    assert tracker.counts.late == late


def test_while_no_connection_carries_a_market_silence_closes_nothing(
    tracker: Tracker, wall: Wall
) -> None:
    tracker.put([trade(1), trade(2, 1000)])
    tracker.interrupted(["A-B"])
    wall.ms = START + 60_000
    tracker.advance()
    assert digest(tracker).markets[0].candles == ()
    tracker.put([trade(3, 3000)])
    assert len(digest(tracker).markets[0].candles) == 2  # nothing was missed: the ids say so


def test_holes_are_asked_for_once_they_have_closed_and_then_filled(
    tracker: Tracker, wall: Wall
) -> None:
    tracker.put([trade(1)])
    assert tracker.wanted_candles() == []
    tracker.put([trade(2, 1500)])
    wall.ms = START + 1500 + 5
    assert tracker.wanted_candles() == [("A-B", "1s", 2)]
    assert digest(tracker).markets[0].is_gapped
    tracker.fill("A-B", "1s", [candle(-1000), candle(0)])
    (market,) = digest(tracker).markets
    assert market.candles == (candle(0),)
    assert not market.is_gapped
    assert tracker.take_unsaved() == [candle(0)]


def test_a_feed_that_stands_by_keeps_only_the_last_seconds(tracker: Tracker, wall: Wall) -> None:
    tracker.put([trade(number, number * 1000) for number in range(20)])
    tracker.stand_by(START + 15_000)
    assert published(tracker) == [15, 16, 17, 18, 19]
    kept = [each.open_ms - START for each in digest(tracker).markets[0].candles]
    assert kept == [14_000, 15_000, 16_000, 17_000, 18_000]
    assert [each.open_ms - START for each in tracker.take_unsaved()] == kept


def test_a_market_nobody_wants_any_more_is_forgotten(tracker: Tracker) -> None:
    tracker.put([trade(1)])
    tracker.follow([])
    tracker.put([trade(2)])
    assert tracker.take_batches() == []
    assert tracker.take_digest() is None


def test_a_feed_that_missed_what_another_said_does_not_say_it_again(
    tracker: Tracker, monotonic: Monotonic
) -> None:
    tracker.put([trade(1), trade(2)])
    published(tracker)
    said = Said()
    said.add(encode(Batch(venue="v", symbol="A-B", kind="trade", ticks=(trade(8), trade(9)))))
    tracker.resume(said)
    assert tracker.wanted_trades() == []
    tracker.put([trade(12)])
    monotonic.s += HOLD_S
    tracker.advance()
    assert tracker.wanted_trades() == [("A-B", [range(10, 12)])]
    tracker.recover("A-B", [trade(number) for number in range(1, 13)])
    assert sorted(published(tracker)) == [10, 11, 12]


def test_a_trade_that_was_asked_for_before_any_came_after_it_is_said(tracker: Tracker) -> None:
    tracker.put([trade(number) for number in range(1, 7)])
    said = Said()
    order = ((1, False), (2, True), (3, False), (4, True), (6, True), (5, False))
    for number, is_recovered in order:
        batch = Batch(
            venue="v",
            symbol="A-B",
            kind="trade",
            ticks=(trade(number),),
            is_recovered=is_recovered,
        )
        said.add(encode(batch))
    tracker.resume(said)
    assert published(tracker) == []
    assert tracker.wanted_trades() == []


def test_a_market_with_a_gap_goes_on_being_in_digests(tracker: Tracker) -> None:
    tracker.put([trade(1), trade(3)])
    wait(tracker, HOLD_S)
    assert digest(tracker).markets[0].gaps == 1
    tracker.put([trade(4)])
    assert digest(tracker).markets[0].trade == trade(4)
    tracker.announce("A-B", 6)
    wait(tracker, HOLD_S)
    assert digest(tracker).markets[0].gaps == 2
    tracker.put([trade(7)])
    assert digest(tracker).markets[0].trade == trade(7)


def test_what_moves_after_a_pause_is_in_the_next_digest_and_no_market_in_too_many(
    tracker: Tracker, monotonic: Monotonic
) -> None:
    tracker.put([trade(1)])
    assert tracker.take_digest() is not None
    tracker.put([trade(2)])
    assert tracker.take_digest() is None
    assert tracker.next_digest_at() == MARKET_EVERY_S
    monotonic.s += MARKET_EVERY_S
    found = tracker.take_digest()
    assert found is not None
    assert found.markets[0].trade == trade(2)
    monotonic.s += MARKET_EVERY_S
    assert tracker.take_digest() is None
    tracker.put([trade(3)])
    assert tracker.take_digest() is not None
