"""What every process of the swarm signs in the ledger: that it is there, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botswarm.domain.processes import SEEN_FOR, Difference, Made, Process, differences, in_words
from botswarm.ledger.plain import Ask, bound, from_json, moment

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

KEPT_FOR = timedelta(hours=1)
AHEAD_MAX = timedelta(hours=1)
"""A clock that was so wrong has left rows behind that nobody would ever outlive."""
FIELDS = (
    *("id", "name", "role", "host", "pid", "version", "build", "strategies", "settings"),
    *("started_at", "changed_at", "seen_at"),
)
_SEEN = f"SELECT {', '.join(FIELDS)} FROM processes WHERE seen_at > ? AND seen_at < ?"  # noqa: S608 - names of columns
_OWNED = "SELECT id, own FROM processes WHERE own IS NOT NULL AND seen_at > ? AND seen_at < ?"
_SIGN = (
    f"INSERT INTO processes ({', '.join(FIELDS)}, own) "  # noqa: S608 - names of columns
    f"VALUES ({', '.join('?' * len(FIELDS))}, ?)"
    " ON CONFLICT (id) DO UPDATE SET build = excluded.build, strategies = excluded.strategies,"
    " settings = excluded.settings, changed_at = excluded.changed_at, seen_at = excluded.seen_at"
)


def sign(ask: Ask, process: Process, own: Mapping[str, str] | None = None) -> None:
    """That it is there, and of what it is made now. Who was not heard of for long is forgotten.

    ``own`` is what it has set for itself: kept as it was said first, and need not be said again.
    """
    made = process.made
    ask(
        _SIGN,
        (
            *(process.id, process.name, process.role, process.host, process.pid),
            *(made.version, made.build, made.strategies, dict(made.settings)),
            *(process.started_at, process.changed_at, process.seen_at),
            None if own is None else dict(own),
        ),
    )
    old, ahead = process.seen_at - KEPT_FOR, process.seen_at + AHEAD_MAX
    ask("DELETE FROM processes WHERE seen_at < ? OR seen_at > ?", (old, ahead))


def forget(ask: Ask, process_id: str) -> None:
    ask("DELETE FROM processes WHERE id = ?", (process_id,))


def seen(ask: Ask, now: datetime) -> list[Process]:
    """Those that were heard of lately, the eldest first."""
    rows = ask(_SEEN, (now - SEEN_FOR, now + AHEAD_MAX))
    return sorted((_process(row) for row in rows), key=lambda each: (each.started_at, each.id))


def owned(ask: Ask, now: datetime) -> dict[str, Mapping[str, str]]:
    """By process, what it has set for itself."""
    rows = ask(_OWNED, (now - SEEN_FOR, now + AHEAD_MAX))
    return {each: from_json(own) for each, own in rows}


def differing(session: Session, now: datetime) -> list[Difference]:
    return differences(seen(asked_in(session), now), now)


def objection(session: Session, now: datetime) -> str | None:
    """Why trading must not be opened now: those who would trade are not made of the same."""
    found = differing(session, now)
    return f"processes differ: {in_words(found)}" if found else None


def asked_in(session: Session) -> Ask:
    """Plain questions within a transaction."""
    connection = session.connection()
    is_text = connection.dialect.name == "sqlite"

    def ask(statement: str, values: Sequence[object] = ()) -> list[Any]:
        marked = statement if is_text else statement.replace("?", "%s")
        result = connection.exec_driver_sql(marked, tuple(bound(each, is_text) for each in values))
        return list(result.all()) if result.returns_rows else []

    return ask


def _process(row: Sequence[Any]) -> Process:
    said = dict(zip(FIELDS, row, strict=True))
    made = Made(
        version=said.pop("version"),
        build=said.pop("build"),
        strategies=said.pop("strategies"),
        settings=from_json(said.pop("settings")),
    )
    for name in ("started_at", "changed_at", "seen_at"):
        said[name] = moment(said[name])
    return Process(made=made, **said)
