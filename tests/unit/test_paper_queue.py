"""A resting order on paper against a queue of which everything is known."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Side
from botswarm.exchanges.simulated.waiting import Waiting

PRICE = Decimal(100)
STEP = Decimal("0.5")
quantities = st.integers(1, 20).map(Decimal)


def waiting(side: Side = Side.BUY, ahead: Decimal | None = None) -> Waiting:
    found = Waiting(side=side, price=PRICE, since_ms=0)
    found.see(ahead, 0)
    return found


@dataclass
class Queue:
    """Those who stand at the price in truth: some before us, some behind."""

    before: Decimal
    behind: Decimal = Decimal(0)
    ours: Decimal = Decimal(0)
    """What would have been traded with us."""

    @property
    def shown(self) -> Decimal:
        return self.before + self.behind

    def trade(self, quantity: Decimal) -> Decimal:
        """Others' trade at the price; without us in it, it takes what is behind as well."""
        quantity = min(quantity, self.shown)
        first = min(quantity, self.before)
        self.before -= first
        self.ours += quantity - first
        self.behind -= quantity - first
        return quantity

    def cancel(self, quantity: Decimal, *, is_before: bool) -> None:
        if is_before:
            self.before -= min(quantity, self.before)
        else:
            self.behind -= min(quantity, self.behind)


@settings(max_examples=200, deadline=None)
@given(
    before=st.integers(0, 50).map(Decimal),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["trade", "join", "leave before", "leave behind"]),
            quantities,
            st.sampled_from(["book first", "trade first", "no book"]),
        ),
        max_size=30,
    ),
)
def test_nobody_is_filled_earlier_than_a_queue_of_which_all_is_known_would_fill(
    before: Decimal, steps: list[tuple[str, Decimal, str]]
) -> None:
    queue, ours, filled = Queue(before), waiting(ahead=before), Decimal(0)
    for number, (kind, quantity, told) in enumerate(steps, 1):
        at_ms, traded = 10 * number, Decimal(0)
        if kind == "trade":
            traded = queue.trade(quantity)
        elif kind == "join":
            queue.behind += quantity
        else:
            queue.cancel(quantity, is_before=kind == "leave before")
        if told == "book first":
            ours.see(queue.shown, at_ms)
        if traded:
            filled += ours.fills(PRICE, traded, at_ms)
        if told == "trade first":
            ours.see(queue.shown, at_ms)
        assert filled <= queue.ours
        assert ours.ahead is not None
        assert ours.ahead >= queue.before


@given(st.lists(quantities, max_size=20), st.integers(0, 60).map(Decimal))
def test_without_anybody_leaving_it_is_filled_as_soon_as_its_turn_comes(
    trades: list[Decimal], before: Decimal
) -> None:
    ours = waiting(ahead=before)
    filled = sum((ours.fills(PRICE, each, 1 + n) for n, each in enumerate(trades)), Decimal(0))
    assert filled == max(sum(trades) - before, Decimal(0))


@given(st.sampled_from(Side), quantities, st.integers(0, 60).map(Decimal))
def test_a_trade_through_the_price_fills_whoever_stood_before(
    side: Side, quantity: Decimal, before: Decimal
) -> None:
    worse = PRICE - side.sign * STEP
    assert waiting(side, before).fills(worse, quantity, 1) == quantity
    assert waiting(side, before).fills(PRICE + side.sign * STEP, quantity, 1) == 0


def test_trades_from_before_it_came_do_not_fill_it() -> None:
    ours = Waiting(side=Side.SELL, price=PRICE, since_ms=1000)
    ours.see(Decimal(0), 1000)
    assert ours.fills(PRICE, Decimal(5), 1000) == 0
    assert ours.fills(PRICE + STEP, Decimal(5), 999) == 0
    assert ours.fills(PRICE, Decimal(5), 1001) == 5


def test_where_the_book_does_not_reach_only_trades_through_the_price_fill() -> None:
    ours = waiting(ahead=None)
    assert ours.fills(PRICE, Decimal(5), 1) == 0
    assert ours.fills(PRICE - STEP, Decimal(5), 2) == 5
    ours.see(Decimal(3), 3)
    assert ours.fills(PRICE, Decimal(5), 4) == 2
