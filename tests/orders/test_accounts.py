"""Several accounts in one worker: one that is not answered keeps nobody else waiting."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botswarm.domain.order import Order, OrderState
from botswarm.ledger import migrate
from botswarm.ledger.outbox import placing
from botswarm.ledger.store import Ledger
from botswarm.messages import SettleOrders, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import Swarm, until
from tests.orders.conftest import a_market_order
from tests.orders.test_venue_contract import BTC
from tests.standing import reconciled

S = OrderState


@pytest.fixture
def mute() -> Iterator[str]:
    """A venue that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def room(tmp_path: Path, mute: str) -> Iterator[tuple[Swarm, Ledger]]:
    vhost = f"a-{uuid.uuid4().hex[:8]}"
    with EmbeddedBrokerServer() as broker, SimulatedExchangeServer(tmp_path):
        broker.add_vhost(vhost)
        ledger = Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")
        migrate.migrate(ledger.database)
        for venue, account in (("simulated", "paper"), ("binance", "spot")):
            reconciled(ledger, datetime.now(UTC), venue=venue, account=account)
        # Or the mute one's desk could not even be made.
        ledger.books.save_instruments([BTC])
        swarm = Swarm(broker, vhost, tmp_path)
        swarm.settings |= {
            "BOTSWARM_BINANCE_API_KEY": "key",
            "BOTSWARM_BINANCE_API_SECRET": "secret",
            "BOTSWARM_BINANCE_REST_URL": mute,
            "BOTSWARM_BINANCE_WS_API_URL": mute.replace("http", "ws"),
        }
        swarm.worker("orders")
        try:
            yield swarm, ledger
        finally:
            swarm.close()
            ledger.close()


def placed(room: tuple[Swarm, Ledger], **changes: object) -> Order:
    swarm, ledger = room
    life = datetime.now(UTC) + timedelta(minutes=5)
    order = a_market_order(signal_expires_at=life, **changes)
    ledger.orders.add(order, datetime.now(UTC))
    send(swarm.app, placing(order), task_id=order.id)
    return order


def test_orders_of_one_account_pass_while_another_is_not_answered(
    room: tuple[Swarm, Ledger],
) -> None:
    swarm, ledger = room
    # More of them than the worker has children, each of which would wait for many seconds.
    stuck = [placed(room, venue="binance", account="spot") for _ in range(12)]
    going = []
    for _ in range(8):
        send(swarm.app, SettleOrders())
        going.append(placed(room))
        time.sleep(0.2)

    def all_filled() -> bool:
        send(swarm.app, SettleOrders())
        time.sleep(0.3)
        return all(ledger.orders.get(order.id).state is S.FILLED for order in going)

    until(all_filled, f"the others to be filled: {swarm.processes[-1].text[-3000:]}", 90)
    waiting = {ledger.orders.get(order.id).state for order in stuck}
    assert waiting <= {S.READY, S.APPROVED}
