"""Who uses the ledger without owning its tables can trade with it, and cannot rewrite it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import text

from botswarm.domain.order import OrderState
from botswarm.errors import NotFound
from botswarm.ledger import migrate
from botswarm.ledger.rights import ADD_ONLY
from botswarm.ledger.session import Database, NotAllowed
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import PostgreSQLServer
from tests.command_line import alone, called
from tests.ledger.conftest import NOW, a_fill, sent

OWNER, USER = "owner", 'the "swarm"'
PASSWORD = "a-word-of-tests"
FORBIDDEN = (
    "DROP TABLE orders",
    "TRUNCATE audit",
    "ALTER TABLE audit ADD COLUMN x integer",
    "CREATE TABLE another (x integer)",
    "DELETE FROM alembic_version",
    *(f"DELETE FROM {table}" for table in sorted(ADD_ONLY)),  # noqa: S608 - our own
    "UPDATE audit SET reason = 'it was somebody else'",
    "UPDATE order_events SET reason = NULL",
    "UPDATE entries SET hash = hash",
    "UPDATE fills SET price = 1",
    "UPDATE postings SET amount = 0",
)

Run = Callable[..., tuple[int, dict[str, Any]]]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shared:
    """A database whose tables belong to another user than who works with them."""

    owner_url: str
    user_url: str

    @property
    def as_user(self) -> dict[str, str]:
        return {"DATABASE_URL": self.user_url}

    @property
    def as_owner(self) -> dict[str, str]:
        return self.as_user | {"BOTSWARM_DATABASE_ADMIN_URL": self.owner_url}


def _ask(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture(scope="module")
def server(postgresql: PostgreSQLServer) -> PostgreSQLServer:
    _ask(
        postgresql.url(),
        f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}' CREATEDB",
        f'CREATE ROLE "the ""swarm""" LOGIN PASSWORD \'{PASSWORD}\'',
        f"GRANT pg_signal_backend TO {OWNER}",
    )
    return postgresql


@pytest.fixture
def shared(server: PostgreSQLServer) -> Shared:
    name = f"shared{next(_numbers)}"
    _ask(server.url(), f"CREATE DATABASE {name} OWNER {OWNER}")
    where = f"{PASSWORD}@{server.host}:{server.port}/{name}"
    return Shared(f"postgresql://{OWNER}:{where}", f"postgresql://the%20%22swarm%22:{where}")


def driven(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command, with these settings and no others."""

    def run(environ: Mapping[str, str], *words: str) -> tuple[int, dict[str, Any]]:
        alone(monkeypatch, tmp_path, **environ)
        return called(capsys, *words)

    return run


@pytest.fixture
def ledger(shared: Shared) -> Iterator[Ledger]:
    owner = Database(driven(shared.owner_url))
    migrate.migrate(owner, tenant=USER)
    owner.close()
    made = Ledger(driven(shared.user_url))
    yield made
    made.close()


def test_a_user_without_tables_of_his_own_can_trade(ledger: Ledger) -> None:
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1)], NOW)
    assert ledger.orders.get(order.id).state is OrderState.SENDING
    assert len(list(ledger.trades.entries(0))) >= 1


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_what_was_written_down_cannot_be_taken_back(
    rewriter: psycopg2.extensions.connection, statement: str
) -> None:
    with rewriter.cursor() as cursor, pytest.raises(InsufficientPrivilege):
        cursor.execute(statement)


@pytest.fixture(scope="module")
def rewriter(server: PostgreSQLServer) -> Iterator[psycopg2.extensions.connection]:
    _ask(server.url(), f"CREATE DATABASE rewritten OWNER {OWNER}")
    where = f"{PASSWORD}@{server.host}:{server.port}/rewritten"
    owner = Database(f"postgresql+psycopg2://{OWNER}:{where}")
    migrate.migrate(owner, tenant=USER)
    owner.close()
    with closing(psycopg2.connect(f"postgresql://the%20%22swarm%22:{where}")) as connection:
        connection.autocommit = True
        yield connection


def test_commands_work_for_the_user_and_change_tables_for_the_owner_only(
    shared: Shared, run: Run
) -> None:
    user, owner = partial(run, shared.as_user), partial(run, shared.as_owner)
    code, answer = user("db", "migrate")
    assert (code, "BOTSWARM_DATABASE_ADMIN_URL" in answer["error"]["cure"]) == (5, True), answer
    assert user("db", "migrate", "--wait", "30") == (code, answer), "rights do not come by waiting"
    assert owner("db", "migrate")[0] == 0
    assert owner("db", "migrate")[0] == 0, "rights that are there are given again"
    assert user("db", "migrate")[0] == 0, "there is nothing left to do"
    assert user("db", "current")[1]["data"]["is_latest"] is True
    made = ("bot", "create", "alpha", "--strategy", "sma-cross", "--market", "BTC-USDT")
    for words in (
        made,
        ("bot", "list"),
        ("bot", "start", "alpha"),
        ("bot", "stop", "alpha"),
        ("bot", "delete", "alpha", "--yes"),
        ("trading", "halt", "--reason", "a trial", "--yes"),
        ("trading", "status"),
        ("ledger", "verify"),
    ):
        code, answer = user(*words)
        assert code == 0, (words, answer)
    code, answer = user("db", "rollback", "--to", "base", "--yes")
    assert (code, user("db", "current")[1]["data"]["is_latest"]) == (5, True), answer
    assert owner("db", "rollback", "--to", "base", "--yes")[0] == 0


def test_a_user_whom_the_server_does_not_know_is_named_and_nothing_changes(
    shared: Shared,
) -> None:
    owner = Database(driven(shared.owner_url))
    with pytest.raises(NotFound, match="knows no user nobody") as raised:
        migrate.migrate(owner, tenant="nobody")
    assert raised.value.cure.endswith("CREATE ROLE \"nobody\" LOGIN PASSWORD '…'")
    assert migrate.current(owner) is None
    owner.close()


def test_what_others_keep_beside_the_ledger_is_left_to_them(
    server: PostgreSQLServer, shared: Shared, run: Run
) -> None:
    place = server.url().rpartition("/")[0] + "/" + shared.owner_url.rpartition("/")[2]
    _ask(place, "CREATE TABLE theirs (id serial)")
    code, answer = run(shared.as_owner, "db", "migrate")
    assert code == 0, answer
    code, answer = run(shared.as_user, "trading", "halt", "--reason", "a trial", "--yes")
    assert code == 0, answer


def test_what_the_user_may_not_do_is_said_with_its_cure(ledger: Ledger) -> None:
    with pytest.raises(NotAllowed, match="permission denied for table audit"):
        ledger.database.write(lambda session: session.execute(text("DELETE FROM audit")))


def test_a_ledger_that_was_restored_is_the_users_again(shared: Shared, run: Run) -> None:
    for words in (
        ("db", "migrate"),
        ("backup", "create"),
        ("backup", "restore", "latest", "--yes"),
    ):
        code, answer = run(shared.as_owner, *words)
        assert code == 0, (words, answer)
    code, answer = run(shared.as_user, "ledger", "verify")
    assert (code, answer["data"]["clean"]) == (0, True), answer
    with closing(psycopg2.connect(shared.user_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT has_table_privilege('audit', 'INSERT')")
        assert cursor.fetchone() == (True,)
        with pytest.raises(InsufficientPrivilege):
            cursor.execute("DELETE FROM audit")


def test_tables_that_a_restored_ledger_did_not_have_yet_are_for_the_user_too(
    shared: Shared, run: Run
) -> None:
    for words in (
        ("db", "migrate"),
        ("db", "rollback", "--to", "0020", "--yes"),
        ("backup", "create"),
        ("backup", "restore", "latest", "--yes"),
    ):
        code, answer = run(shared.as_owner, *words)
        assert code == 0, (words, answer)
    with closing(psycopg2.connect(shared.user_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM known_settings")
        assert cursor.fetchone() == (0,)


def test_the_doctor_tells_the_first_superuser_from_a_user_with_few_rights(
    server: PostgreSQLServer, shared: Shared, run: Run
) -> None:
    def row(environ: Mapping[str, str]) -> dict[str, Any]:
        _, answer = run(environ, "doctor", "--only", "rights")
        (found,) = answer["data"]["checks"]
        return dict(found)

    first = row({"DATABASE_URL": server.url()})
    assert (first["status"], "first superuser" in first["detail"]) == ("warn", True), first
    assert run(shared.as_owner, "db", "migrate")[0] == 0
    assert row(shared.as_owner)["status"] == "ok"
    owner = row(shared.as_owner | {"DATABASE_URL": shared.owner_url})
    assert (owner["status"], "NOCREATEDB" in owner["cure"]) == ("warn", True), owner
    assert "REASSIGN OWNED" in owner["cure"]
    _ask(shared.owner_url, 'GRANT UPDATE ON fills TO "the ""swarm"""')
    assert "REVOKE UPDATE" in row(shared.as_owner)["cure"]
