"""Every adapter tells enough for the ledger to be held against its venue, to the last digit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.reconciliation import Kind, Reconciliation
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from botswarm.trading import executor
from botswarm.trading.look import IN_FLIGHT_S
from botswarm.trading.reconcile import reconcile
from botswarm.trading.settle import Watch, settle
from tests.integration.swarm import until
from tests.orders.conftest import NO_LIMITS
from tests.venues.conftest import Bench

S = OrderState


@dataclass
class Books:
    bench: Bench
    ledger: Ledger

    def place(self, make: Any, **changes: Any) -> Order:
        now = datetime.now(UTC)
        order: Order = make(
            created_at=now, signal_expires_at=now + timedelta(seconds=30), **changes
        )
        self.ledger.orders.add(order, now)
        at = self.ledger.books
        executor.place(order.id, at, self.bench.venue, NO_LIMITS, SystemClock())
        return order

    def settled(self, order: Order, *states: OrderState) -> None:
        """By rounds, as the worker's: some venues tell of fills only then."""
        watch = Watch()

        def is_there() -> bool:
            settle(self.ledger.books, self.bench.venue, SystemClock(), watch, order.id)
            return self.ledger.orders.get(order.id).state in states

        until(is_there, f"{order.id} to be {states}", 40)

    def reconcile(self) -> Reconciliation:
        def wait(seconds: float) -> None:
            assert seconds == IN_FLIGHT_S, "a second look was needed"

        at = self.ledger
        return reconcile(at.books, at.reconciliations, self.bench.venue, SystemClock(), wait)


@pytest.fixture
def books(bench: Bench, tmp_path: Path) -> Iterator[Books]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(ledger.database)
    ledger.books.save_instruments(list(bench.markets.values()))
    yield Books(bench, ledger)
    ledger.close()


def test_sums_of_trades_and_fees_are_the_venues_own_to_the_last_digit(books: Books) -> None:
    done = books.reconcile()
    assert done.agrees, done
    bench = books.bench
    for side, quantity in ((Side.BUY, "0.00137"), (Side.SELL, "0.00091"), (Side.BUY, "0.00033")):
        order = books.place(bench.market_order, side=side, quantity=Decimal(quantity))
        books.settled(order, S.FILLED)
    resting = books.place(bench.order)
    books.settled(resting, S.LIVE)
    done = books.reconcile()
    assert done.agrees, done
    assert done.counts["open_orders"] >= 1
    has = books.ledger.reconciliations.reckon(bench.venue.name, bench.venue.account, done.at)
    assert has.balances == {asset: sum_ for asset, sum_ in bench.venue.balances().items() if sum_}
    assert verify(books.ledger.database).is_clean


def test_an_order_like_ours_that_nobody_gave_is_seen(books: Books) -> None:
    assert books.reconcile().agrees
    stranger = books.bench.order(id=str(uuid.uuid4()))
    books.bench.accepted(stranger)
    at = books.ledger
    done = reconcile(
        at.books, at.reconciliations, books.bench.venue, SystemClock(), lambda seconds: None
    )
    assert [each.kind for each in done.raised] == [Kind.CONTRADICTION], done
    assert stranger.client_order_id in done.raised[0].words
