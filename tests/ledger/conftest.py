"""A migrated ledger on each database, and the values that tests put into it."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import Approved, Exposure, Verdict
from botswarm.ledger import migrate
from botswarm.ledger.bots import Bot, BotState
from botswarm.ledger.models import Table
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.testing.books import begin_attempt
from botswarm.testing.servers import PostgreSQLServer
from tests.standing import reconciled

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
VENUE, ACCOUNT, SYMBOL = "simulated", "paper", "BTC-USDT"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    name = f"ledger{next(_numbers)}"
    server.create_database(name)
    return server.ledger_url(name)


@pytest.fixture(scope="session")
def migrated(postgresql: PostgreSQLServer) -> Migrated:
    postgresql.create_database("migrated")
    database = Database(postgresql.ledger_url("migrated"))
    migrate.migrate(database)
    return Migrated(database)


class Migrated:
    """A PostgreSQL database that is emptied between tests: making one anew takes half a second."""

    def __init__(self, database: Database) -> None:
        self.url = database.url.render_as_string(hide_password=False)
        self._database = database
        with database.connection() as connection:
            self._first_rows = {
                table: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in Table.metadata.sorted_tables
            }

    def empty(self) -> None:
        names = ", ".join(f'"{table.name}"' for table in self._first_rows)
        with self._database.connection() as connection, connection.begin():
            connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")
            for table, rows in self._first_rows.items():
                if rows:
                    connection.execute(insert(table), rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """As the migrations leave it, and its account was held against its venue."""
    if request.param == "sqlite":
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
        migrate.migrate(ledger.database)
    else:
        migrated: Migrated = request.getfixturevalue("migrated")
        migrated.empty()
        ledger = Ledger(migrated.url)
    reconciled(ledger, NOW, venue=VENUE, account=ACCOUNT)
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "ledger.db"
    made = Ledger(f"sqlite:///{path}")
    migrate.migrate(made.database)
    made.close()
    return path


@pytest.fixture
def quick_ledger(migrated_file: Path, tmp_path: Path) -> Iterator[Ledger]:
    """In SQLite only, where what is tried does not depend on the database."""
    path = tmp_path / "ledger.db"
    shutil.copy(migrated_file, path)
    ledger = Ledger(f"sqlite:///{path}")
    reconciled(ledger, NOW, venue=VENUE, account=ACCOUNT)
    yield ledger
    ledger.close()


def an_order(**changes: Any) -> Order:
    order = Order(
        id=str(uuid.uuid4()),
        bot="alpha",
        venue=VENUE,
        account=ACCOUNT,
        symbol=SYMBOL,
        side=Side.BUY,
        kind=OrderKind.MARKET,
        quantity=Decimal("1"),
        limit_price=None,
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal("100"),
        state=OrderState.READY,
        created_at=NOW,
        signal_expires_at=NOW + timedelta(seconds=10),
    )
    return replace(order, **changes)


def a_fill(order: Order, trade_id: int, **changes: Any) -> Fill:
    fill = Fill(
        venue=order.venue,
        symbol=order.symbol,
        trade_id=trade_id,
        client_order_id=order.client_order_id,
        side=order.side,
        price=Decimal("100"),
        quantity=Decimal("0.1"),
        commission=Decimal("0.0001"),
        commission_asset="BTC",
        at=NOW + timedelta(seconds=trade_id),
    )
    return replace(fill, **changes)


def a_bot(**changes: Any) -> Bot:
    bot = Bot(
        name="alpha",
        strategy="sma_cross",
        venue=VENUE,
        symbol=SYMBOL,
        account=ACCOUNT,
        timeframe="1s",
        parameters={"fast": 3},
        state=BotState.RUNNING,
    )
    return replace(bot, **changes)


@dataclass(frozen=True, slots=True)
class Request:
    payload: bytes = b"POST /api/v3/order symbol=BTCUSDT"
    signed_at: datetime = NOW
    fence_at: datetime = NOW + timedelta(seconds=14)


def let_pass(order: Order, _: Exposure) -> Verdict:
    return Approved(order)


def sent(ledger: Ledger, **changes: Any) -> Order:
    """An order whose bytes are committed, and may have left."""
    order = an_order(**changes)
    if not ledger.reconciliations.standing(order.venue, order.account).is_clean:
        reconciled(ledger, NOW, venue=order.venue, account=order.account)
    assert ledger.orders.add(order, NOW)
    verdict = ledger.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    begun = begin_attempt(ledger.books, verdict.order, Request(), NOW)
    assert begun is not None
    return begun


BTC = Instrument(
    venue=VENUE,
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    quantity_min=Decimal("0.00001"),
    quantity_max=Decimal("9000"),
    notional_min=Decimal("5"),
)
