"""What the gate cannot read, or cannot reckon with, lets no order leave, and says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from botswarm.clock import StoppedClock
from botswarm.domain.limits import Limit, LimitKind
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.errors import BotswarmError
from botswarm.ledger import migrate, risk_standings
from botswarm.ledger.store import Ledger
from botswarm.risk.limits import Limits
from botswarm.testing.venue import FakeVenue
from botswarm.trading import executor
from tests.ledger.conftest import BTC, NOW, a_bot, an_order
from tests.ledger.limiting import BOUNDLESS, CHAIN, at_risk, held
from tests.standing import reconciled

D = Decimal
LIMITS = Limits(
    order_notional_max=D(500),
    open_notional_max=D(5000),
    position_notional_max=D(1000),
    open_orders_max=100,
    orders_per_minute_max=60,
    daily_loss_max=D(500),
    signal_age_max_s=10,
    price_collar_percent=D(10),
    clock_offset_max_s=D(1),
)


class Clocked(FakeVenue):
    """Its clock was compared with ours."""

    offset_s: float | None = None

    def clock_offset_s(self) -> float | None:
        return self.offset_s


@dataclass(slots=True)
class Desk:
    """One order worker, its ledger and its venue."""

    ledger: Ledger
    path: Path
    venue: Clocked
    clock: StoppedClock

    def sql(self, words: str) -> None:
        with self.ledger.database.connection() as connection, connection.begin():
            connection.execute(text(words))

    def place(self, limits: Limits = LIMITS, **changes: Any) -> Order:
        order = an_order(**changes)
        assert self.ledger.orders.add(order, NOW)
        placed = executor.place(order.id, self.ledger.books, self.venue, limits, self.clock)
        assert placed is not None
        return placed


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making the tables takes longer than copying them."""
    path = tmp_path_factory.mktemp("faults") / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    migrate.migrate(ledger.database)
    reconciled(ledger, NOW)
    ledger.books.save_instruments([BTC])
    ledger.bots.create(a_bot(), NOW, actor="anna")
    ledger.close()
    return path


@pytest.fixture
def desk(tmp_path: Path, template: Path) -> Desk:
    path = Path(shutil.copy(template, tmp_path / "ledger.db"))
    ledger = Ledger(f"sqlite:///{path}")
    clock = StoppedClock(NOW)
    return Desk(ledger, path, Clocked(clock, [BTC]), clock)


def test_an_order_passes_where_nothing_is_wrong(desk: Desk) -> None:
    assert desk.place().state is OrderState.LIVE
    assert len(desk.venue.orders) == 1


def garble(desk: Desk) -> None:
    desk.ledger.close()
    for each in desk.path.parent.glob("ledger.db*"):
        each.unlink()
    desk.path.write_bytes(b"this is no database" * 1000)


def vanish(desk: Desk) -> None:
    desk.ledger.close()
    for each in desk.path.parent.glob("ledger.db*"):
        each.unlink()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (garble, "is not a database, or is damaged"),
        (vanish, "tables are missing"),
        (lambda desk: desk.sql("DROP TABLE limits"), "tables are missing"),
        (lambda desk: desk.sql("DROP TABLE limit_revision"), "tables are missing"),
        (lambda desk: desk.sql("DROP TABLE positions"), "tables are missing"),
        (lambda desk: desk.sql("DROP TABLE trading_states"), "tables are missing"),
    ],
    ids=["garbled", "gone", "limits", "revision", "positions", "states"],
)
def test_a_ledger_that_cannot_be_read_lets_nothing_leave(
    desk: Desk, break_it: Callable[[Desk], None], words: str
) -> None:
    order = an_order()
    assert desk.ledger.orders.add(order, NOW)
    break_it(desk)
    with pytest.raises(BotswarmError, match=words) as caught:
        executor.place(order.id, desk.ledger.books, desk.venue, LIMITS, desk.clock)
    assert caught.value.cure
    assert desk.venue.orders == []


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ("DELETE FROM trading_states", "trading is halted"),
        ("UPDATE trading_states SET state = 'dormant'", "trading is halted"),
        ("DELETE FROM limit_revision", "the ledger does not know its limits"),
        ("UPDATE positions SET quantity = 'NaN'", "makes no sense: position NaN"),
        ("UPDATE positions SET quantity = 'Infinity'", "makes no sense: position Infinity"),
        (
            "INSERT INTO daily_results VALUES ('simulated', 'paper', '2026-03-04', 'USDT', 'NaN')",
            "makes no sense: realised loss",
        ),
        ("UPDATE orders SET reference_price = 'NaN'", "its reference price is NaN"),
        ("UPDATE orders SET quantity = '-1'", "its quantity is -1"),
        ("UPDATE accounts SET is_clean = 0", "the account is not reconciled"),
        ("UPDATE bots SET strategy = 'other'", None),
    ],
)
def test_numbers_and_states_that_make_no_sense_refuse_with_their_reason(
    desk: Desk, break_it: str, words: str | None
) -> None:
    desk.ledger.database.write(lambda session: session.add(held(D(1))))
    order = an_order()
    assert desk.ledger.orders.add(order, NOW)
    desk.sql(break_it)
    placed = executor.place(order.id, desk.ledger.books, desk.venue, LIMITS, desk.clock)
    assert placed is not None
    if words is None:
        assert placed.state is OrderState.LIVE, "what was broken is not what refuses"
        return
    assert placed.state is OrderState.REFUSED
    assert words in (placed.reason or "")
    assert desk.venue.orders == []


def test_another_orders_nan_refuses_this_one(desk: Desk) -> None:
    desk.place(kind=OrderKind.LIMIT, limit_price=D(50))
    desk.sql("UPDATE orders SET limit_price = 'NaN'")
    placed = desk.place()
    assert placed.state is OrderState.REFUSED
    assert "makes no sense: open notional NaN" in (placed.reason or "")


@pytest.mark.parametrize("column", ["gross", "net", "unrealised"])
def test_a_sweep_that_reckoned_nan_refuses_what_grows(desk: Desk, column: str) -> None:
    kind = {"gross": "gross_exposure", "net": "net_exposure", "unrealised": "daily_loss"}[column]
    limit = Limit(scope="swarm", kind=LimitKind(kind), breach=D(10**6))
    desk.ledger.limits.set(limit, actor="anna", reason="a test", now=NOW)
    desk.ledger.database.write(
        lambda session: risk_standings.keep(session, [at_risk(each) for each in CHAIN.values()])
    )
    desk.sql(f"UPDATE standings SET {column} = 'NaN'")  # noqa: S608 - one of three words
    placed = desk.place(BOUNDLESS)
    assert placed.state is OrderState.REFUSED
    assert "cannot be computed with" in (placed.reason or "")


@pytest.mark.parametrize(("offset_s", "is_refused"), [(0.9, False), (1.1, True), (-3.0, True)])
def test_a_clock_out_of_range_refuses_what_grows_and_says_how_far_it_is(
    desk: Desk, offset_s: float, is_refused: bool
) -> None:
    desk.venue.offset_s = offset_s
    placed = desk.place()
    assert (placed.state is OrderState.REFUSED) is is_refused
    words = f"distance between the venue's clock and ours would be {abs(offset_s):g}, over 1"
    assert not is_refused or words in (placed.reason or "")
    desk.ledger.database.write(lambda session: session.merge(held(D(9))))
    assert desk.place(side=Side.SELL).state is OrderState.LIVE


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_signal_from_another_time_is_refused(desk: Desk, hours: int) -> None:
    made = NOW + timedelta(hours=hours)
    placed = desk.place(created_at=made, signal_expires_at=NOW + timedelta(days=1))
    assert placed.state is OrderState.REFUSED
    assert "s old, over" in (placed.reason or "") or "in the future" in (placed.reason or "")


def test_an_order_of_an_account_that_is_not_this_workers_is_refused(desk: Desk) -> None:
    reconciled(desk.ledger, NOW, account="strange")
    placed = desk.place(account="strange")
    assert placed.state is OrderState.REFUSED
    assert placed.reason == "this worker trades simulated/paper, not simulated/strange"


def test_a_market_that_the_venue_does_not_list_is_refused(desk: Desk) -> None:
    placed = desk.place(symbol="MOON-USDT")
    assert placed.state is OrderState.REFUSED
    assert placed.reason == "simulated does not list the market MOON-USDT"
