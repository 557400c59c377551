"""What markets were last worth: kept for whoever reckons risk and follows no market itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from botswarm.domain.standing import AHEAD_MAX, Mark
from botswarm.ledger.session import Database
from botswarm.ledger.sweep_models import MarkRow

Place = tuple[str, str]
FIELDS = ("venue", "symbol", "price", "bid", "ask", "at")
_COLUMNS = tuple(getattr(MarkRow, name) for name in FIELDS)


def _save(kind: Any) -> Any:
    new = kind.insert(MarkRow)
    return new.on_conflict_do_update(
        index_elements=["venue", "symbol"],
        set_={name: getattr(new.excluded, name) for name in FIELDS[2:]},
        # A price from the future would else stand until the future comes.
        where=or_(
            new.excluded.at > MarkRow.at,
            MarkRow.at > bindparam("latest", type_=MarkRow.at.type),
        ),
    )


_SAVE = {"sqlite": _save(sqlite), "postgresql": _save(postgresql)}


class Marks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, marks: Iterable[Mark], now: datetime) -> None:
        """Take in what is newer than what stands there, whoever says it.

        What pretends to come from the future is left out.
        """
        latest = now + AHEAD_MAX
        # By rising name: two that save the same markets must not wait for each other in a circle.
        rows = [
            {**{name: getattr(mark, name) for name in FIELDS}, "latest": latest}
            for mark in sorted(marks, key=lambda mark: (mark.venue, mark.symbol))
            if mark.at <= latest and mark.price.is_finite() and mark.price > 0
        ]
        if rows:
            self._database.write(lambda session: _write(session, rows))

    def all(self) -> Mapping[Place, Mark]:
        return self._database.read(all_of)


def all_of(session: Session) -> dict[Place, Mark]:
    rows = session.execute(select(*_COLUMNS))
    return {(row.venue, row.symbol): _mark(row) for row in rows}


def mark_of(session: Session, venue: str, symbol: str) -> Mark | None:
    """Whether it is fresh enough is the caller's to judge."""
    question = select(*_COLUMNS).where(MarkRow.venue == venue, MarkRow.symbol == symbol)
    row = session.execute(question).one_or_none()
    return None if row is None else _mark(row)


def _write(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    connection = session.connection()
    connection.execute(_SAVE[connection.dialect.name], list(rows))


def _mark(row: Any) -> Mark:
    return Mark(**{name: getattr(row, name) for name in FIELDS})
