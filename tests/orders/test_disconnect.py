"""Ledger, broker or order workers are taken away: the venue is told to cancel what is open."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.messages import GuardOrders, ReconcileAccount, SettleOrders, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer, PostgreSQLServer
from tests.integration.swarm import BIN, Swarm, until
from tests.orders.conftest import an_order
from tests.orders.test_workers import Room

S = OrderState
LIMIT_S = "3"


class Stage(Room):
    def __init__(
        self,
        swarm: Swarm,
        exchange: SimulatedExchangeServer,
        ledger: Ledger,
        broker: EmbeddedBrokerServer,
        database: PostgreSQLServer,
    ) -> None:
        super().__init__(swarm, exchange, ledger)
        self.broker = broker
        self.database = database

    def resting(self) -> Order:
        order = an_order()
        self.place(order)
        self.wait_for(order, S.LIVE, timeout_s=40)
        text = self.swarm.processes[-1].text
        assert "cancelled everything" not in text, text[-3000:]
        return order

    def is_watched(self) -> bool:
        """The worker has seen the open order, so it knows what it would have to cancel."""
        last = self.ledger.heartbeats.last("orders")
        return last is not None and last > self.seen_after

    def is_cancelled(self, order: Order) -> bool:
        return any(
            entry["client_order_id"] == order.client_order_id
            for entry in self.exchange.journal("cancel")
        )

    def comes_clean(self) -> bool:
        """By rounds alone, without anybody's hand."""
        send(self.swarm.app, SettleOrders())
        send(self.swarm.app, ReconcileAccount())
        return self.ledger.reconciliations.standing("simulated", "paper").is_clean

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.swarm.run(str(BIN / "botswarm"), *words)

    def watched(self) -> None:
        self.seen_after = datetime.now(UTC)
        until(self.is_watched, "the worker to look", 40)


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as running:
        yield running


@pytest.fixture
def stage(database: PostgreSQLServer, tmp_path: Path) -> Iterator[Stage]:
    with EmbeddedBrokerServer() as broker, SimulatedExchangeServer(tmp_path) as exchange:
        vhost = f"d-{uuid.uuid4().hex[:8]}"
        broker.add_vhost(vhost)
        name = f"d{uuid.uuid4().hex[:8]}"
        database.create_database(name)
        url = database.url(name)
        swarm = Swarm(broker, vhost, tmp_path)
        swarm.settings |= {
            "BOTSWARM_DATABASE_URL": url,
            "BOTSWARM_CANCEL_ON_DISCONNECT_S": LIMIT_S,
        }
        ledger = Ledger(database.ledger_url(name))
        migrate.migrate(ledger.database)
        made = Stage(swarm, exchange, ledger, broker, database)
        try:
            yield made
        finally:
            swarm.close()
            made.venue.close()
            ledger.close()


def test_without_its_ledger_a_worker_cancels_and_comes_clean_by_itself(stage: Stage) -> None:
    worker = stage.swarm.worker("orders")
    order = stage.resting()
    stage.watched()
    stage.database.kill()
    until(lambda: stage.is_cancelled(order), "the order to be cancelled", 60)
    assert worker.text.count("cancelling everything open") == 1
    stage.database.start()
    until(stage.comes_clean, "the account to be clean", 60)
    stage.wait_for(order, S.CANCELED, timeout_s=30)


def test_without_its_ledger_a_worker_obeys_the_emergency_stop_and_tells_the_ledger_later(
    stage: Stage,
) -> None:
    # It would cancel by itself only long after this test.
    stage.swarm.settings["BOTSWARM_CANCEL_ON_DISCONNECT_S"] = "3600"
    stage.swarm.worker("orders")
    order = stage.resting()
    stage.watched()
    stage.database.kill()
    stopped = stage.run("trading", "emergency-stop", "--cancel", "--reason", "fire")
    assert stopped.returncode == 3, stopped.stderr
    assert "stop file after" in stopped.stdout
    assert "Traceback" not in stopped.stderr
    until(lambda: stage.is_cancelled(order), "the order to be cancelled", 60)
    stage.database.start()

    def is_halted() -> bool:
        (swarm,) = [each for each in stage.ledger.halts.all() if each.scope == "swarm"]
        return swarm.state is TradingState.HALTED and swarm.reason.startswith("fire")

    until(is_halted, "the ledger to be told", 60)
    status = stage.run("trading", "status")
    assert "lies in the state folder" in status.stderr
    assert stage.run("trading", "resume", "--yes").returncode == 0
    assert "lies in the state folder" not in stage.run("trading", "status").stderr


def test_without_its_broker_a_worker_cancels(stage: Stage) -> None:
    stage.swarm.worker("orders")
    order = stage.resting()
    stage.watched()
    stage.broker.kill()
    until(lambda: stage.is_cancelled(order), "the order to be cancelled", 60)


def test_when_no_order_worker_is_well_the_ops_worker_cancels(stage: Stage) -> None:
    stage.swarm.worker("orders")
    order = stage.resting()
    stage.watched()
    stage.swarm.processes[-1].signal_group(signal.SIGKILL)
    stage.swarm.worker("ops")

    def asked() -> bool:
        send(stage.swarm.app, GuardOrders())
        return stage.is_cancelled(order)

    until(asked, "the order to be cancelled", 60)
    stage.swarm.worker("orders")
    until(stage.comes_clean, "the account to be clean", 60)
    stage.wait_for(order, S.CANCELED, timeout_s=30)
