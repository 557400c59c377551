"""What streams missed is asked of the venue, and no market waits for another's trouble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from botswarm.domain.market import Candle, Trade
from botswarm.errors import Unreachable
from botswarm.feed import errands
from botswarm.feed.errands import PAST_PER_ROUND_MAX, Keeper, Mender
from botswarm.feed.order import HOLD_S
from botswarm.feed.tracker import Tracker
from tests.integration.mini_venue import MiniData, trade_of

AT_MS = 1_700_000_000_000


def minute(number: int) -> Candle:
    one = Decimal(1)
    return Candle(
        venue="mini",
        symbol="A-X",
        timeframe="1m",
        open_ms=AT_MS + number * 60_000,
        open=one,
        high=one,
        low=one,
        close=one,
        volume=one,
        trades=1,
        is_closed=True,
    )


class Venue(MiniData):
    """It refuses to say anything about some of its markets."""

    def __init__(self) -> None:
        super().__init__("ws://127.0.0.1:9/")
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.asked_for_candles: list[str] = []

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        self.asked.append(symbol)
        self._refuse(symbol)
        return [trade_of(symbol, number, AT_MS, AT_MS) for number in range(1, 11)]

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        self.asked_for_candles.append(symbol)
        self._refuse(symbol)
        return ()

    def _refuse(self, symbol: str) -> None:
        if symbol in self.refused:
            raise Unreachable(f"mini answered 400 to {symbol}: delisted")


class World:
    def __init__(self, *symbols: str) -> None:
        self.now = 1000.0
        monotonic: Callable[[], float] = lambda: self.now  # noqa: E731
        self.venue = Venue()
        self.tracker = Tracker("mini", lambda: AT_MS, monotonic)
        self.mender = Mender(self.tracker, self.venue, monotonic)
        self.tracker.follow(symbols)

    def miss(self, symbol: str) -> None:
        """Of ten trades the first and the last come."""
        self.tracker.put([trade_of(symbol, number, AT_MS, AT_MS) for number in (1, 10)])
        self.now += 2 * HOLD_S
        self.tracker.advance()

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.mender.run()
            self.now += 0.5

    def recovered(self, symbol: str) -> int:
        batches = self.tracker.take_batches()
        return sum(
            len(each.ticks) for each in batches if each.symbol == symbol and each.is_recovered
        )


def test_a_market_of_which_the_venue_tells_nothing_holds_up_no_other() -> None:
    world = World("A-X", "B-X")
    world.venue.refused = {"A-X"}
    world.miss("A-X")
    world.miss("B-X")
    world.run(2)
    assert world.recovered("B-X") == 8
    world.mender.load_past(["B-X"])
    world.run(10)
    assert "B-X" in world.venue.asked_for_candles


def test_what_the_venue_refuses_is_asked_for_again_but_not_all_the_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("A-X")
    world.venue.refused = {"A-X"}
    world.miss("A-X")
    world.run(60)
    assert 5 <= len(world.venue.asked) <= 30
    assert caplog.text.count("delisted") == 1
    world.venue.refused = set()
    world.run(6)
    assert world.recovered("A-X") == 8


def test_the_past_of_a_market_that_is_refused_holds_up_no_other() -> None:
    world = World("A-X", "B-X")
    world.venue.refused = {"A-X"}
    world.mender.load_past(["A-X", "B-X"])
    for _ in range(4 * PAST_PER_ROUND_MAX):
        world.mender._once_more()
    assert "B-X" in world.venue.asked_for_candles


def test_a_gap_is_found_also_while_there_is_no_broker_to_tell() -> None:
    """Whoever publishes waits for the broker then, and the venue soon forgets its trades."""
    world = World("A-X")
    world.tracker.put([trade_of("A-X", number, AT_MS, AT_MS) for number in (1, 10)])
    world.run(1.5)
    assert world.recovered("A-X") == 8


def test_candles_that_find_no_ledger_for_too_long_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(errands, "CANDLES_KEPT_MAX", 10)
    saved: list[Candle] = []
    is_away = True

    def save(candles: Sequence[Candle]) -> None:
        if is_away:
            raise Unreachable("the ledger is away")
        saved.extend(candles)

    world = World("A-X")
    keeper = Keeper(world.tracker, save)
    keeper.is_on_duty = True
    for number in range(15):
        world.tracker.keep([minute(number)])
        keeper._once_more()
    is_away = False
    keeper._once_more()
    assert [each.open_ms for each in saved] == [minute(n).open_ms for n in range(5, 15)]
    assert world.tracker.counts.unsaved_candles == 5
    assert caplog.text.count("will not be in the ledger") == 1
