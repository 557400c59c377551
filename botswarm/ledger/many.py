"""Thousands of rows in one statement, as many names as it can hold, and errors that stay short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

AT_ONCE = 5000
"""Names in one statement; databases bound how many values one may have."""
NAMED_MAX = 5
"""So many bots are named in an error; of the others only their number is said."""


def insert_all(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(table), rows)


def parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]


def several(causes: Iterable[str]) -> str:
    said = list(causes)
    more = len(said) - NAMED_MAX
    return "; ".join(said[:NAMED_MAX]) + (f"; and {more} more" if more > 0 else "")
