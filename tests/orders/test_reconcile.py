"""The ledger is held against the venue: every kind of difference, and what becomes of it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from botswarm.clock import StoppedClock
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.reconciliation import Fate, Kind, Reconciliation
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from botswarm.testing.venue import Fate as Fortune
from botswarm.testing.venue import Fault
from botswarm.trading import executor
from botswarm.trading.reconcile import LOOKS_APART_S, reconcile
from tests.orders.account_venue import AccountVenue
from tests.orders.conftest import NO_LIMITS, a_market_order, an_order
from tests.orders.test_venue_contract import BTC
from tests.standing import reconciled

D = Decimal
S = OrderState
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ETH = dataclasses.replace(BTC, symbol="ETH-USDT", base="ETH")


class Room:
    """A venue, a ledger, and a clock that only moves when it is waited."""

    def __init__(self, path: Path) -> None:
        self.clock = StoppedClock(START)
        self.venue = AccountVenue(self.clock, [BTC, ETH])
        self.venue.pay_in("USDT", D(100_000))
        self.venue.pay_in("BTC", D(1))
        self.ledger = Ledger(f"sqlite:///{path / 'ledger.db'}")
        migrate.migrate(self.ledger.database)
        self.ledger.books.save_instruments([BTC, ETH])
        self.waited = 0

    def wait(self, seconds: float) -> None:
        self.waited += seconds == LOOKS_APART_S
        self.clock.advance(seconds)

    def reconcile(self) -> Reconciliation:
        self.clock.advance(1)
        at = self.ledger
        done = reconcile(at.books, at.reconciliations, self.venue, self.clock, self.wait)
        self.clock.advance(1)
        return done

    def place(self, fortune: Fortune = Fortune.RESTS, **changes: Any) -> Order:
        placed = self.place_if_allowed(fortune, **changes)
        assert placed is not None
        return placed

    def place_if_allowed(self, fortune: Fortune, **changes: Any) -> Order | None:
        self.venue.fate = fortune
        now = self.clock.now()
        make = an_order if fortune is Fortune.RESTS else a_market_order
        values = {"created_at": now, "signal_expires_at": now + timedelta(seconds=10)}
        order = make(**values | changes)
        self.ledger.orders.add(order, now)
        return executor.place(order.id, self.ledger.books, self.venue, NO_LIMITS, self.clock)

    def state(self, order: Order) -> OrderState:
        return self.ledger.orders.get(order.id).state

    def has(self) -> dict[str, Decimal]:
        return self.ledger.reconciliations.reckon("simulated", "paper", self.clock.now()).balances

    @property
    def is_clean(self) -> bool:
        return self.ledger.reconciliations.standing("simulated", "paper").is_clean


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    assert verify(made.ledger.database).findings == []
    made.ledger.close()


def kinds(done: Reconciliation) -> dict[str, tuple[Kind, Fate]]:
    return {each.subject: (each.kind, each.fate) for each in done.differences}


def test_the_first_time_takes_over_what_the_account_has(room: Room) -> None:
    assert not room.is_clean
    done = room.reconcile()
    assert (done.agrees, room.is_clean, room.waited) == (True, True, 0)
    assert room.has() == {"USDT": D(100_000), "BTC": D(1)}
    assert room.reconcile().agrees
    assert room.has() == {"USDT": D(100_000), "BTC": D(1)}
    assert verify(room.ledger.database).counts["adjustments"] == 2


def test_fills_in_any_asset_leave_the_two_equal_to_the_last_digit(room: Room) -> None:
    room.venue.pay_in("BNB", D(1))
    room.reconcile()
    room.place(Fortune.FILLS, quantity=D("0.00123"), reference_price=D("100000.01"))
    room.venue.fee_asset = "BNB"
    room.place(Fortune.FILLS, quantity=D("0.00077"), side=Side.SELL)
    assert room.reconcile().agrees
    assert room.waited == 0
    assert room.has() == room.venue.balances()
    assert "BNB" in room.has()


def test_a_fill_nobody_had_heard_of_is_booked(room: Room) -> None:
    room.reconcile()
    resting = room.place()
    room.venue.fill(room.venue.taken(resting), D("0.0004"))
    done = room.reconcile()
    assert kinds(done) == {"trade 1 of BTC-USDT": (Kind.LATE, Fate.REPAIRED)}
    assert done.agrees
    assert room.ledger.orders.get(resting.id).filled_quantity == D("0.0004")


def test_an_account_that_trades_while_it_is_asked_is_clean_all_the_same(room: Room) -> None:
    room.reconcile()
    resting = [room.place(quantity=D(1)) for _ in range(3)]
    taken = [room.venue.taken(order) for order in resting]

    def trade() -> None:
        for each in taken:
            room.venue.fill(each, D("0.01"))

    trade()
    room.venue.meanwhile = trade
    done = room.reconcile()
    assert done.agrees
    assert (room.waited, done.counts["late_fills"]) == (0, 6)
    assert "late_fills" not in room.reconcile().counts, "nothing had happened before the answer"


def test_an_account_whose_sums_agree_is_asked_for_no_fills(room: Room) -> None:
    room.reconcile()
    for _ in range(3):
        room.place(Fortune.FILLS)
    asked = room.venue.asked_for_fills
    assert room.reconcile().agrees
    assert room.venue.asked_for_fills == asked


def test_a_fill_that_is_booked_a_moment_later_by_another_is_no_difference(room: Room) -> None:
    room.reconcile()
    resting = room.place()
    taken = room.venue.taken(resting)
    room.venue.fill(taken, D("0.0004"))
    waited = room.wait

    def wait(seconds: float) -> None:
        waited(seconds)
        room.ledger.books.book(taken.fills, room.clock.now())

    room.wait = wait  # type: ignore[method-assign]
    asked = room.venue.asked_for_fills
    assert room.reconcile().differences == ()
    assert (room.waited, room.venue.asked_for_fills) == (0, asked)


def test_an_account_is_not_taken_over_while_it_moves(room: Room) -> None:
    room.venue.meanwhile = lambda: room.venue.pay_in("USDT", D(1))
    done = room.reconcile()
    assert (done.agrees, done.raised, room.is_clean) == (False, (), False)
    assert "moved" in done.undecided[0].words
    room.venue.meanwhile = None
    assert room.reconcile().agrees


def test_an_account_is_not_taken_over_with_an_order_in_doubt(room: Room) -> None:
    reconciled(room.ledger, START)
    room.venue.faults.append(Fault.LOSE_REPLY)
    doubtful = room.place()
    assert room.state(doubtful) is S.UNKNOWN
    assert "1 orders in doubt" in room.reconcile().undecided[0].words


def test_a_balance_that_no_fill_explains_is_raised_until_it_is_gone(room: Room) -> None:
    room.reconcile()
    room.place(Fortune.FILLS)
    room.venue.pay_in("USDT", D("0.00000001"))
    done = room.reconcile()
    assert kinds(done) == {"balance of USDT": (Kind.CORRECTION, Fate.RAISED)}
    assert (done.raised[0].amount, room.waited, room.is_clean) == (D("1E-8"), 1, False)
    assert "no fill says why" in done.raised[0].words
    assert room.reconcile().raised
    (stand,) = room.ledger.reconciliations.stands()
    assert len(stand.raised) == 1, "the same difference stands once"
    room.venue.pay_in("USDT", D("-0.00000001"))
    assert room.reconcile().agrees
    assert room.is_clean


def test_a_person_accepts_a_difference_once_and_it_is_booked(room: Room) -> None:
    room.reconcile()
    room.place(Fortune.FILLS)
    room.venue.pay_in("BTC", D("-0.25"))
    room.reconcile()
    (stand,) = room.ledger.reconciliations.stands()
    number = stand.raised[0].id
    accept = room.ledger.reconciliations.accept
    now = room.clock.now()
    accept(number, actor="ann", reason="paid out by hand", now=now)
    assert not room.is_clean, "only the next look says so"
    with pytest.raises(Refused, match="by ann"):
        accept(number, actor="ann", reason="again", now=now)
    with pytest.raises(NotFound):
        accept(99, actor="ann", reason="?", now=now)
    assert room.reconcile().agrees
    assert room.is_clean
    assert room.has() == room.venue.balances()
    room.venue.pay_in("BTC", D("-0.25"))
    assert room.reconcile().raised, "what was accepted once says nothing of the next time"


def test_what_no_order_of_ours_ever_moved_is_somebody_elses(room: Room) -> None:
    room.reconcile()
    room.place(Fortune.FILLS)
    room.venue.pay_in("DOGE", D(500))
    done = room.reconcile()
    assert kinds(done) == {"balance of DOGE": (Kind.EXTERNAL, Fate.REPAIRED)}
    assert room.is_clean
    assert room.reconcile().differences == ()
    assert room.has()["DOGE"] == D(500)


def test_a_strangers_fill_is_booked_as_external_and_is_nobodys_position(room: Room) -> None:
    reconciled(room.ledger, START)
    room.place()
    room.reconcile()
    stranger = room.venue.strangers_order("web_1")
    room.venue.fill(stranger, D("0.5"))
    done = room.reconcile()
    assert kinds(done)["trade 1 of BTC-USDT"] == (Kind.EXTERNAL, Fate.REPAIRED)
    assert kinds(done)["venue order 2"] == (Kind.EXTERNAL, Fate.NOTED)
    assert (done.agrees, room.is_clean) == (True, True)
    assert room.ledger.orders.positions() == []
    assert verify(room.ledger.database).counts["external_fills"] == 1


def test_a_stranger_is_found_in_a_market_where_we_never_trade(room: Room) -> None:
    reconciled(room.ledger, START)
    room.place()
    room.reconcile()
    stranger = room.venue.strangers_order("web_1", "ETH-USDT")
    room.venue.fill(stranger, D(1))
    done = room.reconcile()
    assert kinds(done)["trade 1 of ETH-USDT"] == (Kind.EXTERNAL, Fate.REPAIRED)
    assert (done.agrees, room.waited) == (True, 0)


def test_what_strangers_did_before_is_part_of_the_opening(room: Room) -> None:
    reconciled(room.ledger, START)
    stranger = room.venue.strangers_order("web_1")
    room.venue.fill(stranger, D("0.5"))
    room.clock.advance(1)
    room.place()
    assert room.reconcile().agrees
    room.venue.fill(stranger, D("0.25"))
    assert room.reconcile().agrees
    assert verify(room.ledger.database).counts["external_fills"] == 1


def test_an_order_under_an_id_like_ours_that_nobody_gave_is_raised(room: Room) -> None:
    room.reconcile()
    stranger = room.venue.strangers_order(uuid.uuid4().hex)
    done = room.reconcile()
    assert kinds(done) == {"venue order 1": (Kind.CONTRADICTION, Fate.RAISED)}
    assert not room.is_clean
    (stand,) = room.ledger.reconciliations.stands()
    room.ledger.reconciliations.accept(
        stand.raised[0].id, actor="ann", reason="the other swarm's", now=room.clock.now()
    )
    done = room.reconcile()
    assert kinds(done) == {"venue order 1": (Kind.CONTRADICTION, Fate.NOTED)}
    assert room.is_clean
    room.venue.end(stranger)
    assert room.reconcile().differences == ()


def test_an_order_that_ended_here_and_is_open_there_is_raised(room: Room) -> None:
    room.reconcile()
    order = room.place()
    room.ledger.books.record(order.id, S.CANCELED, room.clock.now())
    done = room.reconcile()
    assert kinds(done) == {"venue order 1": (Kind.CONTRADICTION, Fate.RAISED)}
    assert f"order {order.id} is canceled" in done.raised[0].words
    room.venue.end(room.venue.taken(order))
    assert room.reconcile().agrees


def test_an_order_that_ended_unheard_is_settled(room: Room) -> None:
    room.reconcile()
    order = room.place()
    room.venue.end(room.venue.taken(order))
    assert room.reconcile().agrees
    assert (room.state(order), room.waited) == (S.CANCELED, 0)


def test_an_order_the_venue_has_lost_ends_by_proof_of_two_looks(room: Room) -> None:
    room.reconcile()
    order = room.place()
    room.venue.forget(order)
    done = room.reconcile()
    assert kinds(done) == {f"order {order.id}": (Kind.MISSING, Fate.REPAIRED)}
    assert (room.state(order), room.waited, room.is_clean) == (S.EXPIRED, 1, True)


def test_fills_that_become_known_late_are_no_difference(room: Room) -> None:
    room.reconcile()
    order = room.place()
    room.venue.fill_lag = timedelta(seconds=8)
    room.venue.fill(room.venue.taken(order), D("0.0004"))
    done = room.reconcile()
    assert (done.agrees, done.raised, room.waited) == (True, (), 1)


def test_a_trade_that_the_venue_changed_is_named(room: Room) -> None:
    room.reconcile()
    order = room.place(Fortune.FILLS)
    assert room.reconcile().agrees
    taken = room.venue.taken(order)
    taken.fills[0] = dataclasses.replace(taken.fills[0], price=D(99_000))
    done = room.reconcile()
    assert kinds(done) == {"balance of USDT": (Kind.CORRECTION, Fate.RAISED)}
    assert "the venue has changed trade 1 of BTC-USDT, from" in done.raised[0].words
    del taken.fills[0]
    room.clock.advance(60)  # a moment ago the venue might simply not have told of it yet
    done = room.reconcile()
    assert all("which it does not have any more" in each.words for each in done.raised), done
    assert {each.asset for each in done.raised} == {"BTC", "USDT"}


def test_a_fill_of_an_order_that_was_never_placed_is_raised(room: Room) -> None:
    room.reconcile()
    room.venue.faults.append(Fault.DECLINE)
    order = room.place()
    assert room.state(order) is S.REJECTED
    stranger = room.venue.strangers_order(order.client_order_id)
    room.venue.fill(stranger, D("0.0005"))
    room.venue.end(stranger)
    done = room.reconcile()
    assert kinds(done)[f"order {order.id}"] == (Kind.CONTRADICTION, Fate.RAISED)
    checks = {(each.check, each.subject) for each in verify(room.ledger.database).findings}
    assert checks == {("order", f"order {order.id}")}
    room.ledger.database.write(lambda session: _let_it_be(session, order))


def _let_it_be(session: Session, order: Order) -> None:
    """So that the fixture finds the books as it wants them."""
    for table, column in (("orders", "state"), ("order_events", "after")):
        identity = "id" if table == "orders" else "order_id"
        session.execute(
            text(
                f"UPDATE {table} SET {column} = 'canceled'"  # noqa: S608
                f" WHERE {identity} = :id AND {column} = 'rejected'"
            ),
            {"id": order.id},
        )


def test_a_venue_that_does_not_answer_changes_nothing(room: Room) -> None:
    room.reconcile()
    before = room.ledger.reconciliations.standing("simulated", "paper")
    room.venue.is_reachable = False
    with pytest.raises(Unreachable):
        room.reconcile()
    assert room.ledger.reconciliations.standing("simulated", "paper") == before


def test_reconciling_again_and_again_books_nothing_twice(room: Room) -> None:
    room.reconcile()
    order = room.place(Fortune.FILLS)
    assert order is not None
    before = verify(room.ledger.database).head_sequence
    for _ in range(3):
        assert room.reconcile().agrees
    assert verify(room.ledger.database).head_sequence == before
