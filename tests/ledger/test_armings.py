"""Real money is off until a person arms it, and what grows a position asks for that at the end."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest
from sqlalchemy import select

from botswarm import errors
from botswarm.clock import SystemClock
from botswarm.config import Settings, load
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import Approved, Exposure, Frozen, Refused
from botswarm.exchanges.accounts import Account
from botswarm.ledger.armings import LiveBooks
from botswarm.ledger.models import AuditRow
from botswarm.ledger.store import Ledger
from botswarm.risk import gate
from tests.ledger.conftest import ACCOUNT, NOW, VENUE, Request, a_fill, an_order, let_pass, sent
from workers.desks import Desks, books_of

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def books(ledger: Ledger) -> LiveBooks:
    return LiveBooks(ledger.database, gate.shrinks)


def arm(ledger: Ledger, **changes: object) -> None:
    given = {"actor": "alice", "reason": "the first day", "now": NOW} | changes
    ledger.armings.arm(VENUE, ACCOUNT, **given)  # type: ignore[arg-type]


def disarm(ledger: Ledger) -> None:
    ledger.armings.disarm(VENUE, ACCOUNT, actor="bob", reason="enough", now=NOW)


def judged(ledger: Ledger, books: LiveBooks, **changes: object) -> object:
    order = an_order(**changes)
    assert ledger.orders.add(order, NOW)
    return books.judge(order.id, let_pass, NOW)


def test_nothing_is_approved_on_an_account_that_was_never_armed(
    ledger: Ledger, books: LiveBooks
) -> None:
    verdict = judged(ledger, books)
    assert isinstance(verdict, Refused)
    assert verdict.order.state is OrderState.REFUSED
    assert verdict.reason == (
        "simulated:paper is real money, and it is not armed (botswarm trading arm simulated:paper)"
    )
    assert not ledger.armings.was_armed(VENUE, ACCOUNT)


def test_an_armed_account_trades_until_it_is_disarmed_or_the_time_is_over(
    ledger: Ledger, books: LiveBooks
) -> None:
    arm(ledger)
    assert isinstance(judged(ledger, books), Approved)
    disarm(ledger)
    assert isinstance(judged(ledger, books), Refused)
    arm(ledger, until=LATER)
    assert isinstance(judged(ledger, books), Approved)
    arm(ledger, now=NOW - timedelta(hours=2), until=NOW)
    verdict = judged(ledger, books)
    assert isinstance(verdict, Refused)
    assert "not armed any more since 2026-03-04 12:00:00" in verdict.reason
    (said,) = ledger.armings.all()
    assert (said.is_armed(NOW - timedelta(seconds=1)), said.is_armed(NOW)) == (True, False)


def test_a_disarmed_account_still_sells_what_it_holds(ledger: Ledger, books: LiveBooks) -> None:
    arm(ledger)
    bought = sent(ledger, quantity=Decimal(1))
    ledger.books.record(
        bought.id, OrderState.FILLED, NOW, fills=[a_fill(bought, 1, quantity=Decimal(1))]
    )
    disarm(ledger)
    assert isinstance(judged(ledger, books, side=Side.SELL, quantity=Decimal("0.9")), Approved)
    assert isinstance(judged(ledger, books, side=Side.SELL, quantity=Decimal("0.9")), Refused)
    assert isinstance(judged(ledger, books, quantity=Decimal(1)), Refused)


def test_what_was_approved_before_is_not_sent_after_the_account_was_disarmed(
    ledger: Ledger, books: LiveBooks
) -> None:
    arm(ledger)
    verdict = judged(ledger, books)
    assert isinstance(verdict, Approved)
    disarm(ledger)
    order = verdict.order
    begun = books.begin(
        order.id,
        let_pass,
        lambda each, _: Frozen(each, Request()),
        NOW,
        OrderState.APPROVED,
    )
    assert isinstance(begun, Refused)
    # And bytes that were frozen in between are held back by whoever holds them.
    assert books.is_halted(order, NOW)
    arm(ledger)
    assert not books.is_halted(order, NOW)


def test_numbers_that_cannot_be_computed_with_shrink_nothing(ledger: Ledger) -> None:
    def cannot(_: Order, __: Exposure) -> bool:
        raise InvalidOperation

    verdict = judged(ledger, LiveBooks(ledger.database, cannot), side=Side.SELL)
    assert isinstance(verdict, Refused)
    assert "is not armed" in verdict.reason


def test_who_armed_and_disarmed_is_in_the_audit(ledger: Ledger) -> None:
    assert ledger.armings.disarm(VENUE, ACCOUNT, actor="x", reason="y", now=NOW) is None
    arm(ledger, until=LATER)
    disarm(ledger)
    question = select(AuditRow).where(AuditRow.action.in_(("account.arm", "account.disarm")))
    rows = ledger.database.read(lambda session: list(session.scalars(question)))
    assert [(row.action, row.actor, row.reason) for row in rows] == [
        ("account.arm", "alice", "the first day"),
        ("account.disarm", "bob", "enough"),
    ]
    assert {row.subject for row in rows} == {"account:simulated:paper"}
    assert rows[1].before is not None
    assert rows[1].before["until"] == LATER.isoformat()


# --- what an order worker makes of it -------------------------------------------------------------


def settings(folder: Path, url: str) -> Settings:
    environ = {
        "BOTSWARM_STATE_DIR": str(folder),
        "BOTSWARM_BINANCE_API_KEY": "some-key",
        "BOTSWARM_BINANCE_API_SECRET": "some-secret",
        "BOTSWARM_BINANCE_REST_URL": url,
    }
    return load(environ=environ, folder=folder).settings


def test_orders_of_real_money_begin_in_books_that_ask_and_others_do_not(
    ledger: Ledger, tmp_path: Path
) -> None:
    real = settings(tmp_path, "https://api.binance.com")
    play = settings(tmp_path, "https://testnet.binance.vision")
    spot, paper = Account("binance", "spot"), Account("binance", "paper")
    assert isinstance(books_of(real, ledger, spot), LiveBooks)
    assert books_of(play, ledger, spot) is ledger.books
    assert books_of(real, ledger, paper) is ledger.books


def test_an_order_worker_does_not_speak_to_real_money_that_was_never_armed(
    ledger: Ledger, tmp_path: Path
) -> None:
    real = settings(tmp_path, "https://api.binance.com")
    with pytest.raises(errors.Refused, match="binance:spot is not armed"):
        Desks(real, ledger, SystemClock()).of(Account("binance", "spot"))
