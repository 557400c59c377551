"""What keeps the ledger waiting is counted and told of, by its shape and never by its values."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import DBAPIError

from botswarm.config import Secret
from botswarm.ledger import migrate, prepared, slow
from botswarm.ledger.models import AccountRow, AuditRow
from botswarm.ledger.plain import asking
from botswarm.ledger.session import Database
from botswarm.ledger.slow import kind_of, shape_of
from botswarm.tally import TALLY
from tests.ledger.conftest import NOW

FAMILY = "botswarm_ledger_slow_statements_total"
TOLD = "the ledger took"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    migrate.migrate(made)
    yield made
    made.close()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> slow.Watch:
    """One to which everything is slow."""
    made = slow.Watch()
    made.limit_s = -1
    monkeypatch.setattr(slow, "WATCH", made)
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.name == slow.__name__]


def counted(kind: str) -> float:
    return TALLY.totals().get((FAMILY, kind), [0.0])[0]


def test_each_kind_of_statement_is_counted_and_told_without_its_values(
    database: Database, watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = ("select", "insert", "update", "commit")
    before = {kind: counted(kind) for kind in kinds}
    row = AuditRow(at=NOW, actor="mallory", action="held", subject="12345.678", reason="s3cret")
    database.write(lambda session: session.add(row))
    database.read(
        lambda session: session.scalars(select(AuditRow).filter_by(actor="mallory")).all()
    )
    said = text("UPDATE audit SET reason = 'top s3cret' WHERE actor = 'mallory' AND id = 98765")
    database.write(lambda session: session.execute(said))
    assert [kind for kind in kinds if counted(kind) == before[kind]] == []
    told = "\n".join(lines(caplog))
    assert "INSERT INTO audit" in told
    assert "FROM audit" in told
    assert "UPDATE audit SET reason = ? WHERE actor = ? AND id = ?" in told
    assert "COMMIT" in told
    assert [each for each in ("mallory", "12345.678", "s3cret", "98765") if each in told] == []


def test_what_is_no_slower_than_allowed_is_not_told(
    database: Database, watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    for limit_ms in (600_000, 0):
        slow.watch(limit_ms)
        before = counted("select")
        database.read(lambda session: session.scalars(select(AuditRow)).all())
        assert (lines(caplog), counted("select")) == ([], before)


def test_one_that_is_slow_again_and_again_is_counted_each_time_and_told_once_a_minute(
    watch: slow.Watch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("botswarm.ledger.slow.time.monotonic", lambda: now)
    before = counted("delete")
    for number in range(4):
        watch.over(f"DELETE FROM bots WHERE id = {number}", 0.25)  # noqa: S608 - a shape
    now += 61
    watch.over("DELETE FROM bots WHERE id = 4", 0.125)
    assert counted("delete") - before == 5
    assert lines(caplog) == [
        "the ledger took 250 ms for: DELETE FROM bots WHERE id = ?",
        "the ledger took 125 ms, and 3 more since it was told last for: "
        "DELETE FROM bots WHERE id = ?",
    ]


def test_what_failed_after_a_long_wait_is_told_too(
    database: Database, watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DBAPIError):
        database.write(lambda session: session.execute(text("INSERT INTO audit (id) VALUES (1)")))
    assert any("INSERT INTO audit (id) VALUES (?)" in line for line in lines(caplog))


def test_a_prepared_statement_is_told_by_what_was_prepared(
    database: Database, watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    question = select(AccountRow.account).where(AccountRow.venue == bindparam("which"))
    question = question.execution_options(**prepared.PREPARED)
    for _ in range(2):
        database.read(lambda session: session.execute(question, {"which": "kraken"}).all())
    told = [line.partition(" for: ")[2] for line in lines(caplog)]
    (shape,) = [each for each in told if not each.startswith(("BEGIN", "COMMIT"))]
    assert shape.startswith("SELECT accounts.account FROM accounts WHERE accounts.venue = ")


def test_a_question_by_plain_sql_is_told_too(
    database: Database, url: str, watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    with asking(Secret(url)) as ask:
        ask("SELECT reason FROM audit WHERE actor = ?", ["mallory"])
    assert [line for line in lines(caplog) if "SELECT reason FROM audit WHERE actor = ?" in line]


def test_lines_are_warnings_with_the_time_taken(
    watch: slow.Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.over("DELETE FROM outbox", 0.0712)
    (line,) = caplog.records
    assert (line.levelno, line.__dict__["took_ms"]) == (logging.WARNING, 71.2)


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("SELECT  a\n FROM t", "SELECT a FROM t"),
        ("DELETE FROM t WHERE x IN (%(x_1)s, %(x_2)s)", "DELETE FROM t WHERE x IN (…)"),
        ("DELETE FROM t WHERE x IN (?, ?, ?)", "DELETE FROM t WHERE x IN (…)"),
        ("SELECT 'it''s 5' FROM t2 LIMIT 10.5", "SELECT ? FROM t2 LIMIT ?"),
        ("SELECT " + "column, " * 30 + "last FROM t", "… FROM t"),
        ("INSERT INTO t (" + "column, " * 30 + "last) VALUES (?, ?)", "INTO t (…) VALUES (…)"),
        ("DELETE FROM t WHERE " + "x AND " * 200 + "x", "…"),
    ],
)
def test_a_shape_is_short_and_the_same_for_all_values(statement: str, shape: str) -> None:
    assert shape_of(statement).endswith(shape)
    assert len(shape_of(statement)) <= slow.SHAPE_LENGTH_MAX + 1


def test_there_are_few_kinds() -> None:
    assert [kind_of(each) for each in ("select 1", "COMMIT", "WITH a AS (b)", "", "BEGIN")] == [
        "select", "commit", "other", "other", "other",
    ]  # fmt: skip
