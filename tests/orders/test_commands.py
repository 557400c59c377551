"""What `botswarm order` and `botswarm trading` answer, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger.store import Ledger
from botswarm.testing.venue import FakeVenue, Fate, Fault
from botswarm.trading import executor
from tests.command_line import run_botswarm
from tests.orders.conftest import NO_LIMITS, an_order
from tests.orders.test_venue_contract import BTC

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(sqlite_ledger: Ledger, tmp_path: Path) -> Run:
    """The command line in a folder of its own: exit code, and the answer as JSON or text."""

    def call(*words: str, is_json: bool = True) -> tuple[int, Any]:
        form = ["--json"] if is_json else []
        environ = {"DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
        done = run_botswarm(*words, *form, folder=tmp_path, environ=environ)
        return done.returncode, json.loads(done.stdout) if is_json else done.stdout + done.stderr

    return call


def placed(ledger: Ledger, fate: Fate, fault: Fault = Fault.NONE, **changes: Any) -> Order:
    ledger.books.save_instruments([BTC])
    venue = FakeVenue(SystemClock(), [BTC])
    venue.fate = fate
    venue.faults.append(fault)
    order = an_order(**changes)
    ledger.orders.add(order, datetime.now(UTC))
    executor.place(order.id, ledger.books, venue, NO_LIMITS, SystemClock())
    return order


def test_orders_are_listed_newest_first_and_by_what_is_asked(
    run: Run, sqlite_ledger: Ledger
) -> None:
    filled = placed(sqlite_ledger, Fate.FILLS)
    # Trade ids of another fake begin anew, so the second order fills nothing.
    unknown = placed(sqlite_ledger, Fate.RESTS, Fault.LOSE_REPLY, bot="hare")
    code, answer = run("order", "list")
    assert code == 0
    assert [each["id"] for each in answer["data"]] == [unknown.id, filled.id]
    _, answer = run("order", "list", "--state", "unknown")
    assert [each["id"] for each in answer["data"]] == [unknown.id]
    _, answer = run("order", "list", "--bot", "turtle", "--market", "simulated:btc-usdt")
    assert [each["id"] for each in answer["data"]] == [filled.id]
    _, text = run("order", "list", is_json=False)
    assert filled.id in text
    assert run("order", "list", "--market", "BTC", is_json=False)[0] == 2


def test_a_position_is_closed_where_nobody_tells_its_price(run: Run, sqlite_ledger: Ledger) -> None:
    bought = placed(sqlite_ledger, Fate.FILLS, reference_price=Decimal(99_000))
    code, answer = run("position", "close", "--all", "--yes")
    assert code == 0, answer
    (closing,) = answer["data"]["orders"]
    assert (closing["is_reduce_only"], closing["quantity"]) == (True, f"{bought.quantity:f}")
    (held,) = sqlite_ledger.orders.positions()
    assert Decimal(closing["reference_price"]) == round(held.cost / held.quantity, 8)
    assert "tells no price" in answer["warnings"][0]
    _, answer = run("order", "place", "simulated:BTC-USDT", "buy", "1", "--account", "ccxt-okx:m")
    assert "is a market of simulated" in answer["error"]["cause"]
    sqlite_ledger.books.save_instruments([dataclasses.replace(BTC, venue="ccxt-okx")])
    words = ("order", "place", "ccxt-okx:BTC-USDT", "buy", "1", "--account", "ccxt-okx:main")
    _, answer = run(*words)
    assert "--limit" in answer["error"]["cure"]


def test_an_order_tells_its_whole_story(run: Run, sqlite_ledger: Ledger) -> None:
    order = placed(sqlite_ledger, Fate.FILLS)
    code, answer = run("order", "show", order.id)
    assert code == 0
    story = answer["data"]
    assert [event["after"] for event in story["events"]] == [
        *("ready", "approved", "sending", "filled")
    ]
    assert len(story["attempts"]) == 1
    assert sum(Decimal(fill["quantity"]) for fill in story["fills"]) == order.quantity
    assert run("order", "show", order.client_order_id)[1]["data"]["id"] == order.id
    _, text = run("order", "show", order.id, is_json=False)
    assert "VENUE REFUSES IT FROM" in text
    code, answer = run("order", "show", "no-such-order")
    assert (code, answer["error"]["code"]) == (4, "BSW-4000")


def test_a_halt_stops_orders_and_only_a_confirmed_person_resumes(
    run: Run, sqlite_ledger: Ledger
) -> None:
    assert run("trading", "halt", "--reason", "the cat walked over the keys")[0] == 0
    stopped = placed(sqlite_ledger, Fate.FILLS)
    assert sqlite_ledger.orders.get(stopped.id).state is OrderState.REFUSED
    _, answer = run("trading", "status")
    (swarm,) = [each for each in answer["data"]["states"] if each["scope"] == "swarm"]
    assert (swarm["state"], swarm["reason"]) == ("halted", "the cat walked over the keys")
    code, answer = run("trading", "resume")
    assert (code, answer["error"]["code"]) == (6, "BSW-6001")
    assert run("trading", "resume", "--yes")[0] == 0
    going = placed(sqlite_ledger, Fate.FILLS)
    assert sqlite_ledger.orders.get(going.id).state is OrderState.FILLED
    database = sqlite3.connect(str(sqlite_ledger.database.path))
    with database:
        audited = database.execute("select count(*) from audit where action = 'trading.set'")
        assert audited.fetchone() == (2,)
    database.close()


def test_one_bot_or_market_can_be_halted(run: Run, sqlite_ledger: Ledger) -> None:
    assert run("trading", "halt", "--bot", "turtle")[0] == 0
    stopped = placed(sqlite_ledger, Fate.FILLS)
    going = placed(sqlite_ledger, Fate.FILLS, bot="hare")
    assert sqlite_ledger.orders.get(stopped.id).state is OrderState.REFUSED
    assert sqlite_ledger.orders.get(going.id).state is OrderState.FILLED
    assert run("trading", "halt", "--market", "simulated:BTC-USDT", "--reducing")[0] == 0
    reduced = placed(sqlite_ledger, Fate.FILLS, bot="hare")
    kept = sqlite_ledger.orders.get(reduced.id)
    assert (kept.state, kept.reason) == (
        OrderState.REFUSED,
        "trading is reducing: only orders that shrink a position pass",
    )
    assert run("trading", "halt", "--bot", "a", "--market", "x:Y", is_json=False)[0] == 2


def test_a_halt_can_be_of_a_strategy_and_have_an_end(run: Run, sqlite_ledger: Ledger) -> None:
    code, answer = run("trading", "halt", "--strategy", "grid", "--for", "30m", "--reducing")
    assert (code, answer["data"]["scope"]) == (0, "strategy:grid")
    (said,) = [each for each in sqlite_ledger.halts.all() if each.scope == "strategy:grid"]
    assert said.until is not None
    assert timedelta(minutes=20) < said.until - said.at <= timedelta(minutes=30)
    assert run("trading", "halt", "--for", "30m", "--until", "23:59", is_json=False)[0] == 2
    _, text = run("trading", "status", is_json=False)
    assert "strategy:grid" in text
    assert "swarm          active" in text


def test_a_stop_waits_for_what_is_on_its_way_and_says_what_rests(
    run: Run, sqlite_ledger: Ledger
) -> None:
    placed(sqlite_ledger, Fate.RESTS)
    code, answer = run("trading", "stop", "--drain")
    assert (code, answer["data"]["is_drained"]) == (0, True)
    assert answer["data"]["orders"] == {"waiting": 0, "on_the_way": 0, "resting": 1}
    now = datetime.now(UTC)
    swarm = {"reason": "test", "actor": "test", "now": now, "is_human": True}
    sqlite_ledger.halts.set("swarm", TradingState.ACTIVE, **swarm)  # type: ignore[arg-type]
    placed(sqlite_ledger, Fate.RESTS, Fault.LOSE_REPLY)
    code, answer = run("trading", "stop", "--drain", "--wait", "0.5")
    assert (code, answer["data"]["orders"]["on_the_way"]) == (7, 1)
    assert "1 are on their way" in answer["error"]["cause"]
    assert sqlite_ledger.halts.all()[-1].state is TradingState.HALTED


def test_a_ledger_that_was_never_made_is_said_so(tmp_path: Path) -> None:
    for words in (["order", "list"], ["trading", "status"]):
        done = run_botswarm(*words, folder=tmp_path)
        assert done.returncode == 5
        assert "botswarm db migrate" in done.stderr
