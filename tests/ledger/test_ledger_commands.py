"""`botswarm db` and `botswarm ledger` as a user meets them, on each database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from botswarm.ledger.store import Ledger
from tests.command_line import run_botswarm
from tests.ledger.conftest import NOW, a_fill, sent

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        environ = {"DATABASE_URL": url.replace("+psycopg2", "")}
        done = run_botswarm(*words, "--json", folder=tmp_path, environ=environ)
        return done.returncode, json.loads(done.stdout)

    return run


def test_a_ledger_from_nothing_to_verified_and_back(run: Run, url: str) -> None:
    code, answer = run("ledger", "verify")
    assert (code, answer["error"]["cure"]) == (5, "run: botswarm db migrate")
    assert run("db", "current")[1]["data"]["current"] is None
    assert "CREATE TABLE orders" in run("db", "migrate", "--dry-run")[1]["data"]["sql"]
    assert run("db", "current")[1]["data"]["current"] is None
    code, answer = run("db", "migrate", "--wait", "5")
    assert (code, answer["data"]["before"]) == (0, None)
    assert run("db", "current")[1]["data"]["is_latest"] is True
    assert all(step["applied"] for step in run("db", "history")[1]["data"])
    code, answer = run("ledger", "verify")
    assert (code, answer["data"]["clean"], answer["data"]["findings"]) == (0, True, [])
    assert run("db", "rollback", "--to", "base")[0] == 6
    assert run("db", "current")[1]["data"]["is_latest"] is True
    assert run("db", "rollback", "--to", "base", "--yes")[0] == 0
    assert run("db", "current")[1]["data"]["current"] is None


def test_books_that_were_changed_exit_with_3_and_name_the_row(run: Run, url: str) -> None:
    run("db", "migrate")
    ledger = Ledger(url)
    ledger.books.book([a_fill(sent(ledger), 1)], NOW)
    with ledger.database.connection() as connection, connection.begin():
        connection.execute(text("UPDATE fills SET price = '99'"))
    ledger.close()
    code, answer = run("ledger", "verify")
    assert (code, answer["ok"], answer["error"]["code"]) == (3, False, "BSW-3002")
    assert {"check": "chain", "subject": "entry 1"}.items() <= answer["data"]["findings"][0].items()


def test_the_exchanges_journal_is_compared_where_one_is_named(
    run: Run, url: str, tmp_path: Path
) -> None:
    run("db", "migrate")
    journal = tmp_path / "journal.jsonl"
    assert run("ledger", "verify", "--journal", str(journal))[0] == 4
    order = {"client_order_id": "0" * 32, "order_id": 1}
    journal.write_text(json.dumps({"type": "order", **order}) + "\n")
    code, answer = run("ledger", "verify", "--journal", str(journal))
    assert (code, answer["data"]["counts"]["unknown"]) == (3, 1)
