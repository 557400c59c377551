"""The ledger by plain SQL, for what must answer at once or stay small: SQLAlchemy is neither."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.ledger import slow

WAIT_S = 1

Ask = Callable[[str, Sequence[object]], list[Any]]
"""Runs a statement whose parameters are written as question marks; answers its rows."""


def is_sqlite(url: Secret) -> bool:
    return url.reveal().startswith("sqlite:")


@contextmanager
def asking(url: Secret, *, writes: bool = False) -> Iterator[Ask]:
    """One transaction: a snapshot where it only reads, committed at its end where it writes.

    Raises Unreachable where the ledger cannot be used.
    """
    with _sqlite(url, writes) if is_sqlite(url) else _postgresql(url, writes) as cursor:
        mark = "?" if is_sqlite(url) else "%s"

        def ask(statement: str, values: Sequence[object] = ()) -> list[Any]:
            given = [bound(value, is_sqlite(url)) for value in values]
            began = time.perf_counter()
            try:
                cursor.execute(statement.replace("?", mark), given)
                return [] if cursor.description is None else list(cursor.fetchall())
            finally:
                slow.ended(statement, began)

        yield ask


def moment(value: datetime | str) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def bound(value: object, is_text: bool) -> object:
    """As the column types of the models write it."""
    if isinstance(value, dict):
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    if not isinstance(value, datetime) or not is_text:
        return value
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")


@contextmanager
def _sqlite(url: Secret, writes: bool) -> Iterator[Any]:
    path = Path(unquote(url.reveal().removeprefix("sqlite:///").partition("?")[0]))
    if not path.exists():
        raise Unreachable(f"there is no ledger at {path} yet", cure="run: botswarm db migrate")
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as connection:
            if not writes:
                connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection.cursor()
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _unusable(url, error) from error


@contextmanager
def _postgresql(url: Secret, writes: bool) -> Iterator[Any]:
    import psycopg2

    text = url.reveal().replace("postgresql+psycopg2", "postgresql", 1)
    options = f"-c statement_timeout={WAIT_S * 1000}"
    if not writes:
        options += " -c default_transaction_read_only=on"
    try:
        with (
            closing(psycopg2.connect(text, connect_timeout=2, options=options)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            yield cursor
    except psycopg2.Error as error:
        raise _unusable(url, error) from error


def _unusable(url: Secret, error: Exception) -> Unreachable:
    words = str(error).strip().partition("\n")[0]
    is_empty = "no such table" in words or "does not exist" in words
    return Unreachable(
        f"the ledger at {url.masked} cannot be read: {words}",
        cure="run: botswarm db migrate" if is_empty else "run: botswarm doctor",
    )
