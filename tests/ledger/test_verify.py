"""Whoever changes the books behind the ledger's back is found out, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState, Side
from botswarm.errors import BotswarmError, NotFound
from botswarm.ledger import chain
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.models import EntryRow, FillRow
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import Verification, verify
from tests.ledger.conftest import ACCOUNT, NOW, VENUE, a_fill, an_order, sent

S = OrderState


@pytest.fixture
def history(ledger: Ledger) -> list[Order]:
    """Two bots that traded, and an order that was refused."""
    alpha, beta = sent(ledger), sent(ledger, bot="beta", side=Side.SELL)
    for number in (1, 2, 3):
        ledger.books.book([a_fill(alpha, number)], NOW)
        ledger.books.book([a_fill(beta, number + 10, commission_asset="USDT")], NOW)
    ledger.books.record(alpha.id, S.PARTIAL, NOW, venue_order_id="1")
    ledger.books.record(beta.id, S.CANCELED, NOW, venue_order_id="2")
    refused = sent(ledger, bot="gamma")
    ledger.books.record(refused.id, S.REJECTED, NOW)
    assert verify(ledger.database).findings == []
    return [alpha, beta, refused]


def tamper(database: Database, *statements: str, **values: str) -> None:
    """With the rights of who owns the database: foreign keys do not stop them."""
    open_ = Database(database.url.render_as_string(hide_password=False), foreign_keys=False)
    with open_.connection() as connection, connection.begin():
        if not open_.is_sqlite:
            connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            assert connection.execute(text(statement), values).rowcount != 0, "nothing was changed"
    open_.close()


def found(done: Verification) -> set[tuple[str, str]]:
    return {(finding.check, finding.subject) for finding in done.findings}


PLACE = f"{VENUE} {ACCOUNT}"


@pytest.mark.parametrize(
    ("statement", "check", "subject"),
    [
        ("UPDATE fills SET price = '101' WHERE id = 3", "chain", "entry 3"),
        ("UPDATE fills SET quantity = '0.2' WHERE id = 3", "chain", "entry 3"),
        ("UPDATE fills SET bot = 'beta' WHERE id = 3", "chain", "entry 3"),
        ("UPDATE fills SET commission = '0' WHERE id = 3", "chain", "entry 3"),
        ("UPDATE fills SET trade_id = 99 WHERE id = 3", "chain", "entry 3"),
        ("UPDATE fills SET at = booked_at WHERE id = 3", "chain", "entry 3"),
        ("DELETE FROM fills WHERE id = 3", "chain", "entry 3"),
        ("UPDATE postings SET amount = '3' WHERE sequence = 3 AND line = 1", "chain", "entry 3"),
        ("UPDATE postings SET amount = '3' WHERE sequence = 3 AND line = 1", "balance", "entry 3"),
        (
            "UPDATE postings SET asset = 'x' WHERE sequence = 3 AND line = 1",
            "chain",
            "entry 3",
        ),
        ("DELETE FROM postings WHERE sequence = 3 AND line = 6", "balance", "entry 3"),
        ("DELETE FROM postings WHERE sequence = 3", "balance", "entry 3"),
        ("DELETE FROM entries WHERE sequence = 3", "chain", "entry 3"),
        ("DELETE FROM entries WHERE sequence = 3", "journal", "fill 3"),
        ("DELETE FROM entries WHERE sequence = 6", "chain", "entry 6"),
        ("UPDATE entries SET sequence = 60 WHERE sequence = 6", "chain", "entry 6"),
        ("UPDATE entries SET hash = previous_hash WHERE sequence = 3", "chain", "entry 3"),
        ("UPDATE chain_head SET sequence = 7", "chain", "entry 7"),
        ("DELETE FROM chain_head", "chain", "chain_head"),
        ("UPDATE positions SET quantity = '1'", "position", f"alpha {PLACE} BTC-USDT"),
        ("UPDATE positions SET cash = '1'", "position", f"alpha {PLACE} BTC-USDT"),
        ("DELETE FROM positions", "position", f"beta {PLACE} BTC-USDT"),
        ("UPDATE daily_results SET realised = '5'", "result", f"{PLACE} 2026-03-04 USDT"),
    ],
)
def test_a_changed_row_is_named(
    ledger: Ledger, history: list[Order], statement: str, check: str, subject: str
) -> None:
    if "daily_results" in statement:
        ledger.books.book([a_fill(history[0], 50, side=Side.SELL)], NOW)
    tamper(ledger.database, statement)
    assert (check, subject) in found(verify(ledger.database))


def test_a_forger_who_also_mends_the_entrys_hash_is_caught_by_the_next_entry(
    ledger: Ledger, history: list[Order]
) -> None:
    def work(session: Session) -> tuple[str, str]:
        entry, fill = session.get_one(EntryRow, 3), session.get_one(FillRow, 3)
        fill.booked_at = NOW + timedelta(days=1)
        forged = chain.digest(entry.previous_hash, 3, fill, chain.postings_of(fill))
        session.rollback()
        return forged, entry.hash

    forged, honest = ledger.database.read(work)
    assert forged != honest
    tamper(
        ledger.database,
        "UPDATE fills SET booked_at = '2026-03-05 12:00:00.000000' WHERE id = 3",
        "UPDATE entries SET hash = :hash WHERE sequence = 3",
        hash=forged,
    )
    assert found(verify(ledger.database)) == {("chain", "entry 4")}


def test_two_rows_that_changed_places_are_both_named(ledger: Ledger, history: list[Order]) -> None:
    tamper(
        ledger.database,
        "UPDATE entries SET fill_id = -1 WHERE sequence = 2",
        "UPDATE entries SET fill_id = 2 WHERE sequence = 4",
        "UPDATE entries SET fill_id = 4 WHERE sequence = 2",
    )
    assert {("chain", "entry 2"), ("chain", "entry 4")} <= found(verify(ledger.database))


def test_a_tail_that_was_cut_off_cleanly_is_seen_by_its_head(
    ledger: Ledger, history: list[Order]
) -> None:
    """Cut with everything that hangs on it, only a head kept elsewhere can tell."""
    before = verify(ledger.database)
    tamper(
        ledger.database,
        "DELETE FROM postings WHERE sequence = 6",
        "DELETE FROM entries WHERE sequence = 6",
        "UPDATE chain_head SET sequence = 5, hash = (SELECT hash FROM entries WHERE sequence = 5)",
    )
    after = verify(ledger.database)
    assert (after.head_sequence, before.head_sequence) == (5, 6)
    assert after.head_hash != before.head_hash
    assert ("journal", "fill 6") in found(after)


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (0, "filled_quantity = '0.2'", "says that 0.2 is filled; its fills give 0.3"),
        (0, "quantity = '0.1'", "asked for 0.1 and got 0.3"),
        (0, "attempts = 2", "says it was tried 2 times; 1 attempts are kept"),
        (0, "state = 'approved'", "is approved, and 0.3 of it is filled"),
        (1, "is_open = true", "is canceled and counted as open"),
        (2, "state = 'live'", "its last event left it rejected"),
        (2, "state = 'ready'", "its last event left it rejected"),
    ],
)
def test_an_order_that_says_what_cannot_be_is_named(
    ledger: Ledger, history: list[Order], number: int, change: str, words: str
) -> None:
    order = history[number]
    tamper(ledger.database, f"UPDATE orders SET {change} WHERE id = :id", id=order.id)  # noqa: S608
    said = [each.words for each in verify(ledger.database).findings if order.id in each.subject]
    assert words in said


def test_a_path_that_the_table_of_states_does_not_have_is_named(
    ledger: Ledger, history: list[Order]
) -> None:
    order = history[2]
    tamper(
        ledger.database,
        "DELETE FROM order_events WHERE order_id = :id AND after = 'sending'",
        "DELETE FROM attempts WHERE order_id = :id",
        id=order.id,
    )
    checks = {each.check for each in verify(ledger.database).findings}
    assert checks == {"state", "order"}


def test_an_order_that_waits_and_has_no_doorbell_is_named(ledger: Ledger) -> None:
    waiting, sent_long_ago = an_order(), sent(ledger)
    ledger.orders.add(waiting, NOW)
    assert verify(ledger.database).is_clean
    for order in (waiting, sent_long_ago):
        tamper(ledger.database, "DELETE FROM outbox WHERE task_id = :id", id=order.id)
    (finding,) = verify(ledger.database).findings
    assert (finding.check, finding.subject) == ("outbox", f"order {waiting.id}")


# --- against the exchange's journal ---------------------------------------------------------------


class Exchange:
    """Writes what the simulated exchange writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers: dict[str, int] = {}
        path.touch()

    def write(self, **entry: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry, default=str) + "\n")

    def accept(self, order: Order, number: int) -> None:
        self.numbers[order.id] = number
        self.write(type="order", **self._identity(order), quantity=order.quantity)

    def fill(self, order: Order, fill: Fill, status: str = "PARTIALLY_FILLED") -> None:
        self.write(
            type="fill",
            **self._identity(order),
            trade_id=fill.trade_id,
            price=fill.price,
            quantity=fill.quantity,
            commission=fill.commission,
            commission_asset=fill.commission_asset,
            status=status,
        )

    def end(self, order: Order, kind: str = "cancel") -> None:
        self.write(type=kind, **self._identity(order))

    def _identity(self, order: Order) -> dict[str, object]:
        return {
            "account": "default",
            "symbol": "BTCUSDT",
            "side": order.side.value,
            "order_id": self.numbers[order.id],
            "client_order_id": order.client_order_id,
        }


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    return Exchange(tmp_path / "journal.jsonl")


def counts(done: Verification) -> dict[str, int]:
    names = ("lost", "doubled", "unknown", "missing", "pending_fills")
    return {name: done.counts[name] for name in names if done.counts[name]}


def test_a_ledger_and_a_journal_that_agree_are_clean(ledger: Ledger, exchange: Exchange) -> None:
    exchange.write(type="start", at=0)
    exchange.write(type="deposit", at=0, account="default", asset="USDT", amount="1")
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.fill(order, a_fill(order, 1))
    ledger.books.book([a_fill(order, 1)], NOW)
    exchange.end(order)
    ledger.books.record(order.id, S.CANCELED, NOW)
    unanswered, rejected = sent(ledger), sent(ledger)
    exchange.accept(unanswered, 2)
    ledger.books.record(rejected.id, S.REJECTED, NOW)
    exchange.write(type="reject", client_order_id=rejected.client_order_id)
    sent(ledger)  # its bytes never arrived
    done = verify_against(ledger.database, exchange.path)
    assert done.findings == []
    assert counts(done) == {}
    assert (done.counts["exchange_orders"], done.counts["exchange_fills"]) == (2, 1)


def unknown(ledger: Ledger, exchange: Exchange) -> None:
    exchange.accept(an_order(), 1)


def doubled_while_live(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.accept(order, 2)


def doubled_by_execution(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    for number in (1, 2):
        exchange.accept(order, number)
        exchange.fill(order, a_fill(order, number), status="FILLED")
        ledger.books.book([a_fill(order, number)], NOW)


def not_doubled_when_the_first_ended_empty(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.end(order, "expire")
    exchange.accept(order, 2)


def lost_fill(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.fill(order, a_fill(order, 1))
    ledger.books.record(order.id, S.CANCELED, NOW)


def pending_fill(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.fill(order, a_fill(order, 1))
    ledger.books.record(order.id, S.LIVE, NOW)


def lost_order(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    ledger.books.record(order.id, S.REJECTED, NOW)


def missing_order(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    ledger.books.record(order.id, S.LIVE, NOW)


def orders_of_other_people(ledger: Ledger, exchange: Exchange) -> None:
    other = an_order(id="web_123")
    exchange.accept(other, 1)
    exchange.fill(other, a_fill(other, 1))


@pytest.mark.parametrize(
    ("story", "expected", "is_clean"),
    [
        (unknown, {"unknown": 1}, False),
        (doubled_while_live, {"doubled": 1}, False),
        (doubled_by_execution, {"doubled": 1}, False),
        (not_doubled_when_the_first_ended_empty, {}, True),
        (lost_fill, {"lost": 1}, False),
        (pending_fill, {"pending_fills": 1}, True),
        (lost_order, {"lost": 1}, False),
        (missing_order, {"missing": 1}, False),
        (orders_of_other_people, {}, True),
    ],
)
def test_what_the_exchange_and_the_ledger_do_not_agree_on_is_counted(
    ledger: Ledger,
    exchange: Exchange,
    story: Callable[[Ledger, Exchange], None],
    expected: dict[str, int],
    is_clean: bool,
) -> None:
    story(ledger, exchange)
    done = verify_against(ledger.database, exchange.path)
    assert counts(done) == expected
    assert done.is_clean is is_clean


def test_a_fill_that_was_booked_otherwise_is_named(ledger: Ledger, exchange: Exchange) -> None:
    order = sent(ledger)
    exchange.accept(order, 1)
    exchange.fill(order, a_fill(order, 1, commission=Decimal("0.0002")))
    ledger.books.book([a_fill(order, 1)], NOW)
    done = verify_against(ledger.database, exchange.path)
    assert found(done) == {("fill", "trade 1 of BTCUSDT")}


def test_half_a_line_is_not_read_and_a_wrong_one_is_named(
    ledger: Ledger, exchange: Exchange
) -> None:
    with exchange.path.open("a") as file:
        file.write('{"type": "ord')
    assert verify_against(ledger.database, exchange.path).is_clean
    with exchange.path.open("a") as file:
        file.write("\n")
    with pytest.raises(BotswarmError, match="line 1 of"):
        verify_against(ledger.database, exchange.path)
    with pytest.raises(NotFound):
        verify_against(ledger.database, exchange.path.with_name("none"))
