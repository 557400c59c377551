"""Reconciliation by real workers and from the command line, on the simulated exchange."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.domain.order import OrderState
from botswarm.ledger.verify import verify
from botswarm.messages import ReconcileAccount, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import Process, until
from tests.orders.conftest import a_market_order, an_order
from tests.orders.test_workers import Room, a_room

S = OrderState
PYTHON = sys.executable
Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBrokerServer]:
    with EmbeddedBrokerServer() as running:
        yield running


@pytest.fixture
def room(broker: EmbeddedBrokerServer, tmp_path: Path) -> Iterator[Room]:
    with a_room(broker, tmp_path) as made:
        yield made


def is_clean(room: Room) -> bool:
    return room.ledger.reconciliations.standing("simulated", "paper").is_clean


def pay_in(exchange: SimulatedExchangeServer, asset: str, amount: str) -> None:
    """Somebody's deposit, while nobody was looking."""
    exchange.stop()
    entry = {"type": "deposit", "at": 0, "account": "paper", "asset": asset, "amount": amount}
    with exchange.journal_path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    exchange.start()


def test_a_worker_takes_the_account_over_before_its_first_order(room: Room) -> None:
    order = a_market_order()
    room.place(order)
    assert not is_clean(room)
    room.swarm.worker("orders")
    room.wait_for(order, S.FILLED, timeout_s=30)
    assert is_clean(room)
    assert verify(room.ledger.database).counts["adjustments"] == 4


def test_nothing_is_traded_on_an_account_that_differs_until_a_person_accepts(room: Room) -> None:
    room.swarm.worker("orders")
    first, resting = a_market_order(), an_order()
    for order, state in ((first, S.FILLED), (resting, S.LIVE)):
        room.place(order)
        room.wait_for(order, state, timeout_s=30)
    stranger = room.exchange.order(newClientOrderId="web_1", price="51000").body
    assert stranger["status"] == "NEW"
    pay_in(room.exchange, "USDT", "0.00000001")
    room.exchange.market_order(newClientOrderId="web_2")
    code, answer = reconcile(room)
    assert code == 3, answer
    (raised,) = answer["data"]["accounts"][0]["raised"]
    assert (raised["subject"], raised["amount"]) == ("balance of USDT", "0.00000001")
    facts = {each["kind"] for each in answer["data"]["found"][0]["differences"]}
    assert facts == {"correction", "external"}
    refused = a_market_order()
    room.place(refused)
    room.wait_for(refused, S.REFUSED)
    reason = room.ledger.orders.get(refused.id).reason or ""
    assert reason.startswith("the account is not reconciled: balance of USDT")
    assert reconcile(room, "--last")[0] == 3
    assert reconcile(room, "--accept", str(raised["id"]))[0] == 2
    code, _ = reconcile(room, "--accept", str(raised["id"]), "--external", "--reason", "mine")
    assert code == 0
    code, answer = reconcile(room)
    assert (code, is_clean(room)) == (0, True), answer
    after = a_market_order()
    room.place(after)
    room.wait_for(after, S.FILLED)
    assert verify(room.ledger.database).is_clean


def test_a_worker_killed_in_the_middle_of_it_books_nothing_twice(room: Room) -> None:
    for delay in (0.2, 0.5, 0.9):
        room.exchange.arm("slow", on="query", seconds=delay, times=2)
        worker = room.swarm.worker("orders")
        send(room.swarm.app, ReconcileAccount())
        asked = functools.partial(_was_asked, worker)
        until(asked, "the worker to be asked")
        worker.signal_group(signal.SIGKILL)
    room.swarm.worker("orders")
    send(room.swarm.app, ReconcileAccount())
    until(lambda: is_clean(room), "the account to be taken over", 30)
    done = verify(room.ledger.database)
    assert (done.is_clean, done.counts["adjustments"]) == (True, 4), done.findings
    has = room.ledger.reconciliations.reckon("simulated", "paper", datetime.now(UTC))
    assert has.balances["USDT"] == Decimal(100_000)


def _was_asked(worker: Process) -> bool:
    return "workers.orders.reconcile" in worker.text


def reconcile(room: Room, *words: str) -> tuple[int, Any]:
    done = room.swarm.run(PYTHON, "-m", "botswarm", "ledger", "reconcile", *words, "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)
