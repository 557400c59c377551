"""The exchange misbehaves in every way it can be told to: no order twice, none lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState, Side, TimeInForce
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.trading import executor
from botswarm.trading.settle import Watch, settle
from tests.orders.conftest import NO_LIMITS, a_market_order, a_venue, an_order

S = OrderState
NOTHING_THERE = {S.REFUSED, S.STALE, S.REJECTED}
PROOF_WITHIN_S = 60


@pytest.fixture
def server() -> Iterator[SimulatedExchangeServer]:
    """One of its own: its journal is compared with the ledger, whole."""
    with SimulatedExchangeServer() as running:
        yield running


@pytest.fixture
def path(server: SimulatedExchangeServer, sqlite_ledger: Ledger) -> Iterator[Path]:
    made = Path(server, sqlite_ledger)
    yield made
    made.venue.close()


class Path:
    """The order path of one process."""

    def __init__(self, server: SimulatedExchangeServer, ledger: Ledger) -> None:
        self.server = server
        self.ledger = ledger
        self.venue = a_venue(server)
        self.clock = SystemClock()
        self.watch = Watch()
        ledger.books.save_instruments(self.venue.instruments())

    def place(self, order: Order) -> Order | None:
        self.ledger.orders.add(order, self.clock.now())
        return executor.place(order.id, self.ledger.books, self.venue, NO_LIMITS, self.clock)

    def settle(self) -> None:
        settle(self.ledger.books, self.venue, self.clock, self.watch)

    def settle_until(self, done: Callable[[], bool], within_s: float = PROOF_WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < deadline, self.states()
            self.settle()
            time.sleep(0.2)

    def states(self) -> Counter[OrderState]:
        return Counter(order.state for order in self.ledger.orders.list(limit=1000))

    def state(self, order: Order) -> OrderState:
        return self.ledger.orders.get(order.id).state

    def is_certain(self) -> bool:
        """Nothing in doubt, and nothing that the venue has filled is missing."""
        return not {S.READY, S.APPROVED, S.SENDING, S.UNKNOWN} & set(self.states())

    def compare_with_the_journal(self) -> None:
        taken = self.server.journal("order")
        counted = Counter(entry["client_order_id"] for entry in taken)
        filled: Counter[str] = Counter()
        for entry in self.server.journal("fill"):
            filled[entry["client_order_id"]] += Decimal(entry["quantity"])  # type: ignore[assignment]
        for order in self.ledger.orders.list(limit=1000):
            there = counted.pop(order.client_order_id, 0)
            assert there == (0 if order.state in NOTHING_THERE else 1), (order, there)
            assert order.filled_quantity == filled[order.client_order_id], order
        ours = {entry["client_order_id"] for entry in taken if entry.get("account") == "paper"}
        assert not ours & set(counted), "orders at the exchange that the ledger does not know"
        done = verify_against(self.ledger.database, self.server.journal_path)
        assert done.is_clean, done.findings


def patient(order: Order) -> Order:
    return replace(order, signal_expires_at=datetime.now(UTC) + timedelta(minutes=10))


EXECUTED = ("drop_reply", "truncate_reply", "garbage_reply", "timeout_executed", "error_executed")
NOT_EXECUTED = ("drop_request", "timeout_not_executed", "error_not_executed")


def test_every_fault_ends_in_one_order_or_in_none(
    server: SimulatedExchangeServer, path: Path
) -> None:
    expected: list[tuple[Order, set[OrderState]]] = []

    def place(order: Order, *states: OrderState, fault: str, **wish: object) -> None:
        assert server.arm(fault, **wish).status == 200
        expected.append((order, set(states)))
        path.place(order)

    for fault in EXECUTED:
        place(a_market_order(), S.FILLED, fault=fault)
        place(an_order(), S.LIVE, fault=fault)
        place(a_market_order(time_in_force=TimeInForce.GTC), S.FILLED, fault=fault)
    for fault in NOT_EXECUTED:
        place(a_market_order(), S.STALE, fault=fault)
        place(patient(a_market_order()), S.FILLED, fault=fault)
        place(patient(an_order()), S.LIVE, fault=fault)
    place(a_market_order(), S.FILLED, fault="slow", seconds=0.5)
    place(a_market_order(), S.FILLED, fault="hold", seconds=0.5)
    # Held beyond its window the exchange itself refuses it: that is what fences late senders.
    place(a_market_order(), S.REJECTED, fault="hold", seconds=2.5)
    place(an_order(), S.LIVE, fault="twice")
    for seconds in (3, 12):
        server.arm("query_lag", seconds=seconds)
        place(a_market_order(), S.FILLED, fault="drop_reply")
    unclear = path.states()[S.UNKNOWN]
    assert unclear >= 3 * (len(EXECUTED) + len(NOT_EXECUTED))

    path.settle_until(path.is_certain)
    for order, states in expected:
        assert path.state(order) in states, (order, path.ledger.orders.story(order.id).events)
    path.compare_with_the_journal()


def test_an_exchange_that_was_killed_after_taking_orders_still_has_them(
    server: SimulatedExchangeServer, path: Path
) -> None:
    orders = [an_order(), a_market_order()]
    server.arm("drop_reply", times=2)
    for order in orders:
        path.place(order)
    assert path.states() == {S.UNKNOWN: 2}
    server.kill()
    path.settle()
    assert path.states() == {S.UNKNOWN: 2}
    server.start()
    path.settle_until(path.is_certain, within_s=15)
    assert [path.state(order) for order in orders] == [S.LIVE, S.FILLED]
    path.compare_with_the_journal()


def test_an_order_that_rests_is_filled_later_and_booked(
    server: SimulatedExchangeServer, path: Path
) -> None:
    book = server.public("GET", "/api/v3/ticker/bookTicker", symbol="SOLUSDT").body
    bid = an_order(
        symbol="SOL-USDT",
        quantity=Decimal("0.5"),
        limit_price=Decimal(book["bidPrice"]) * Decimal("1.0002"),
        reference_price=Decimal(book["askPrice"]),
    )
    path.place(bid)
    path.settle_until(lambda: path.state(bid) is S.FILLED, within_s=60)
    path.compare_with_the_journal()


def test_the_exchanges_refusals_are_final_and_keep_their_reason(
    server: SimulatedExchangeServer, path: Path
) -> None:
    dear = a_market_order(side=Side.SELL, quantity=Decimal(50))
    path.place(dear)
    kept = path.ledger.orders.get(dear.id)
    assert kept.state is S.REJECTED
    assert kept.reason is not None
    assert "insufficient balance" in kept.reason
    path.compare_with_the_journal()


def test_nothing_is_sent_by_a_clock_that_is_wrong(
    server: SimulatedExchangeServer, path: Path
) -> None:
    server.arm("clock_offset", seconds=-1.5)
    order = a_market_order()
    path.place(order)
    assert path.state(order) is S.APPROVED
    server.arm("clock_offset", seconds=-0.6)
    # Measured anew at the next minute; a new process measures at once.
    path.venue.close()
    path.venue = a_venue(server)
    path.settle_until(path.is_certain, within_s=10)
    assert path.state(order) is S.FILLED


@pytest.mark.parametrize("kind", ["sqlite_ledger", "postgresql_ledger"])
def test_racing_workers_and_redeliveries_place_each_order_once(
    server: SimulatedExchangeServer, request: pytest.FixtureRequest, kind: str
) -> None:
    ledger: Ledger = request.getfixturevalue(kind)
    path = Path(server, ledger)
    orders = [a_market_order(quantity=Decimal("0.0002")) for _ in range(30)]
    server.arm("drop_reply", times=5)
    server.arm("error_executed", times=5)
    for order in orders:
        ledger.orders.add(order, path.clock.now())

    def work() -> None:
        for order in orders:
            executor.place(order.id, ledger.books, path.venue, NO_LIMITS, path.clock)
        settle(ledger.books, path.venue, path.clock, Watch())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    path.settle_until(path.is_certain, within_s=20)
    assert path.states() == {S.FILLED: 30}
    path.compare_with_the_journal()
    path.venue.close()
