"""Trades in their order, whatever connections bring; and one feed that goes on for another."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.market import Trade
from botswarm.domain.order import Side
from botswarm.feed.counts import Counts
from botswarm.feed.order import HOLD_S, TradeOrder
from botswarm.feed.said import Said
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import encode

START = 1_700_000_000_000


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def trade(trade_id: int) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=trade_id,
        price=Decimal(1),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=START + trade_id,
        received_ms=START + trade_id,
    )


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Ids from 1 on: some overtaken by up to three others, some twice, some never."""
    ids = list(range(1, draw(st.integers(2, 40))))
    lost = draw(st.sets(st.sampled_from(ids), max_size=5))
    kept = [1, *(number for number in ids[1:] if number not in lost)]
    late = {number: number + draw(st.integers(0, 3)) for number in kept[1:]}
    ordered = [1, *sorted(kept[1:], key=lambda number: (late[number], number))]
    repeated = draw(st.lists(st.sampled_from(kept), max_size=5))
    return ordered + repeated


@given(arrivals())
def test_each_trade_goes_on_once_in_order_and_what_is_missing_is_known(ids: list[int]) -> None:
    counts = Counts()
    order, gone_on = TradeOrder(counts), list[int]()
    for number in ids:
        gone_on += [each.trade.trade_id for each in order.add(trade(number), 0.0)]
    gone_on += [each.trade.trade_id for each in order.overdue(HOLD_S)]
    assert gone_on == sorted(set(ids))
    never = set(range(1, max(ids) + 1)) - set(ids)
    assert {number for lost in order.lost for number in lost} == never
    assert counts.missed_trades == len(never)
    assert counts.duplicates == len(ids) - len(set(ids))


@given(arrivals(), st.data())
def test_what_is_found_later_is_given_out_once_and_the_rest_can_be_given_up(
    ids: list[int], data: st.DataObject
) -> None:
    counts = Counts()
    order = TradeOrder(counts)
    for number in ids:
        order.add(trade(number), 0.0)
    order.overdue(HOLD_S)
    lost = [number for each in order.lost for number in each]
    told = data.draw(st.lists(st.integers(1, max(ids))))
    found = [each.trade_id for each in order.found(trade(number) for number in sorted(set(told)))]
    assert found == sorted(set(told) & set(lost))
    assert order.found(trade(number) for number in told) == []
    assert order.forget(range(1, max(ids) + 1)) == len(lost) - len(found)
    assert order.lost == []
    assert counts.recovered_trades + counts.gone_trades == counts.missed_trades


def a_tracker(clock: Clock) -> Tracker:
    made = Tracker("v", lambda: START + 1000, clock)
    made.follow(["A-B"])
    return made


def taken(tracker: Tracker, said: Said | None = None) -> list[int]:
    found = []
    for batch in tracker.take_batches():
        if said is not None:
            said.add(encode(batch))
        found += [each.trade_id for each in batch.ticks if isinstance(each, Trade)]
    return found


@given(
    st.integers(2, 30),
    st.sets(st.integers(2, 29), max_size=4),
    st.sets(st.integers(2, 29), max_size=4),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_a_successor_says_exactly_what_its_predecessor_did_not(
    last: int, lost_by_one: set[int], lost_by_other: set[int], died_at: int, seen_until: int
) -> None:
    """Each has lost trades of its own; the one had said them up to where it died."""
    clock, said = Clock(), Said()
    leader, standby = a_tracker(clock), a_tracker(clock)
    everything, died_at = range(1, last + 1), min(died_at, last)
    spoken: list[int] = []
    for number in range(1, died_at + 1):
        if number not in lost_by_one:
            leader.put([trade(number)])
        spoken += taken(leader, said)
    clock.s += HOLD_S
    leader.advance()
    spoken += taken(leader, said)
    for number in range(1, min(seen_until, last) + 1):
        if number not in lost_by_other:
            standby.put([trade(number)])
    clock.s += HOLD_S
    standby.advance()
    standby.resume(said)
    for number in range(min(seen_until, last) + 1, last + 1):
        if number not in lost_by_other:
            standby.put([trade(number)])
    clock.s += HOLD_S
    standby.advance()
    spoken += taken(standby)
    assert len(spoken) == len(set(spoken))
    # What neither said nor has, it knows to ask the venue for.
    asked = {number for _, lost in standby.wanted_trades() for ids in lost for number in ids}
    newest = max(spoken, default=0)
    assert set(range(min(spoken, default=1), newest + 1)) - set(spoken) <= asked
    assert not asked & set(spoken)
    assert set(spoken) <= set(everything)


def test_what_was_said_up_to_the_end_of_another_feed_still_makes_our_candles() -> None:
    clock, said = Clock(), Said()
    leader, standby = a_tracker(clock), a_tracker(clock)
    leader.put([trade(number) for number in range(1, 6)])
    taken(leader, said)
    standby.put([trade(number) for number in range(1, 4)])
    standby.resume(said)
    standby.put([trade(number) for number in range(4, 8)])
    assert taken(standby) == [6, 7]
    assert standby.counts.trades == 7
