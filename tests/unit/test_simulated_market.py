"""The synthetic market: the same for the same seed, lively, and what its scenarios promise."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from botswarm.exchanges.simulated.candles import Candles
from botswarm.exchanges.simulated.exchange import MONEY_OF_ALL, Fact, Traded
from botswarm.exchanges.simulated.market import LISTINGS, STEP_MS, SyntheticMarket
from botswarm.exchanges.simulated.prices import (
    CRASH_EVERY_MS,
    CRASH_FIRST_MS,
    CRASH_LASTS_MS,
    OUTAGE_FIRST_MS,
    OUTAGE_LASTS_MS,
    SCENARIOS,
    TREND_MS,
    PriceLine,
    Scenario,
)

START_MS = 1_763_635_200_000


def market(scenario: Scenario = "calm", seed: int = 1) -> SyntheticMarket:
    return SyntheticMarket.of(
        LISTINGS, seed=seed, scenario=scenario, epoch_ms=START_MS, now_ms=START_MS
    )


def run(moved: SyntheticMarket, seconds: int, start_ms: int = START_MS) -> list[Fact]:
    facts: list[Fact] = []
    for step_ms in range(start_ms, start_ms + seconds * 1000, STEP_MS):
        facts += moved.step(step_ms)
    return facts


def told(facts: list[Fact]) -> list[tuple[str, int, Decimal, Decimal, int]]:
    return [
        (fact.symbol, fact.trade_id, fact.price, fact.quantity, fact.at_ms)
        for fact in facts
        if isinstance(fact, Traded)
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_makes_the_same_trades(scenario: Scenario) -> None:
    first = told(run(market(scenario), 30))
    assert first == told(run(market(scenario), 30))
    assert len(first) > 100
    assert first != told(run(market(scenario, seed=2), 30))


def test_books_stay_full_and_uncrossed_and_no_money_is_made() -> None:
    moved = market("flash-crash")
    for step_ms in range(START_MS, START_MS + 45_000, STEP_MS):
        moved.step(step_ms)
        for each in moved.exchange.markets.values():
            bids, asks = each.book.bids.depth(5), each.book.asks.depth(5)
            assert len(bids) == len(asks) == 5
            assert bids[0][0] < asks[0][0]
    for asset in ("BTC", "ETH", "SOL", "USDT"):
        assert moved.exchange.accounts.sum(asset) == MONEY_OF_ALL


def test_trade_numbers_of_a_market_have_no_gap() -> None:
    facts = told(run(market(), 20))
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        numbers = [number for name, number, *_ in facts if name == symbol]
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_cross_of_averages_over_seconds_comes_within_half_a_minute(seed: int) -> None:
    moved = market(seed=seed)
    closes = [
        float(candle.close)
        for candle in Candles(
            moved.lines["BTCUSDT"], Decimal("0.00001"), START_MS + 60_000
        ).between("1s", START_MS + 60_000, limit=60)
    ]
    above = [
        sum(closes[n - 5 : n]) / 5 > sum(closes[n - 15 : n]) / 15 for n in range(15, len(closes))
    ]
    flips = [n for n, (was, now) in enumerate(pairwise(above)) if was != now]
    assert flips
    assert flips[0] < 30


def test_a_trend_rises_until_it_turns() -> None:
    line, calm = market("trend").lines["BTCUSDT"], market("calm").lines["BTCUSDT"]
    gain = [line.at(START_MS + ms) - calm.at(START_MS + ms) for ms in (0, TREND_MS // 2, TREND_MS)]
    assert gain[0] == 0
    assert Decimal(2_900) < gain[1] < Decimal(3_100)
    assert Decimal(5_900) < gain[2] < Decimal(6_100)
    assert line.at(START_MS + 2 * TREND_MS) == calm.at(START_MS + 2 * TREND_MS)


def test_a_flash_crash_takes_a_tenth_within_seconds_and_comes_back() -> None:
    line, calm = market("flash-crash").lines["BTCUSDT"], market("calm").lines["BTCUSDT"]
    low_ms = START_MS + CRASH_FIRST_MS + CRASH_LASTS_MS // 10
    assert line.at(START_MS + CRASH_FIRST_MS - 1) == calm.at(START_MS + CRASH_FIRST_MS - 1)
    assert calm.at(low_ms) - line.at(low_ms) > calm.around / 10
    after_ms = START_MS + CRASH_FIRST_MS + CRASH_LASTS_MS
    assert line.at(after_ms) == calm.at(after_ms)
    assert line.at(low_ms + CRASH_EVERY_MS) < calm.at(low_ms + CRASH_EVERY_MS)


def test_only_an_outage_silences_the_feed_and_only_for_its_time() -> None:
    for scenario in SCENARIOS:
        line = market(scenario).lines["BTCUSDT"]
        is_outage = scenario == "feed-outage"
        assert not line.feed_is_out(START_MS + OUTAGE_FIRST_MS - 1)
        assert line.feed_is_out(START_MS + OUTAGE_FIRST_MS) is is_outage
        assert line.feed_is_out(START_MS + OUTAGE_FIRST_MS + OUTAGE_LASTS_MS - 1) is is_outage
        assert not line.feed_is_out(START_MS + OUTAGE_FIRST_MS + OUTAGE_LASTS_MS)


# --- candles ----------------------------------------------------------------------------------


def candles(now_ms: int = START_MS) -> Candles:
    line = PriceLine(
        symbol="BTCUSDT",
        seed=1,
        around=Decimal(100_000),
        tick_size=Decimal("0.01"),
        scenario="calm",
        epoch_ms=now_ms,
    )
    return Candles(line, Decimal("0.00001"), now_ms)


@pytest.mark.parametrize("interval", ["1s", "1m", "1h", "1d"])
def test_history_from_before_the_start_is_whole_and_continuous(interval: str) -> None:
    found = candles().between(interval, START_MS, limit=100)
    assert len(found) == 100
    for before, after in pairwise(found):
        assert after.open_ms == before.close_ms + 1
        assert after.open == before.close
    assert all(each.low <= min(each.open, each.close) for each in found)
    assert all(each.high >= max(each.open, each.close) for each in found)


def test_a_candle_is_its_trades() -> None:
    made = candles()
    for number, (price, quantity) in enumerate([(101, 1), (99, 2), (100, 3)], 1):
        made.add(START_MS + number, Decimal(price), Decimal(quantity), number, number == 2)
    closed = dict(made.roll(START_MS + 1_000))
    candle = closed["1s"]
    assert [candle.low, candle.close, candle.volume] == [99, 100, 6]
    assert (candle.first_trade_id, candle.last_trade_id, candle.trades) == (1, 3, 3)
    assert [candle.taker_volume, candle.quote_volume] == [2, 101 + 198 + 300]


def test_a_second_without_trades_has_a_flat_candle() -> None:
    made = candles()
    made.add(START_MS, Decimal(100), Decimal(1), 1, True)
    seconds = [candle for interval, candle in made.roll(START_MS + 3_000) if interval == "1s"]
    assert len(seconds) == 3
    assert all(c.open == c.high == c.low == c.close == 100 for c in seconds[1:])
    assert [c.trades for c in seconds] == [1, 0, 0]


def test_what_was_lived_and_what_was_before_join_without_a_gap() -> None:
    made = candles()
    for second in range(10):
        made.roll(START_MS + second * 1000)
        made.add(START_MS + second * 1000, Decimal(100 + second), Decimal(1), second + 1, True)
    now_ms = START_MS + 9_500
    found = made.between("1s", now_ms, limit=20)
    opens = [candle.open_ms for candle in found]
    assert opens == list(range(START_MS - 10_000, START_MS + 10_000, 1000))
    assert found[-1].close == 109
    ranged = made.between("1s", now_ms, start_ms=START_MS - 2_500, end_ms=START_MS + 1_500)
    assert [c.open_ms - START_MS for c in ranged] == [-2000, -1000, 0, 1000]
