"""The halt of an emergency stop: by plain SQL, because it has to be said before all else."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.ledger.plain import Ask, asking, is_sqlite, moment

SWARM = "swarm"
Place = tuple[str, str]
Answer = TypeVar("Answer")

PATIENCE_S = 20.0
"""So long it is tried again where somebody is in the way, or the database is slow."""
IN_THE_WAY = ("55P03", "57014")  # a lock, or time, ran out
HURRY = "SET LOCAL lock_timeout = '150ms'"
# Transactions that hold our rows and do nothing are those of processes that are frozen. What they
# were about is undone, and they learn it before they can send anything.
THROW_OUT = """
    SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.usename = current_user
      AND a.pid <> pg_backend_pid() AND a.state IN ('idle in transaction',
                                                    'idle in transaction (aborted)')
      AND a.state_change < clock_timestamp() - interval '200 milliseconds'
      AND EXISTS (
        SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = a.pid AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
          AND c.relname IN ('accounts', 'orders', 'trading_states', 'chain_head')
      )
"""
SAID = "SELECT state, cause, until, share FROM trading_states WHERE scope = ?"
SAY = """
    INSERT INTO trading_states (scope, state, reason, actor, at, cause, until)
    VALUES (?, 'halted', ?, ?, ?, 'person', NULL)
    ON CONFLICT (scope) DO UPDATE SET state = excluded.state, reason = excluded.reason,
      actor = excluded.actor, at = excluded.at, cause = excluded.cause, until = NULL
"""
AUDIT = """
    INSERT INTO audit (at, actor, action, subject, before, after, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
ON_THE_WAY = """
    SELECT id, venue, account, signed_at FROM orders
    JOIN attempts ON order_id = id AND number = attempts
    WHERE is_open AND state IN ('sending', 'unknown')
"""


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """An order whose signed bytes are committed, and of which nobody knows what became of it."""

    order_id: str
    place: Place
    signed_at: datetime
    """By the clock of its venue."""


class Halting:
    """Of one ledger. Every method raises Unreachable where that does not answer."""

    def __init__(self, url: Secret) -> None:
        self._url = url

    def halt(self, scopes: Collection[str], *, reason: str, actor: str, now: datetime) -> None:
        """Commit that these scopes are halted by a person; nobody's lock stands in the way long."""

        def work(ask: Ask) -> None:
            for scope in sorted(scopes):
                before = _described(ask(SAID, [scope]))
                ask(SAY, [scope, reason, actor, now])
                share = before.get("share")
                after = {"state": "halted", "cause": "person", "until": None, "share": share}
                said = after | {"is_human": True}
                ask(AUDIT, [now, actor, "trading.set", scope, before, said, reason])

        self._hurriedly(work)

    def put_in_force(
        self, scopes: Collection[str], *, reason: str, actor: str, now: datetime, may_arrive: int
    ) -> None:
        """Commit that no venue takes an order of these scopes from here on, but for so many."""

        def work(ask: Ask) -> None:
            for scope in sorted(scopes):
                said = {"may_arrive": may_arrive}
                ask(AUDIT, [now, actor, "trading.in_force", scope, None, said, reason])

        self._hurriedly(work)

    def wait_for_begun(self, places: Collection[Place] | None) -> Sequence[OnTheWay]:
        """Until every order that began to be judged before is committed, or never will be; answers
        those that are on their way then.

        Judging holds the row of the order's account, so whoever has had all of them has seen the
        last of it. In SQLite the halt itself had to wait for every other writer.
        """
        where, values = _at(places)
        question = f"SELECT 1 FROM accounts{where} ORDER BY venue, account FOR SHARE"  # noqa: S608 - only marks are put in

        def work(ask: Ask) -> Sequence[OnTheWay]:
            if not is_sqlite(self._url):
                ask(question, values)
            return _on_the_way(ask, places)

        return self._hurriedly(work)

    def on_the_way(self, places: Collection[Place] | None) -> Sequence[OnTheWay]:
        return self._hurriedly(lambda ask: _on_the_way(ask, places))

    def throw_out_sleepers(self) -> int:
        """Undo the transactions of processes that are frozen; how many there were."""
        if is_sqlite(self._url):
            return 0
        with asking(self._url, writes=True) as ask:
            return int(ask(THROW_OUT, [])[0][0])

    def _hurriedly(self, work: Callable[[Ask], Answer]) -> Answer:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                with asking(self._url, writes=True) as ask:
                    if not is_sqlite(self._url):
                        ask(HURRY, [])
                    return work(ask)
            except Unreachable as error:
                if not _is_in_the_way(error) or time.monotonic() >= until:
                    raise
            with contextlib.suppress(Unreachable):
                self.throw_out_sleepers()


def _is_in_the_way(error: Unreachable) -> bool:
    """Somebody else writes, or holds what is to be written."""
    is_held = getattr(error.__cause__, "pgcode", None) in IN_THE_WAY
    return is_held or getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _on_the_way(ask: Ask, places: Collection[Place] | None) -> Sequence[OnTheWay]:
    where, values = _at(places, "AND")
    found = ask(ON_THE_WAY + where, values)
    return [OnTheWay(name, (venue, account), moment(at)) for name, venue, account, at in found]


def _at(places: Collection[Place] | None, word: str = "WHERE") -> tuple[str, Sequence[str]]:
    if places is None:
        return "", []
    ordered = sorted(places)
    either = " OR ".join("(venue = ? AND account = ?)" for _ in ordered)
    return f" {word} ({either})", [name for place in ordered for name in place]


def _described(rows: Sequence[Any]) -> dict[str, Any]:
    """As ``Halts`` writes it into the audit."""
    if not rows:
        return {"state": "active"}
    state, cause, until, share = rows[0]
    return {
        "state": state,
        "cause": cause,
        "until": None if until is None else moment(until).isoformat(),
        "share": share,
    }
