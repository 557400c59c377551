"""Candles hold exactly the trades of their time, whatever the order, the gaps and the pauses."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade
from botswarm.domain.order import Side
from botswarm.market.candles import FLAT_MAX, GRACE_MS, CandleBuilder, Hole

START = 1_700_000_000_000 // 86_400_000 * 86_400_000


def trade(at_ms: int, price: int = 100, quantity: int = 1, trade_id: int = 1) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=trade_id,
        price=Decimal(price) / 100,
        quantity=Decimal(quantity) / 1000,
        taker_side=Side.BUY,
        exchange_ms=START + at_ms,
        received_ms=START + at_ms,
    )


def expected(trades: Sequence[Trade], timeframe: str, open_ms: int) -> tuple[object, ...]:
    """A candle by its definition, taken from all trades at once."""
    length = TIMEFRAMES_S[timeframe] * 1000
    inside = [each for each in trades if open_ms <= each.exchange_ms < open_ms + length]
    if inside:
        prices = [each.price for each in inside]
        return (
            *(prices[0], max(prices), min(prices), prices[-1]),
            sum(each.quantity for each in inside),
            len(inside),
        )
    last = [each.price for each in trades if each.exchange_ms < open_ms][-1]
    return (last, last, last, last, Decimal(0), 0)


def told(candle: Candle) -> tuple[object, ...]:
    return (
        *(candle.open, candle.high, candle.low, candle.close),
        candle.volume,
        candle.trades,
    )


steps = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 10_000), st.integers(1, 10_000)),
    min_size=1,
    max_size=200,
)


@given(steps)
def test_every_candle_holds_exactly_the_trades_of_its_time(
    walk: list[tuple[int, int, int]],
) -> None:
    builder, trades, closed, at_ms = CandleBuilder("v", "A-B"), [], [], 0
    for pause, price, quantity in walk:
        at_ms += pause
        trades.append(trade(at_ms, price, quantity))
        closed += builder.add(trades[-1])
    for candle in closed:
        assert told(candle) == expected(trades, candle.timeframe, candle.open_ms)
    for timeframe, seconds in TIMEFRAMES_S.items():
        opened = [candle.open_ms for candle in closed if candle.timeframe == timeframe]
        first = trades[0].exchange_ms // (seconds * 1000) * seconds * 1000
        last = trades[-1].exchange_ms // (seconds * 1000) * seconds * 1000
        # The first one was half over when we came; every other one is there, once, in order.
        assert opened == list(range(first + seconds * 1000, last, seconds * 1000))
        holes = builder.holes.get(timeframe, ())
        assert list(holes) == ([Hole(first, first)] if last > first else [])


@given(steps, st.sets(st.integers(0, 199)))
def test_with_missed_trades_a_candle_is_right_or_a_hole(
    walk: list[tuple[int, int, int]], missed: set[int]
) -> None:
    builder, seen_before, trades, closed, at_ms = CandleBuilder("v", "A-B"), True, [], [], 0
    for place, (pause, price, quantity) in enumerate(walk):
        at_ms += pause
        trades.append(trade(at_ms, price, quantity))
        if place in missed:
            seen_before = False
            continue
        closed += builder.add(trades[-1], after_gap=not seen_before)
        seen_before = True
    identities = [(candle.timeframe, candle.open_ms) for candle in closed]
    assert len(set(identities)) == len(identities)
    for candle in closed:
        assert told(candle) == expected(trades, candle.timeframe, candle.open_ms)
    for timeframe, holes in builder.holes.items():
        length = TIMEFRAMES_S[timeframe] * 1000
        missing = {ms for hole in holes for ms in range(hole.first_ms, hole.last_ms + 1, length)}
        opened = {candle.open_ms for candle in closed if candle.timeframe == timeframe}
        assert not missing & opened
        known = missing | opened
        assert known == set(range(min(known), max(known) + 1, length))


@given(steps, st.lists(st.integers(0, 4000), min_size=200, max_size=200))
def test_closing_by_the_clock_changes_no_candle_and_loses_none(
    walk: list[tuple[int, int, int]], looks: list[int]
) -> None:
    by_trades, by_clock, at_ms = CandleBuilder("v", "A-B"), CandleBuilder("v", "A-B"), 0
    plain: list[Candle] = []
    clocked: list[Candle] = []
    for (pause, price, quantity), look in zip(walk, looks, strict=False):
        # The clock never runs ahead of the trades: those that are late have their own test.
        clocked += by_clock.advance(START + at_ms + min(look, pause) + GRACE_MS)
        at_ms += pause
        plain += by_trades.add(trade(at_ms, price, quantity))
        clocked += by_clock.add(trade(at_ms, price, quantity))
    by_identity = sorted(clocked, key=lambda each: (each.timeframe, each.open_ms))
    assert by_identity == sorted(plain, key=lambda each: (each.timeframe, each.open_ms))
    assert by_clock.late == 0


def test_a_trade_that_comes_after_its_candle_is_counted_and_makes_a_hole() -> None:
    builder = CandleBuilder("v", "A-B", ["1s"])
    builder.add(trade(0))
    builder.add(trade(1000))
    assert [candle.open_ms for candle in builder.advance(START + 2000 + GRACE_MS)] == [START + 1000]
    builder.fill("1s", [_candle(0)])
    builder.add(trade(1999))
    assert builder.late == 1
    assert builder.holes == {"1s": (Hole(START + 1000, START + 1000),)}


def test_a_hole_stays_until_the_venue_s_candles_reach_its_end() -> None:
    builder = CandleBuilder("v", "A-B", ["1s"])
    builder.add(trade(0))
    builder.add(trade(3500), after_gap=True)
    builder.add(trade(4500))
    assert builder.holes == {"1s": (Hole(START, START + 3000),)}
    assert builder.fill("1s", [_candle(ms) for ms in (-1000, 0, 1000, 2000)]) == []
    assert builder.is_gapped
    filled = builder.fill("1s", [_candle(ms) for ms in (1000, 2000, 3000, 4000)])
    assert [candle.open_ms - START for candle in filled] == [1000, 2000, 3000]
    assert not builder.is_gapped


def test_a_silence_too_long_to_be_believed_is_a_hole_and_not_a_flat_line() -> None:
    builder = CandleBuilder("v", "A-B", ["1s"])
    builder.add(trade(0))
    builder.add(trade(1000))
    silence = (FLAT_MAX + 2) * 1000
    closed = builder.add(trade(1000 + silence))
    assert [candle.open_ms for candle in closed] == [START + 1000]
    assert builder.holes["1s"][-1] == Hole(START + 2000, START + silence)


def _candle(at_ms: int) -> Candle:
    price = Decimal(1)
    return Candle(
        venue="v",
        symbol="A-B",
        timeframe="1s",
        open_ms=START + at_ms,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=Decimal(0),
        trades=0,
        is_closed=True,
    )
