"""The whole order path under every fault at other venues than Binance: none twice, none lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState, TimeInForce
from botswarm.exchanges.base import TradingVenue
from botswarm.exchanges.coinbase import private, trading
from botswarm.exchanges.kraken import placing
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.trading import executor
from botswarm.trading import settle as settling
from botswarm.trading.reconcile import reconcile
from botswarm.trading.settle import Watch, settle
from tests.orders.conftest import NO_LIMITS, a_market_order, an_order, sqlite_ledger
from tests.venues.doors import DOORS, Door

__all__ = ["sqlite_ledger"]

S = OrderState


@dataclass(frozen=True, slots=True)
class Stage:
    """A venue, and how its proof is had in less time: what it waits for is the venue's word."""

    name: str
    sooner: Sequence[tuple[object, str, object]]
    too_late_s: float
    """A request that is held for so long reaches the engine after its fence."""

    @property
    def door(self) -> Door:
        (found,) = [door for door in DOORS if str(door) == self.name]
        return found


STAGES = (
    Stage("kraken", ((placing, "DEADLINE", timedelta(seconds=2)),), 2.5),
    Stage(
        "coinbase",
        (
            (private, "TOKEN_S", 1),
            (trading, "TOKEN_S", 1),
            # The exchange is lenient for five seconds.
            (trading, "FENCE_AFTER_TOKEN", timedelta(seconds=6)),
        ),
        7.5,
    ),
)
PROOF_WITHIN_S = 60.0
EXECUTED = ("drop_reply", "truncate_reply", "garbage_reply", "timeout_executed", "error_executed")
NOT_EXECUTED = ("drop_request", "timeout_not_executed", "error_not_executed")


@pytest.fixture
def server() -> Iterator[SimulatedExchangeServer]:
    """One of its own: its journal is compared with the ledger, whole."""
    options = ["--kraken-tier", "unlimited", "--coinbase-per-s", "10000"]
    with SimulatedExchangeServer(options=options) as running:
        yield running


@pytest.fixture(params=STAGES, ids=lambda stage: stage.name)
def stage(request: pytest.FixtureRequest) -> Stage:
    found: Stage = request.param
    return found


@pytest.fixture
def venue(stage: Stage, server: SimulatedExchangeServer, tmp_path: Path) -> Iterator[TradingVenue]:
    made = stage.door.venue(server, tmp_path)
    yield made
    made.close()


def hold_against(venue: TradingVenue, ledger: Ledger) -> None:
    """Trading begins when the account is clean, and in the end it is so again, to the digit."""
    done = reconcile(
        ledger.books, ledger.reconciliations, venue, SystemClock(), lambda _: time.sleep(0.5)
    )
    assert done.agrees, done


def at(stage: Stage, order: Order, **changes: object) -> Order:
    return replace(order, venue=stage.name, account="main", **changes)  # type: ignore[arg-type]


def test_every_fault_ends_in_one_order_or_in_none(
    stage: Stage,
    server: SimulatedExchangeServer,
    venue: TradingVenue,
    sqlite_ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for where, name, value in stage.sooner:
        monkeypatch.setattr(where, name, value)
    monkeypatch.setattr(settling, "EMPTY_ROUNDS_APART_S", 2.0)
    books, clock, watch = sqlite_ledger.books, SystemClock(), Watch()
    books.save_instruments(venue.instruments())
    hold_against(venue, sqlite_ledger)
    expected: list[tuple[Order, set[OrderState]]] = []

    def place(order: Order, *states: OrderState, fault: str, **wish: object) -> None:
        assert server.arm(fault, venue=stage.name, **wish).status == 200
        expected.append((order, set(states)))
        sqlite_ledger.orders.add(order, clock.now())
        executor.place(order.id, books, venue, NO_LIMITS, clock)

    later = datetime.now(UTC) + timedelta(minutes=10)
    for fault in EXECUTED:
        place(at(stage, a_market_order()), S.FILLED, fault=fault)
        place(at(stage, an_order()), S.LIVE, fault=fault)
        fok = at(stage, an_order(), time_in_force=TimeInForce.FOK)
        place(fok, S.CANCELED, S.EXPIRED, fault=fault)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    for fault in NOT_EXECUTED:
        place(at(stage, a_market_order(), signal_expires_at=soon), S.STALE, fault=fault)
        place(at(stage, a_market_order(), signal_expires_at=later), S.FILLED, fault=fault)
        place(at(stage, an_order(), signal_expires_at=later), S.LIVE, fault=fault)
    place(at(stage, an_order()), S.LIVE, fault="twice")
    # Held beyond its fence the venue itself refuses it: that is what keeps late senders out.
    held = at(stage, a_market_order(), signal_expires_at=soon)
    place(held, S.STALE, S.REJECTED, fault="hold", seconds=stage.too_late_s)
    place(at(stage, a_market_order()), S.FILLED, fault="query_lag", seconds=2)

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
    stage: Stage, server: SimulatedExchangeServer, venue: TradingVenue, sqlite_ledger: Ledger
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
        orders.append(at(stage, make(), signal_expires_at=later))
        sqlite_ledger.orders.add(orders[-1], clock.now())
    for _ in range(20):
        assert server.arm(choice.choice(EXECUTED), venue=stage.name).status == 200

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
