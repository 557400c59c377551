"""A ledger of each kind, with a market whose bots may decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import PostgreSQLServer
from tests.standing import reconciled
from tests.strategies.values import BTC, NOW

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    name = f"bots{next(_numbers)}"
    server.create_database(name)
    return server.ledger_url(name)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    migrate.migrate(made.database)
    made.books.save_instruments([BTC])
    reconciled(made, NOW)
    yield made
    made.close()
