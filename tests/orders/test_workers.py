"""The queue ``orders`` with real workers, a real broker and the simulated exchange."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.domain.order import Order, OrderState
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.ledger import migrate
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.store import Ledger
from botswarm.messages import PlaceOrder, SettleOrders, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import Swarm, until
from tests.orders.conftest import a_market_order, a_venue, an_order

S = OrderState


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBrokerServer]:
    with EmbeddedBrokerServer() as running:
        yield running


class Room:
    """A swarm in a folder with an exchange, a ledger, and no beat: nothing settles by itself."""

    def __init__(self, swarm: Swarm, exchange: SimulatedExchangeServer, ledger: Ledger) -> None:
        self.swarm = swarm
        self.exchange = exchange
        self.ledger = ledger
        self.venue: BinanceTrading = a_venue(exchange)

    def place(self, order: Order) -> None:
        self.ledger.orders.add(order, datetime.now(UTC))
        send(self.swarm.app, PlaceOrder(order_id=order.id), task_id=order.id)

    def state(self, order: Order) -> OrderState:
        return self.ledger.orders.get(order.id).state

    def wait_for(self, order: Order, state: OrderState, timeout_s: float = 15) -> None:
        what = f"{order.id} to be {state}; workers: {self.swarm.processes[-1].text[-3000:]}"
        until(lambda: self.state(order) is state, what, timeout_s)

    def accepted(self, order: Order) -> int:
        return sum(
            entry["client_order_id"] == order.client_order_id
            for entry in self.exchange.journal("order")
        )


@contextmanager
def a_room(broker: EmbeddedBrokerServer, folder: Path) -> Iterator[Room]:
    vhost = f"o-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(vhost)
    swarm = Swarm(broker, vhost, folder)
    with SimulatedExchangeServer(folder) as exchange:
        ledger = Ledger(f"sqlite:///{folder / 'state' / 'ledger.db'}")
        migrate.migrate(ledger.database)
        made = Room(swarm, exchange, ledger)
        try:
            yield made
        finally:
            swarm.close()
            made.venue.close()
            ledger.close()
            broker.delete_vhost(vhost)


@pytest.fixture
def room(broker: EmbeddedBrokerServer, tmp_path: Path) -> Iterator[Room]:
    with a_room(broker, tmp_path) as made:
        yield made


def test_an_order_goes_from_its_message_to_its_fill(room: Room) -> None:
    room.swarm.worker("orders")
    orders = [a_market_order(quantity=Decimal("0.001")) for _ in range(10)]
    for order in orders:
        room.place(order)
    for order in orders:
        room.wait_for(order, S.FILLED)
        assert room.accepted(order) == 1
    big = a_market_order(quantity=Decimal("0.1"))
    room.place(big)
    room.wait_for(big, S.REFUSED)
    assert "limit_order_notional_max" in (room.ledger.orders.get(big.id).reason or "")


def test_what_happens_to_a_resting_order_rings_at_once(room: Room) -> None:
    worker = room.swarm.worker("orders")
    resting = [an_order(), an_order()]
    for order in resting:
        room.place(order)
        room.wait_for(order, S.LIVE)
    began = time.monotonic()
    room.venue.cancel(resting[0])
    room.wait_for(resting[0], S.CANCELED, timeout_s=5)
    assert time.monotonic() - began < 3, "only a periodic round could have been this slow"
    # The exchange goes and comes back: so does the stream.
    room.exchange.kill()
    until(lambda: "user data: " in worker.text, "the listener to notice")
    room.exchange.start()
    room.venue.close()
    room.venue = a_venue(room.exchange)
    room.venue.cancel(resting[1])
    room.wait_for(resting[1], S.CANCELED, timeout_s=20)


def test_a_worker_killed_while_the_exchange_answers_loses_and_doubles_nothing(room: Room) -> None:
    room.swarm.worker("orders")
    order = an_order()
    room.exchange.arm("slow", seconds=3)
    room.place(order)
    until(lambda: room.accepted(order), "the exchange to have it")
    assert room.state(order) is S.SENDING
    room.swarm.processes[-1].signal_group(signal.SIGKILL)
    room.swarm.worker("orders")

    def settled() -> bool:
        send(room.swarm.app, SettleOrders())
        return room.state(order) is S.LIVE

    until(settled, "the order to be known", 20)
    assert room.accepted(order) == 1


def test_an_order_waits_for_an_exchange_that_is_not_there_yet(room: Room) -> None:
    room.exchange.stop()
    room.swarm.worker("orders")
    order = a_market_order()
    room.place(order)
    until(lambda: "is left as it stands" in room.swarm.processes[-1].text, "the word about it")
    assert room.state(order) is S.READY
    room.exchange.start()
    send(room.swarm.app, PlaceOrder(order_id=order.id))
    room.wait_for(order, S.FILLED)
    assert room.swarm.length("orders.dead") == 0


def test_rounds_that_last_long_leave_room_for_orders(room: Room) -> None:
    room.swarm.worker("orders")
    doubtful = [an_order(), an_order()]
    room.exchange.arm("drop_reply", times=2)
    for order in doubtful:
        room.place(order)
        room.wait_for(order, S.UNKNOWN)
    room.exchange.arm("slow", on="query", seconds=8, times=4)
    for _ in range(12):
        send(room.swarm.app, SettleOrders())
    time.sleep(1)
    order = a_market_order()
    began = time.monotonic()
    room.place(order)
    room.wait_for(order, S.FILLED, timeout_s=6)
    assert time.monotonic() - began < 6, "every child was waiting for the venue"


def test_workers_killed_again_and_again_under_load_lose_and_double_nothing(room: Room) -> None:
    for limit in ("OPEN", "POSITION"):
        room.swarm.settings[f"BOTSWARM_LIMIT_{limit}_NOTIONAL_MAX"] = "1000000"
    # The machine may stall while the workers start again.
    room.swarm.settings["BOTSWARM_LIMIT_SIGNAL_AGE_MAX_S"] = "60"
    orders: list[Order] = []
    for number in range(4):
        room.swarm.worker("orders")
        for _ in range(12):
            # Some of the answers take long enough to be cut off by the kill.
            if len(orders) % 3 == 0:
                room.exchange.arm("slow", seconds=0.2 * number + 0.1)
            make = a_market_order if len(orders) % 2 else an_order
            life = datetime.now(UTC) + timedelta(seconds=60)
            orders.append(make(quantity=Decimal("0.001"), signal_expires_at=life))
            room.place(orders[-1])
            time.sleep(0.05)
        room.swarm.processes[-1].signal_group(signal.SIGKILL)
    room.swarm.worker("orders")

    def is_certain() -> bool:
        send(room.swarm.app, SettleOrders())
        for order in orders:
            # What the sweeper does: ring again for rows that nobody looked at.
            if room.state(order) in (S.READY, S.APPROVED):
                send(room.swarm.app, PlaceOrder(order_id=order.id))
        time.sleep(0.2)
        doubtful = {S.READY, S.APPROVED, S.SENDING, S.UNKNOWN}
        return not any(room.state(order) in doubtful for order in orders)

    until(is_certain, "every order to be known", 60)
    for order in orders:
        nothing_there = room.state(order) in (S.STALE, S.REFUSED, S.REJECTED)
        assert room.accepted(order) == (0 if nothing_there else 1), order
    assert sum(room.accepted(order) for order in orders) > len(orders) / 2
    done = verify_against(room.ledger.database, room.exchange.journal_path)
    assert done.is_clean, done.findings
