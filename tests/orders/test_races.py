"""A thousand orders that race one limit of an account, in processes and threads on PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from threading import Thread

import pytest
from sqlalchemy import func, select

from botswarm.clock import SystemClock
from botswarm.ledger import migrate
from botswarm.ledger.models import OrderRow
from botswarm.ledger.rows import row_of
from botswarm.ledger.store import Ledger
from botswarm.risk.limits import Limits
from botswarm.testing.servers import PostgreSQLServer
from botswarm.testing.venue import FakeVenue
from botswarm.trading import executor
from tests.orders.conftest import NO_LIMITS, an_order
from tests.orders.test_venue_contract import BTC
from tests.standing import reconciled

ORDERS, ROOM = 1000, 30
PROCESSES, THREADS = 3, 5
PRICE, WORTH = Decimal(50_000), Decimal(50)
"""Of one order."""


def place_all(url: str, order_ids: Sequence[str], limits: Limits, start: Barrier) -> None:
    """Each thread a part of them, all beginning at the same moment."""
    ledger, clock = Ledger(url), SystemClock()
    venue = FakeVenue(clock, [BTC])

    def place(mine: Sequence[str]) -> None:
        for order_id in mine:
            executor.place(order_id, ledger.books, venue, limits, clock)

    threads = [Thread(target=place, args=(order_ids[each::THREADS],)) for each in range(THREADS)]
    start.wait(300)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()


def race(ledger: Ledger, url: str, limits: Limits) -> None:
    now = datetime.now(UTC)
    ledger.books.save_instruments([BTC])
    later = now + timedelta(hours=1)
    orders = [
        an_order(
            bot=f"bot{each % 40}",
            limit_price=PRICE,
            reference_price=PRICE,
            quantity=WORTH / PRICE,
            signal_expires_at=later,
        )
        for each in range(ORDERS)
    ]
    rows = [row_of(order, None, now) for order in orders]
    ledger.database.write(lambda session: session.add_all(rows))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES)
    parts = [[order.id for order in orders[each::PROCESSES]] for each in range(PROCESSES)]
    racers = [context.Process(target=place_all, args=(url, part, limits, start)) for part in parts]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(500)
        assert racer.exitcode == 0


def states(ledger: Ledger) -> dict[str, int]:
    question = select(OrderRow.state, func.count()).group_by(OrderRow.state)
    return ledger.database.read(lambda session: dict(session.execute(question).all()))


@pytest.mark.timeout(900)
def test_a_thousand_orders_that_race_one_limit_never_exceed_it() -> None:
    limits = replace(NO_LIMITS, open_notional_max=ROOM * WORTH)
    with PostgreSQLServer() as server:
        url = server.ledger_url()
        ledger = Ledger(url)
        migrate.migrate(ledger.database)
        reconciled(ledger, datetime.now(UTC))
        race(ledger, url, limits)
        assert states(ledger) == {"live": ROOM, "refused": ORDERS - ROOM}
        ledger.close()
