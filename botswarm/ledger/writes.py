"""Writes of one transaction that go to the database together: one journey, not one for each.

Every journey is made while the locks of the transaction are held, so each saved one lets the next
order of the account begin earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Session

from botswarm.ledger.revisions import TOUCH_ONE, touch

Values = Mapping[str, Any]
Adapt = Callable[[Any], Any]
Known = Literal["refuse", "leave", "replace"]
Table = type[DeclarativeBase]


class Writes:
    """Collected in the order in which they are to be made; ``send`` makes them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection()
        self._dialect = self._connection.dialect
        self._is_sqlite = self._dialect.name == "sqlite"
        self._words: list[str] = []
        self._values: dict[str, Any] = {}
        self._touched: set[str] = set()

    def insert(self, table: Table, rows: Sequence[Values], *, known: Known = "refuse") -> None:
        """Rows with the same columns, all of their table that matter.

        ``known`` says what becomes of a row whose key is in the table already.
        """
        if not rows:
            return
        if self._is_sqlite:
            self._connection.execute(_for_sqlite(table, known), [dict(row) for row in rows])
            return
        names = tuple(rows[0])
        begin, end, adapt = _for_postgresql(table, names, known, self._dialect)
        tuples = [", ".join(self._bound(adapt[name](row[name])) for name in names) for row in rows]
        self._words.append(begin + "(" + "), (".join(tuples) + ")" + end)

    def run(self, statement: Any, values: Values) -> None:
        """An update whose bindparams are named as none of its table's columns is.

        ``statement`` is one of few that are made once.
        """
        if self._is_sqlite:
            self._connection.execute(statement, dict(values))
            return
        text, adapt = _compiled(statement, self._dialect)
        mark = f"w{len(self._words)}_"
        self._words.append(text.replace("%(", f"%({mark}"))
        for name, bind in adapt.items():
            self._values[mark + name] = bind(values[name])

    def touch(self, bot: str | None) -> None:
        """As revisions.touch; it is done last, whenever it is asked for."""
        if bot is not None:
            self._touched.add(bot)

    def send(self) -> None:
        touched = sorted(self._touched)
        self._touched = set()
        if self._is_sqlite:
            touch(self._session, touched)
            return
        for bot in touched:
            self.run(TOUCH_ONE, {"touched": bot})
        words, values = self._words, self._values
        self._words, self._values = [], {}
        if words:
            self._connection.exec_driver_sql(";\n".join(words), values)

    def _bound(self, value: Any) -> str:
        key = f"v{len(self._values)}"
        self._values[key] = value
        return f"%({key})s"


@lru_cache(maxsize=64)
def _for_sqlite(table: Table, known: Known) -> Any:
    statement = sqlite.insert(table)
    if known == "leave":
        return statement.on_conflict_do_nothing()
    if known == "replace":
        others = {name: statement.excluded[name] for name in _others(table)}
        return statement.on_conflict_do_update(index_elements=_key(table), set_=others)
    return statement


@lru_cache(maxsize=64)
def _for_postgresql(
    table: Table, names: tuple[str, ...], known: Known, dialect: Dialect
) -> tuple[str, str, Mapping[str, Adapt]]:
    columns = table.__table__.columns
    end = " ON CONFLICT DO NOTHING" if known == "leave" else ""
    if known == "replace":
        others = ", ".join(f'"{name}" = excluded."{name}"' for name in _others(table))
        end = f" ON CONFLICT ({_listed(_key(table))}) DO UPDATE SET {others}"
    begin = f'INSERT INTO "{table.__tablename__}" ({_listed(names)}) VALUES '  # noqa: S608 - our own
    return begin, end, {name: _adapting(columns[name].type, dialect) for name in names}


@lru_cache(maxsize=64)
def _compiled(statement: ClauseElement, dialect: Dialect) -> tuple[str, Mapping[str, Adapt]]:
    compiled: Any = statement.compile(dialect=dialect)
    adapt = {name: _adapting(bind.type, dialect) for name, bind in compiled.binds.items()}
    return str(compiled), adapt


def _key(table: Table) -> list[str]:
    return [column.name for column in table.__table__.primary_key]


def _others(table: Table) -> list[str]:
    return [c.name for c in table.__table__.columns if not c.primary_key]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _adapting(kind: Any, dialect: Dialect) -> Adapt:
    processor: Adapt | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return processor if processor is not None else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value
