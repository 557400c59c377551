"""A few counts out of the ledger, at once: plain SQL, because status must answer in half a second.

SQLAlchemy alone takes a good part of that to be imported.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from botswarm.config import Secret
from botswarm.errors import Unreachable

WAIT_S = 1
RECENT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    bots: dict[str, int]
    """How many, by state."""
    orders_open: dict[str, int]
    """Those that may be live or have unbooked fills, by state."""
    orders_recent: dict[str, int]
    """Those of the last hour, by state."""
    last_fill_at: datetime | None
    doorbells_waiting: int
    """Committed work that nobody has told the broker of."""
    trading: dict[str, tuple[str, str]]
    """State and reason, by scope; a swarm that is not in it is halted."""
    accounts: dict[str, tuple[bool, datetime | None]]
    """Whether each agrees with its venue, and when they were compared last."""


def look(url: Secret, now: datetime) -> Glance:
    """Raises Unreachable where the ledger cannot be read."""
    with _cursor(url) as cursor:
        mark = "?" if _is_sqlite(url) else "%s"
        since = (now - RECENT).astimezone(UTC).replace(tzinfo=None if mark == "?" else UTC)
        bound = since.isoformat(" ", timespec="microseconds") if mark == "?" else since
        recent = f"SELECT state, count(*) FROM orders WHERE created_at >= {mark} GROUP BY state"  # noqa: S608 - only the parameter's mark is put in
        cursor.execute(recent, (bound,))
        orders_recent = dict(cursor.fetchall())
        last = _rows(cursor, "SELECT booked_at FROM fills ORDER BY id DESC LIMIT 1")
        return Glance(
            bots=dict(_rows(cursor, "SELECT state, count(*) FROM bots GROUP BY state")),
            orders_open=dict(
                _rows(cursor, "SELECT state, count(*) FROM orders WHERE is_open GROUP BY state")
            ),
            orders_recent=orders_recent,
            last_fill_at=_moment(last[0][0]) if last else None,
            doorbells_waiting=int(
                _rows(cursor, "SELECT count(*) FROM outbox WHERE sent_at IS NULL")[0][0]
            ),
            trading={
                scope: ("active" if until is not None and _moment(until) <= now else state, reason)
                for scope, state, reason, until in _rows(
                    cursor, "SELECT scope, state, reason, until FROM trading_states"
                )
            },
            accounts={
                f"{venue}:{account}": (bool(is_clean), None if at is None else _moment(at))
                for venue, account, is_clean, at in _rows(
                    cursor, "SELECT venue, account, is_clean, reconciled_at FROM accounts"
                )
            },
        )


def _rows(cursor: Any, question: str) -> list[Any]:
    cursor.execute(question)
    return list(cursor.fetchall())


def _is_sqlite(url: Secret) -> bool:
    return url.reveal().startswith("sqlite:")


@contextmanager
def _cursor(url: Secret) -> Iterator[Any]:
    with _sqlite(url) if _is_sqlite(url) else _postgresql(url) as cursor:
        yield cursor


@contextmanager
def _sqlite(url: Secret) -> Iterator[Any]:
    path = Path(unquote(url.reveal().removeprefix("sqlite:///").partition("?")[0]))
    if not path.exists():
        raise Unreachable(f"there is no ledger at {path} yet", cure="run: botswarm db migrate")
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN")
            yield connection.cursor()
    except sqlite3.Error as error:
        raise _unreadable(url, error) from error


@contextmanager
def _postgresql(url: Secret) -> Iterator[Any]:
    import psycopg2

    text = url.reveal().replace("postgresql+psycopg2", "postgresql", 1)
    options = f"-c statement_timeout={WAIT_S * 1000} -c default_transaction_read_only=on"
    try:
        with (
            closing(psycopg2.connect(text, connect_timeout=2, options=options)) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor
    except psycopg2.Error as error:
        raise _unreadable(url, error) from error


def _unreadable(url: Secret, error: Exception) -> Unreachable:
    words = str(error).strip().partition("\n")[0]
    is_empty = "no such table" in words or "does not exist" in words
    return Unreachable(
        f"the ledger at {url.masked} cannot be read: {words}",
        cure="run: botswarm db migrate" if is_empty else "run: botswarm doctor",
    )


def _moment(value: datetime | str) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
