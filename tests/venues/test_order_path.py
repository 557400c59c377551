"""The whole order path at Kraken under every fault: no order twice, none lost, all fills booked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState, TimeInForce
from botswarm.exchanges.base import TradingVenue
from botswarm.exchanges.kraken import placing
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.trading import executor
from botswarm.trading import settle as settling
from botswarm.trading.reconcile import reconcile
from botswarm.trading.settle import Watch, settle
from tests.orders.conftest import NO_LIMITS, a_market_order, an_order, sqlite_ledger
from tests.venues.doors import DOORS

__all__ = ["sqlite_ledger"]

S = OrderState
(KRAKEN,) = [door for door in DOORS if door.name == "kraken"]
PROOF_WITHIN_S = 60.0
EXECUTED = ("drop_reply", "truncate_reply", "garbage_reply", "timeout_executed", "error_executed")
NOT_EXECUTED = ("drop_request", "timeout_not_executed", "error_not_executed")


@pytest.fixture
def server() -> Iterator[SimulatedExchangeServer]:
    """One of its own: its journal is compared with the ledger, whole."""
    with SimulatedExchangeServer(options=["--kraken-tier", "unlimited"]) as running:
        yield running


@pytest.fixture
def venue(server: SimulatedExchangeServer, tmp_path: Path) -> Iterator[TradingVenue]:
    made = KRAKEN.venue(server, tmp_path)
    yield made
    made.close()


def hold_against(venue: TradingVenue, ledger: Ledger) -> None:
    """Trading begins when the account is clean, and in the end it is so again, to the digit."""
    done = reconcile(
        ledger.books, ledger.reconciliations, venue, SystemClock(), lambda _: time.sleep(0.5)
    )
    assert done.agrees, done


def at_kraken(order: Order, **changes: object) -> Order:
    return replace(order, venue="kraken", account="main", **changes)  # type: ignore[arg-type]


def test_every_fault_ends_in_one_order_or_in_none(
    server: SimulatedExchangeServer,
    venue: TradingVenue,
    sqlite_ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same proof in less time: everything it waits for is the venue's word, not a number.
    monkeypatch.setattr(placing, "DEADLINE", timedelta(seconds=2))
    monkeypatch.setattr(settling, "EMPTY_ROUNDS_APART_S", 2.0)
    books, clock, watch = sqlite_ledger.books, SystemClock(), Watch()
    books.save_instruments(venue.instruments())
    hold_against(venue, sqlite_ledger)
    expected: list[tuple[Order, set[OrderState]]] = []

    def place(order: Order, *states: OrderState, fault: str, **wish: object) -> None:
        assert server.arm(fault, venue="kraken", **wish).status == 200
        expected.append((order, set(states)))
        sqlite_ledger.orders.add(order, clock.now())
        executor.place(order.id, books, venue, NO_LIMITS, clock)

    later = datetime.now(UTC) + timedelta(minutes=10)
    for fault in EXECUTED:
        place(at_kraken(a_market_order()), S.FILLED, fault=fault)
        place(at_kraken(an_order()), S.LIVE, fault=fault)
        fok = at_kraken(an_order(), time_in_force=TimeInForce.FOK)
        place(fok, S.CANCELED, S.EXPIRED, fault=fault)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    for fault in NOT_EXECUTED:
        place(at_kraken(a_market_order(), signal_expires_at=soon), S.STALE, fault=fault)
        place(at_kraken(a_market_order(), signal_expires_at=later), S.FILLED, fault=fault)
        place(at_kraken(an_order(), signal_expires_at=later), S.LIVE, fault=fault)
    place(at_kraken(an_order()), S.LIVE, fault="twice")
    # Held beyond its deadline the engine itself refuses it: that is what fences late senders.
    held = at_kraken(a_market_order(), signal_expires_at=soon)
    place(held, S.STALE, S.REJECTED, fault="hold", seconds=2.5)
    place(at_kraken(a_market_order()), S.FILLED, fault="query_lag", seconds=2)

    def states() -> Counter[OrderState]:
        return Counter(order.state for order in sqlite_ledger.orders.list(limit=1000))

    deadline = time.monotonic() + PROOF_WITHIN_S
    ends = {order.id: wanted for order, wanted in expected}
    while any(each.state not in ends[each.id] for each in sqlite_ledger.orders.list(limit=1000)):
        assert time.monotonic() < deadline, states()
        settle(books, venue, clock, watch)
        watch.rested_at = None
        time.sleep(0.2)
    taken = Counter(entry["client_order_id"] for entry in server.journal("order"))
    assert max(taken.values()) == 1
    done = verify_against(sqlite_ledger.database, server.journal_path)
    assert done.is_clean, done.findings
    hold_against(venue, sqlite_ledger)


def test_orders_of_many_threads_and_mishaps_at_random_are_all_accounted_for(
    server: SimulatedExchangeServer, venue: TradingVenue, sqlite_ledger: Ledger
) -> None:
    """One key, one account, many at once: tokens, nonces and connections are shared."""
    books, clock, watch = sqlite_ledger.books, SystemClock(), Watch()
    books.save_instruments(venue.instruments())
    hold_against(venue, sqlite_ledger)
    choice = random.Random(20261120)
    orders = []
    for number in range(60):
        make = an_order if number % 2 else a_market_order
        later = datetime.now(UTC) + timedelta(minutes=10)
        orders.append(at_kraken(make(), signal_expires_at=later))
        sqlite_ledger.orders.add(orders[-1], clock.now())
    for _ in range(20):
        assert server.arm(choice.choice(EXECUTED), venue="kraken").status == 200

    def work(mine: list[Order]) -> None:
        for order in mine:
            executor.place(order.id, books, venue, NO_LIMITS, clock)

    threads = [threading.Thread(target=work, args=(orders[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROOF_WITHIN_S)
    deadline = time.monotonic() + PROOF_WITHIN_S
    while {each.state for each in sqlite_ledger.orders.list(limit=1000)} != {S.LIVE, S.FILLED}:
        assert time.monotonic() < deadline
        settle(books, venue, clock, watch)
        watch.rested_at = None
        time.sleep(0.2)
    assert Counter(entry["client_order_id"] for entry in server.journal("order")) == Counter(
        order.client_order_id for order in orders
    )
    done = verify_against(sqlite_ledger.database, server.journal_path)
    assert done.is_clean, done.findings
    hold_against(venue, sqlite_ledger)
