"""Migrations make what the models say, can be undone, and do not race."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from botswarm.errors import Misconfigured, NotFound, TimedOut, Unreachable
from botswarm.ledger import migrate
from botswarm.ledger.models import Table
from botswarm.ledger.session import Database, NotMigrated
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import PostgreSQLServer, free_port


@pytest.fixture
def database(url: str) -> Database:
    return Database(url)


def tables(database: Database) -> set[str]:
    with database.connection() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_the_models_and_the_migrations_agree(database: Database) -> None:
    migrate.migrate(database)
    with database.connection() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Table.metadata) == []


def test_a_column_too_many_in_the_models_would_be_noticed(database: Database) -> None:
    migrate.migrate(database)
    with database.connection() as connection:
        with connection.begin():
            connection.execute(text("ALTER TABLE bots DROP COLUMN reason"))
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Table.metadata) != []


def test_up_down_and_up_again_ends_where_it_began(database: Database) -> None:
    assert migrate.migrate(database) == migrate.Moved(before=None, after=migrate.latest())
    assert tables(database) == set(Table.metadata.tables)
    migrate.roll_back(database, "base")
    assert tables(database) == set()
    assert migrate.current(database) is None
    migrate.migrate(database)
    assert tables(database) == set(Table.metadata.tables)
    assert all(step.is_applied for step in migrate.history(database))


def test_migrating_again_changes_nothing(database: Database) -> None:
    migrate.migrate(database)
    assert migrate.migrate(database) == migrate.Moved(
        before=migrate.latest(), after=migrate.latest()
    )


def test_many_migrators_at_once_are_one_that_works_and_others_that_wait(url: str) -> None:
    barrier = threading.Barrier(6)

    def start(_: int) -> migrate.Moved:
        barrier.wait()
        return migrate.migrate(Database(url), wait_s=30)

    with ThreadPoolExecutor(6) as pool:
        moves = list(pool.map(start, range(6)))
    assert sorted(move.before is None for move in moves) == [False] * 5 + [True]
    assert {move.after for move in moves} == {migrate.latest()}


def test_a_migrator_that_may_not_wait_says_who_is_in_its_way(
    postgresql: PostgreSQLServer,
) -> None:
    postgresql.create_database("busy")
    database = Database(postgresql.ledger_url("busy"))
    with database.connection() as connection, connection.begin():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({migrate.ADVISORY_LOCK})"))
        with pytest.raises(TimedOut, match="another process is migrating"):
            migrate.migrate(database)


def test_a_migration_whose_server_went_away_begins_again_within_its_wait(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.create_database("broken_off")
    upgrade, ended = command.upgrade, list[str]()

    def broken_off(config: Config, to: str) -> None:
        upgrade(config, to)
        if len(ended) < 2:
            ended.append(to)
            connection = config.attributes["connection"]
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(command, "upgrade", broken_off)
    database = Database(postgresql.ledger_url("broken_off"))
    with pytest.raises(TimedOut, match="went away meanwhile"):
        migrate.migrate(database)
    moved = migrate.migrate(database, wait_s=60)
    assert moved == migrate.Moved(before=None, after=migrate.latest())
    assert len(ended) == 2
    database.close()


def test_the_sql_on_paper_makes_the_same_tables(url: str) -> None:
    database = Database(url)
    sql = migrate.sql(database)
    assert tables_or_none(database) == set()
    if database.is_sqlite:
        assert database.path is not None
        database.path.touch()
    with database.connection() as connection, connection.begin():
        for statement in sql.split(";\n"):
            if statement.strip() not in ("", "BEGIN", "COMMIT"):
                connection.exec_driver_sql(statement)
    assert tables(database) == set(Table.metadata.tables)
    assert migrate.sql(database) == ""


def tables_or_none(database: Database) -> set[str]:
    if database.path is not None and not database.path.exists():
        return set()
    return tables(database)


def test_an_unknown_revision_is_named(database: Database) -> None:
    migrate.migrate(database)
    with pytest.raises(NotFound, match="nix"):
        migrate.roll_back(database, "nix")


def test_a_ledger_without_tables_says_what_to_run(url: str) -> None:
    ledger = Ledger(url)
    with pytest.raises(NotMigrated) as caught:
        ledger.orders.list()
    assert caught.value.cure == "run: botswarm db migrate"
    assert ledger.database.path is None or not ledger.database.path.exists()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.db"
    migrate.migrate(Database(f"sqlite:///{path}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_server_that_is_not_there_is_reported_without_the_password() -> None:
    url = f"postgresql+psycopg2://someone:hush-hush@127.0.0.1:{free_port()}/ledger"
    with pytest.raises(Unreachable) as caught:
        migrate.migrate(Database(url))
    assert "hush-hush" not in str(caught.value)


def test_a_forgetful_server_is_refused(postgresql: PostgreSQLServer) -> None:
    postgresql.create_database("forgetful")
    admin = Database(postgresql.ledger_url("postgres"))
    with admin.connection() as connection, connection.begin():
        connection.execute(text("ALTER DATABASE forgetful SET synchronous_commit = off"))
    with pytest.raises(Misconfigured, match="synchronous_commit=off"):
        migrate.migrate(Database(postgresql.ledger_url("forgetful")))
