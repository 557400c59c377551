"""Ending an order in doubt by a person's word, where the venue itself cannot prove anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from botswarm.clock import SystemClock
from botswarm.domain.order import Order, OrderState
from botswarm.domain.reconciliation import Fate, Kind
from botswarm.ledger.models import AttemptRow, AuditRow
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.venue import Fate as Fortune
from botswarm.testing.venue import Fault
from botswarm.trading import executor
from tests.command_line import alone, called
from tests.orders.conftest import NO_LIMITS, a_venue, an_order
from tests.orders.test_reconcile import Room

S = OrderState
NEVER = datetime(2126, 1, 1, tzinfo=UTC)
LOOKED = ("--not-placed", "--reason", "its page shows nothing")
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(
    sqlite_ledger: Ledger,
    exchange: SimulatedExchangeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    alone(
        monkeypatch,
        tmp_path,
        BOTSWARM_STATE_DIR=str(exchange.state_dir),
        BOTSWARM_DATABASE_URL=f"sqlite:///{tmp_path / 'ledger.db'}",
    )
    return lambda *words: called(capsys, *words)


def in_doubt(
    ledger: Ledger,
    exchange: SimulatedExchangeServer,
    fault: str = "drop_request",
    *,
    age: timedelta = timedelta(minutes=16),
    fence: datetime = NEVER,
) -> Order:
    """An order whose outcome nobody knows, signed so long ago."""
    order, venue = an_order(), a_venue(exchange)
    exchange.arm(fault)
    ledger.orders.add(order, datetime.now(UTC))
    ledger.books.save_instruments(venue.instruments())
    executor.place(order.id, ledger.books, venue, NO_LIMITS, SystemClock())
    venue.close()
    assert ledger.orders.get(order.id).state is S.UNKNOWN
    signed_at = datetime.now(UTC) - age
    ledger.database.write(
        lambda session: session.execute(
            update(AttemptRow)
            .where(AttemptRow.order_id == order.id)
            .values(signed_at=signed_at, fence_at=fence)
        )
    )
    return order


def audited(ledger: Ledger) -> list[AuditRow]:
    question = select(AuditRow).where(AuditRow.action == "order.not-placed")
    return ledger.database.read(lambda session: list(session.scalars(question)))


def test_a_person_ends_an_order_that_no_proof_comes_for_and_it_is_audited(
    ask: Ask, sqlite_ledger: Ledger, exchange: SimulatedExchangeServer
) -> None:
    order = in_doubt(sqlite_ledger, exchange)
    code, said = ask("order", "resolve", order.id, *LOOKED)
    assert (code, said["error"]["code"]) == (6, "BSW-6001")
    assert sqlite_ledger.orders.get(order.id).state is S.UNKNOWN

    code, said = ask("order", "resolve", order.id, *LOOKED, "--yes")
    assert (code, said["data"]["order"]["state"]) == (0, "rejected")
    assert "its page shows nothing" in said["data"]["order"]["reason"]
    questions = [step["question"] for step in said["data"]["steps"]]
    assert "the open orders of BTC-USDT" in questions, "the venue was not asked"
    (row,) = audited(sqlite_ledger)
    assert (row.subject, row.before) == (f"order:{order.id}", {"state": "unknown"})
    assert (row.reason, row.actor[:4]) == ("its page shows nothing", "cli:")
    assert sqlite_ledger.books.in_doubt(order.venue, order.account) == []


def test_a_fence_that_never_comes_is_said_to_be_none(
    ask: Ask, sqlite_ledger: Ledger, exchange: SimulatedExchangeServer
) -> None:
    order = in_doubt(sqlite_ledger, exchange)
    code, said = ask("order", "resolve", order.id, "--wait", "1")
    assert code == 7
    (told,) = [each for each in said["data"]["steps"] if each["question"] == "waiting"]
    assert "refuses nothing for being late" in told["answer"]
    assert "--not-placed" in said["error"]["cure"]
    _, said = ask("order", "why", order.id)
    assert "never refuses" in " ".join(step["words"] for step in said["data"]["steps"])


def test_nobodys_word_is_taken_against_what_the_venue_says(
    ask: Ask, sqlite_ledger: Ledger, exchange: SimulatedExchangeServer
) -> None:
    order = in_doubt(sqlite_ledger, exchange, "drop_reply")
    assert ask("order", "resolve", order.id, *LOOKED, "--yes")[0] == 6
    assert sqlite_ledger.orders.get(order.id).state is S.LIVE
    assert audited(sqlite_ledger) == []


def test_no_word_is_taken_where_a_proof_comes_or_too_early_or_without_an_answer(
    ask: Ask, sqlite_ledger: Ledger, exchange: SimulatedExchangeServer
) -> None:
    proven = in_doubt(sqlite_ledger, exchange, fence=datetime.now(UTC) - timedelta(minutes=10))
    early = in_doubt(sqlite_ledger, exchange, age=timedelta(minutes=14))
    for order, words in ((proven, "prove"), (early, "may still be on its way")):
        code, said = ask("order", "resolve", order.id, *LOOKED, "--yes")
        assert code == 6
        assert words in said["error"]["cause"]
    mute = in_doubt(sqlite_ledger, exchange)
    exchange.arm("drop_request", on="query", times=50)
    code, said = ask("order", "resolve", mute.id, *LOOKED, "--yes")
    assert code == 5, said
    exchange.misbehaviour("DELETE")
    assert ask("order", "resolve", mute.id, "--not-placed", "--yes")[0] == 2
    for order in (proven, early, mute):
        assert sqlite_ledger.orders.get(order.id).state is S.UNKNOWN
    assert audited(sqlite_ledger) == []


@pytest.mark.parametrize("fortune", [Fortune.RESTS, Fortune.FILLS])
def test_a_word_that_was_wrong_is_found_out_when_the_account_is_compared(
    tmp_path: Path, fortune: Fortune
) -> None:
    room = Room(tmp_path)
    try:
        room.reconcile()
        room.venue.faults.append(Fault.LOSE_REPLY)
        order = room.place(fortune)
        ((_, fence),) = room.ledger.books.in_doubt(order.venue, order.account)
        assert fence is not None
        said = {"actor": "cli:ann", "reason": "its page shows nothing"}
        room.ledger.books.declare_not_placed(order.id, fence, room.clock.now(), **said)
        assert room.state(order) is S.REJECTED
        found = {(each.kind, each.fate) for each in room.reconcile().differences}
        assert (Kind.CONTRADICTION, Fate.RAISED) in found
        assert room.place_if_allowed(Fortune.RESTS).state is S.REFUSED  # type: ignore[union-attr]
    finally:
        room.ledger.close()
