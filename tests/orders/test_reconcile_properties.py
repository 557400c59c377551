"""Whatever happens at an account, and however late it becomes known: the ledger ends equal."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from botswarm.domain.order import OrderState, Side
from botswarm.domain.reconciliation import Fate, Kind
from botswarm.ledger.verify import verify
from botswarm.testing.venue import Fate as Fortune
from tests.orders.test_reconcile import ETH, D, Room
from tests.unit.test_order_path import Died, Life

SEEDS = 8
STEPS = 14
DEATHS = 12


class Fortunes:
    """An account at which ours, others and the venue do things; and what is to be found of it."""

    def __init__(self, room: Room, seed: int) -> None:
        self.room = room
        self.choice = random.Random(seed)
        self.strangers = 0

    def step(self) -> None:
        steps = (
            self.ours_is_placed,
            self.ours_is_placed,
            self.the_market_trades,
            self.the_market_trades,
            self.a_stranger_comes,
            self.a_stranger_pays_in_what_we_never_touch,
            self.an_order_ends_unheard,
            self.the_worker_looks,
        )
        self.choice.choice(steps)()
        self.room.clock.advance(self.choice.choice([0.1, 1, 40]))

    def ours_is_placed(self) -> None:
        fortune = self.choice.choice([Fortune.RESTS, Fortune.FILLS, Fortune.FILLS_HALF])
        self.room.place_if_allowed(
            fortune,
            quantity=D(self.choice.randint(1, 999)) / 10_000,
            reference_price=D(self.choice.randint(99_000, 101_000)),
            side=self.choice.choice(list(Side)),
        )

    def the_market_trades(self) -> None:
        self.room.venue.trade_at_random(self.choice)

    def a_stranger_comes(self) -> None:
        self.strangers += 1
        symbol = self.choice.choice(["BTC-USDT", ETH.symbol])
        side = self.choice.choice(list(Side))
        taken = self.room.venue.strangers_order(f"web_{self.strangers}", symbol, side)
        if self.choice.random() < 0.5:
            self.room.venue.fill(taken, D(self.choice.randint(1, 9)) / 10)

    def a_stranger_pays_in_what_we_never_touch(self) -> None:
        asset = self.choice.choice(["DOGE", "XRP"])
        self.room.venue.pay_in(asset, D(self.choice.randint(1, 10**9)) / 10**8)

    def an_order_ends_unheard(self) -> None:
        open_ = [order for order in self.room.venue.orders if not order.state.is_final]
        if open_:
            self.room.venue.end(self.choice.choice(open_))

    def the_worker_looks(self) -> None:
        done = self.room.reconcile()
        assert done.raised == (), done
        assert {each.kind for each in done.differences} <= {Kind.LATE, Kind.EXTERNAL}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_any_life_ledger_and_venue_are_equal_to_the_last_digit(
    tmp_path: Path, seed: int
) -> None:
    room = Room(tmp_path)
    room.venue.fee_asset = random.Random(seed).choice([None, "BNB"])
    room.venue.pay_in("BNB", D(10))
    life = Fortunes(room, seed)
    if seed % 3:
        # Some have a past before anybody looks.
        for _ in range(4):
            life.a_stranger_comes()
            life.the_market_trades()
        room.clock.advance(1)
    assert room.reconcile().agrees
    for _ in range(STEPS):
        life.step()
    done = room.reconcile()
    assert done.agrees, done
    there = {asset: amount for asset, amount in room.venue.balances().items() if amount}
    assert room.has() == there
    assert room.is_clean
    ours = {order.client_order_id: order for order in room.venue.orders}
    for order in room.ledger.orders.list(limit=1000):
        if order.state is OrderState.REFUSED:
            assert order.client_order_id not in ours
            continue
        taken = ours[order.client_order_id]
        assert order.filled_quantity == taken.filled
        assert order.state.is_final or taken.state in (OrderState.LIVE, OrderState.PARTIAL)
    assert verify(room.ledger.database).findings == []
    # In an asset that is traded, what no fill explains cannot be ours to explain.
    room.venue.pay_in("USDT", D("0.00000001"))
    room.clock.advance(60)
    done = room.reconcile()
    assert [(each.asset, each.fate) for each in done.raised] == [("USDT", Fate.RAISED)] or not (
        room.ledger.orders.list()
    )
    room.ledger.close()


def eventful(room: Room) -> None:
    """Something of every kind for one reconciliation to find."""
    ours, lost = room.place(quantity=D(1)), room.place()
    room.place(Fortune.FILLS)
    room.venue.fill(room.venue.taken(ours), D("0.3"))
    room.venue.forget(lost)
    stranger = room.venue.strangers_order("web_1")
    room.venue.fill(stranger, D("0.5"))
    room.venue.fill(room.venue.strangers_order("web_2", ETH.symbol), D(1))
    room.venue.pay_in("DOGE", D(7))
    room.clock.advance(1)


def test_dying_on_any_line_of_it_books_nothing_twice(tmp_path: Path) -> None:
    lines = len(_lived(tmp_path, None))
    assert lines > 300
    for dies_at in range(1, lines, lines // DEATHS):
        _lived(tmp_path, dies_at)


def _lived(folder: Path, dies_at: int | None) -> list[tuple[str, int]]:
    """A life that dies while it opens the account, and while it reconciles; then one that lives."""
    (folder / "ledger.db").unlink(missing_ok=True)
    room = Room(folder)
    first, second = Life(dies_at), Life(dies_at)
    with contextlib.suppress(Died), first:
        room.reconcile()
    if dies_at is not None:
        assert room.reconcile().agrees
    eventful(room)
    with contextlib.suppress(Died), second:
        room.reconcile()
    if dies_at is not None:
        assert room.reconcile().agrees
    assert room.has() == {asset: sum_ for asset, sum_ in room.venue.balances().items() if sum_}
    done = verify(room.ledger.database)
    assert done.findings == []
    assert (done.counts["adjustments"], done.counts["external_fills"]) == (3, 2)
    room.ledger.close()
    return second.lines
