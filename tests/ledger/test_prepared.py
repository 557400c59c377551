"""A statement is planned once for each connection, and a failure in between leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, create_engine, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from botswarm.ledger import prepared
from botswarm.ledger.models import AccountRow
from botswarm.testing.servers import PostgreSQLServer
from tests.ledger.conftest import Migrated

STATEMENT = (
    select(AccountRow.account)
    .where(AccountRow.venue == bindparam("which"), AccountRow.account.not_like("%x%"))
    .execution_options(**prepared.PREPARED)
)


@pytest.fixture
def engine(migrated: Migrated) -> Iterator[Engine]:
    made = create_engine(migrated.url, pool_size=1)
    prepared.listen(made)
    yield made
    made.dispose()


def count(engine: Engine) -> int:
    question = text("SELECT count(*) FROM pg_prepared_statements")
    with engine.connect() as connection:
        return int(connection.execute(question).scalar_one())


def ask(engine: Engine, which: str) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(STATEMENT, {"which": which}).scalars())


def test_a_statement_is_prepared_once_and_answers_each_question(
    engine: Engine, migrated: Migrated
) -> None:
    migrated.empty()
    with engine.begin() as connection:
        words = "INSERT INTO accounts (venue, account, created_at, is_clean) VALUES "
        words += "('kraken', 'spot', now(), true), ('kraken', 'axe', now(), true)"
        connection.execute(text(words))
    assert [ask(engine, which) for which in ("kraken", "nobody", "kraken")] == [
        ["spot"],
        [],
        ["spot"],
    ]
    assert count(engine) == 1
    engine.dispose()
    assert ask(engine, "kraken") == ["spot"], "another connection knows nothing of the first"


def test_what_failed_while_it_was_prepared_is_prepared_anew(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET search_path = nowhere"))
        with pytest.raises(DBAPIError, match="does not exist"):
            connection.execute(STATEMENT, {"which": "kraken"})
        connection.rollback()
        connection.execute(text("SET search_path = public"))
        connection.commit()
    assert isinstance(ask(engine, "kraken"), list)
    assert count(engine) == 1


def test_what_was_prepared_and_then_failed_gets_another_name(
    engine: Engine, migrated: Migrated, postgresql: PostgreSQLServer
) -> None:
    slow = (
        select(AccountRow.account)
        .where(AccountRow.venue == bindparam("which"))
        .with_for_update()
        .execution_options(**prepared.PREPARED)
    )
    migrated.empty()
    other = create_engine(migrated.url)
    with other.begin() as holding:
        words = "INSERT INTO accounts (venue, account, created_at, is_clean) VALUES "
        holding.execute(text(words + "('kraken', 'spot', now(), true)"))
    with other.begin() as holding, engine.connect() as connection:
        holding.execute(text("SELECT 1 FROM accounts FOR UPDATE"))
        connection.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            connection.execute(slow, {"which": "kraken"})
        connection.rollback()
    with engine.connect() as connection:
        assert list(connection.execute(slow, {"which": "kraken"}).scalars()) == ["spot"]
    other.dispose()
