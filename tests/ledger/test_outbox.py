"""A doorbell may be rung twice and is never lost."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from botswarm.domain.permission import Refused
from botswarm.ledger.outbox import KEPT_FOR, Doorbell
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW, an_order, let_pass


class Bell:
    """A broker that may die after some messages."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.rung: list[str] = []
        self.dies_after = dies_after

    def __call__(self, doorbell: Doorbell) -> None:
        if self.dies_after is not None and len(self.rung) >= self.dies_after:
            raise ConnectionError("the broker has gone")
        self.rung.append(doorbell.task_id)


def orders(ledger: Ledger, count: int, at: datetime = NOW) -> list[str]:
    made = [an_order(created_at=at) for _ in range(count)]
    for order in made:
        ledger.orders.add(order, at)
    return [order.id for order in made]


def test_doorbells_are_rung_once_and_in_order(ledger: Ledger) -> None:
    ids, bell = orders(ledger, 5), Bell()
    assert ledger.outbox.relay(bell, NOW, limit=3) == 3
    assert ledger.outbox.relay(bell, NOW) == 2
    assert ledger.outbox.relay(bell, NOW) == 0
    assert bell.rung == ids


def test_what_was_published_before_the_broker_died_is_not_rung_again(ledger: Ledger) -> None:
    ids, dying, bell = orders(ledger, 5), Bell(dies_after=2), Bell()
    with pytest.raises(ConnectionError):
        ledger.outbox.relay(dying, NOW)
    ledger.outbox.relay(bell, NOW)
    assert dying.rung + bell.rung == ids


def test_a_relay_killed_before_it_could_mark_rings_twice_and_loses_none(ledger: Ledger) -> None:
    ids, bell = orders(ledger, 3), Bell()
    for doorbell in ledger.outbox.pending():
        bell(doorbell)
    # Here it was killed: mark_sent was never called. Whoever comes next rings again.
    ledger.outbox.relay(bell, NOW)
    assert bell.rung == ids + ids
    assert ledger.outbox.pending() == []


def test_a_sweep_leaves_young_rows_to_their_writers(ledger: Ledger) -> None:
    (old,) = orders(ledger, 1, NOW - timedelta(seconds=6))
    (young,) = orders(ledger, 1)
    bell = Bell()
    assert ledger.outbox.sweep(bell, NOW, older_than_s=5) == 1
    assert bell.rung == [old]
    assert [each.task_id for each in ledger.outbox.pending()] == [young]


def test_a_sweep_rings_again_for_orders_nobody_looked_at_at_least_every_20_s(
    ledger: Ledger,
) -> None:
    ready, judged = orders(ledger, 2)
    ledger.outbox.relay(Bell(), NOW)
    ledger.books.judge(judged, lambda order, exposure: let_pass(order, exposure), NOW)
    rung: list[int] = []
    for second in range(80):
        bell = Bell()
        ledger.outbox.sweep(bell, NOW + timedelta(seconds=second), older_than_s=5)
        if bell.rung:
            assert sorted(bell.rung) == sorted([ready, judged])
            rung.append(second)
    assert rung == [6, 16, 36, 56, 76]


def test_a_sweep_does_not_ring_for_orders_that_have_moved_on(ledger: Ledger) -> None:
    (done,) = orders(ledger, 1)
    ledger.outbox.relay(Bell(), NOW)
    ledger.books.judge(done, let_pass, NOW + timedelta(seconds=11))  # too late: STALE
    bell = Bell()
    ledger.outbox.sweep(bell, NOW + timedelta(hours=1), older_than_s=5)
    assert bell.rung == []


def test_what_was_rung_long_ago_is_deleted_unless_somebody_may_have_to_ring_again(
    ledger: Ledger,
) -> None:
    heard, unheard, unsent = orders(ledger, 3)
    bell = Bell(dies_after=2)
    with pytest.raises(ConnectionError):
        ledger.outbox.relay(bell, NOW)
    ledger.books.judge(heard, lambda each, _: Refused(each, "no"), NOW)
    assert ledger.outbox.prune(NOW + KEPT_FOR) == 0
    assert ledger.outbox.prune(NOW + KEPT_FOR + timedelta(seconds=1)) == 1
    assert ledger.outbox.prune(NOW + timedelta(days=9)) == 0
    assert [each.task_id for each in ledger.outbox.pending()] == [unsent]
    again = Bell()
    ledger.outbox.sweep(again, NOW + timedelta(days=9), older_than_s=5)
    assert again.rung == [unsent, unheard]
