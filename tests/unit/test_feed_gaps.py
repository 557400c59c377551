"""What a gap leaves behind is asked for whole, and told as what it is."""

from __future__ import annotations

from decimal import Decimal

import pytest

from botswarm.domain.market import Candle, Trade
from botswarm.feed import tracker as tracking
from botswarm.feed.order import HOLD_S
from botswarm.feed.said import HOLES_MAX, Said, SaidOfMarket
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import Batch, encode
from tests.integration.mini_venue import trade_of

START = 1_700_000_040_000
"""A whole minute."""
MINUTE_MS = 60_000


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.ms = START
        self.tracker = Tracker("mini", lambda: self.ms, lambda: self.now)
        self.tracker.follow(["A-X"])

    def pass_ms(self, milliseconds: int) -> None:
        self.now += milliseconds / 1000
        self.ms += milliseconds
        self.tracker.advance()

    def trade(self, number: int) -> None:
        self.tracker.put([trade_of("A-X", number, self.ms, self.ms)])

    def batches(self, kind: str) -> list[object]:
        return [each for batch in self.tracker.take_batches() if batch.kind == kind
                for each in batch.ticks]  # fmt: skip

    def minutes(self) -> list[int]:
        """Candles of a minute that went out, by how many minutes after the start they opened."""
        return [
            (each.open_ms - START) // MINUTE_MS
            for each in self.batches("candle")
            if isinstance(each, Candle) and each.timeframe == "1m"
        ]


def minute_of_the_venue(number: int) -> Candle:
    one = Decimal(100)
    return Candle(
        venue="mini",
        symbol="A-X",
        timeframe="1m",
        open_ms=START + number * MINUTE_MS,
        open=one,
        high=one,
        low=one,
        close=one,
        volume=one,
        trades=1,
        is_closed=True,
    )


def after_minutes_that_were_missed() -> World:
    """The minutes 0 to 4 are holes: no connection brought the market meanwhile."""
    world = World()
    world.trade(1)
    world.tracker.interrupted(["A-X"])
    world.pass_ms(4 * MINUTE_MS)
    world.trade(9)
    world.pass_ms(int(2000 * HOLD_S))
    world.pass_ms(MINUTE_MS)
    world.trade(10)
    world.batches("trade")
    return world


def test_a_candle_that_the_venue_streams_fills_its_own_place_and_no_other() -> None:
    world = after_minutes_that_were_missed()
    world.tracker.put([minute_of_the_venue(4)])
    assert world.minutes() == [4]
    (count,) = [n for _, timeframe, n in world.tracker.wanted_candles() if timeframe == "1m"]
    assert count >= 5
    world.tracker.fill("A-X", "1m", [minute_of_the_venue(n) for n in range(5)])
    assert world.minutes() == [0, 1, 2, 3]


def test_a_candle_in_the_middle_of_those_that_are_missing_leaves_both_sides_to_be_asked() -> None:
    world = after_minutes_that_were_missed()
    world.tracker.put([minute_of_the_venue(2)])
    assert world.minutes() == [2]
    world.tracker.fill("A-X", "1m", [minute_of_the_venue(n) for n in range(5)])
    assert world.minutes() == [0, 1, 3, 4]


def test_candles_that_had_to_go_are_not_told_as_trades_that_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "CANDLES_KEPT_MAX", 10)
    world = World()
    for number in range(1, 200):
        world.trade(number)
        world.pass_ms(1000)
    assert world.tracker.counts.dropped_candles > 0
    batches = world.tracker.take_batches()
    assert sum(batch.missing for batch in batches if batch.kind == "trade") == 0
    (candles,) = [batch for batch in batches if batch.kind == "candle"]
    assert candles.missing > 100


def test_what_another_feed_left_out_is_asked_for_in_one_piece() -> None:
    world = World()
    last = 2 * HOLES_MAX
    world.trade(last)
    said = Said()
    said.since_ms = START - 1
    hole = range(last - HOLES_MAX, last)
    said.markets["A-X"] = SaidOfMarket(trade_id=last, holes=[hole])
    world.tracker.resume(said)
    assert world.tracker.wanted_trades() == [("A-X", [hole])]


def test_trades_kept_split_what_another_feed_left_out() -> None:
    world = World()
    kept: list[Trade] = [trade_of("A-X", number, START, START) for number in range(10, 21)]
    world.tracker.put(kept)
    said = Said()
    said.since_ms = START - 1
    said.markets["A-X"] = SaidOfMarket(trade_id=20, holes=[range(5, 12), range(15, 16)])
    world.tracker.resume(said)
    assert world.tracker.wanted_trades() == [("A-X", [range(5, 10)])]
    (recovered,) = [each for each in world.tracker.take_batches() if each.is_recovered]
    assert [each.trade_id for each in recovered.ticks if isinstance(each, Trade)] == [10, 11, 15]


@pytest.mark.parametrize("turn_ms", [5, 100, 500])
def test_hundreds_of_quiet_markets_close_their_candles_in_time_however_seldom_it_is_looked(
    turn_ms: int,
) -> None:
    world = World()
    symbols = [f"M{number}-X" for number in range(500)]
    world.tracker.follow(symbols)
    world.tracker.put([trade_of(symbol, 1, world.ms, world.ms) for symbol in symbols])
    for _ in range(6000 // turn_ms):
        world.pass_ms(turn_ms)
    # The first second was not seen whole, and the last may still be open.
    assert world.tracker.counts.candles >= 4 * len(symbols)


def test_a_quiet_market_goes_on_once_the_venue_said_that_nothing_was_missed() -> None:
    world = World()
    world.trade(1)
    world.pass_ms(3000)
    world.tracker.interrupted(["A-X"])
    world.pass_ms(3000)
    before = world.tracker.counts.candles
    # Its connection is back and proved, and the venue is asked for what nobody can know.
    world.tracker.suspect(["A-X"])
    assert world.tracker.wanted_trades() == [("A-X", [])]
    world.tracker.recover("A-X", [trade_of("A-X", 1, START, START)])
    for _ in range(40):
        world.pass_ms(100)
    assert world.tracker.counts.candles >= before + 5
    assert world.tracker.counts.gaps == 0


def said_of(last_id: int, *, renumbered: bool = False) -> Said:
    """What is in the queue of a feed that led until now."""
    said = Said()
    told = [trade_of("A-X", last_id, START, START)]
    if renumbered:
        told.append(trade_of("A-X", 3, START + 60_000, START + 60_000))
    for trade in told:
        said.add(encode(Batch(venue="mini", symbol="A-X", kind="trade", ticks=(trade,))))
    return said


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_venue_that_counts_anew_while_no_feed_looked_is_followed_on(is_followed: bool) -> None:
    world = World()
    if not is_followed:
        world.tracker.follow([])
    world.tracker.resume(said_of(5000))
    world.tracker.follow(["A-X"])
    for number in range(1, 30):
        world.pass_ms(1000)
        world.trade(number)
    assert len(world.batches("trade")) >= 24


def test_a_venue_that_counts_anew_right_after_a_take_over_is_followed_on() -> None:
    world = World()
    world.trade(4999)
    world.tracker.resume(said_of(5000))
    for number in range(1, 30):
        world.pass_ms(1000)
        world.trade(number)
    assert len(world.batches("trade")) >= 24


def test_what_was_said_before_a_venue_counted_anew_holds_nothing_back() -> None:
    world = World()
    world.pass_ms(60_000)
    for number in range(1, 4):
        world.trade(number)
    world.tracker.resume(said_of(5000, renumbered=True))
    world.trade(4)
    assert [each.trade_id for each in world.batches("trade") if isinstance(each, Trade)] == [4]


def test_recovered_trades_have_no_more_room_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "TRADES_KEPT_MAX", 10)
    world = World()
    world.tracker.put([trade_of("A-X", number, START, START) for number in (1, 101)])
    world.pass_ms(int(2000 * HOLD_S))
    world.tracker.recover(
        "A-X", [trade_of("A-X", number, START, START) for number in range(2, 101)]
    )
    assert world.tracker.waiting_trades == 10
    batches = [each for each in world.tracker.take_batches() if each.kind == "trade"]
    ids = [each.trade_id for batch in batches for each in batch.ticks if isinstance(each, Trade)]
    assert ids == [1, 101, *range(93, 101)]
    assert sum(batch.missing for batch in batches) == 91
    assert world.tracker.waiting_trades == 0


def test_what_another_feed_asked_for_and_said_is_not_said_again() -> None:
    """Also where that is all it said of the market lately."""
    world = World()
    world.trade(1)
    world.batches("trade")
    world.trade(5)
    world.pass_ms(int(2000 * HOLD_S))
    asked_for = tuple(trade_of("A-X", number, START, START) for number in (2, 3))
    said = Said()
    said.add(
        encode(Batch(venue="mini", symbol="A-X", kind="trade", ticks=asked_for, is_recovered=True))
    )
    world.tracker.resume(said)
    world.tracker.recover("A-X", [*asked_for, trade_of("A-X", 4, START, START)])
    told = [each.trade_id for each in world.batches("trade") if isinstance(each, Trade)]
    assert sorted(told) == [4, 5]
