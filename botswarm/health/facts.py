"""What the ledger says of the swarm, by plain SQL: small enough to be asked every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from botswarm import forks
from botswarm.config import Secret
from botswarm.domain.processes import Process
from botswarm.domain.uptime import Uptime, uptime
from botswarm.ledger import plain
from botswarm.ledger.plain import Ask, moment
from botswarm.ledger.processes import seen
from botswarm.ledger.uptimes import spans

T = TypeVar("T")
MISSED_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    venue: str
    name: str
    agrees: bool
    compared_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Of the schedule."""

    name: str
    sent_at: datetime | None
    next_at: datetime | None
    held: str | None
    outcome: str | None
    result: str | None
    ended_at: datetime | None
    """Of its last run, also of one that a person asked for."""
    runs: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    at: datetime
    tested_at: datetime | None
    bytes: int
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of one moment."""

    at: datetime
    doorbells: int
    doorbell_since: datetime | None
    doubtful: int
    doubtful_since: datetime | None
    accounts: Sequence[Account]
    swarm: tuple[str, str]
    """State and reason."""
    held: Mapping[tuple[str, str], int]
    """How many scopes besides the swarm are not active, by kind and state."""
    entries: Sequence[Entry]
    missed: Mapping[str, int]
    missed_at: Mapping[str, datetime]
    """The last of them, by entry."""
    backup: Backup | None
    """The newest good one."""
    backups: Mapping[str, int]
    """All of them, by state."""
    share: int | None = None
    """Percent of the bots that may grow positions; None is all."""
    processes: Sequence[Process] = ()
    """Those that were heard of lately, on every machine."""
    looked_at: datetime | None = None
    """When somebody last looked at trading that opens step by step; None where none does."""
    uptime: Uptime | None = None
    """None where the swarm was never seen well."""
    archived_at: datetime | None = None
    """Up to then the ledger is in the archive; None where it never was archived."""


def read(url: Secret, now: datetime) -> Facts:
    """Raises Unreachable where the ledger cannot be read."""
    return asked(url, lambda ask: _facts(ask, now))


def asked(url: Secret, questions: Callable[[Ask], T]) -> T:
    """One snapshot. SQLite's is over before anybody forks: see ``servers.LedgerLook``."""
    with forks.held_off(), plain.asking(url) as ask:
        return questions(ask)


def _facts(ask: Ask, now: datetime) -> Facts:
    doorbells, doorbell_since = _since(
        ask("SELECT count(*), min(created_at) FROM outbox WHERE sent_at IS NULL", ())
    )
    doubtful, doubtful_since = _since(
        ask("SELECT count(*), min(updated_at) FROM orders WHERE is_open AND state = 'unknown'", ())
    )
    states = {
        str(scope): (str(state), str(reason), until)
        for scope, state, reason, until in ask(
            "SELECT scope, state, reason, until FROM trading_states WHERE state <> 'active' "
            "OR scope = 'swarm'", (),
        )
    }  # fmt: skip
    swarm = states.pop("swarm", ("halted", "the ledger does not say", None))
    held: dict[tuple[str, str], int] = {}
    for scope, (state, _, until) in states.items():
        if until is None or moment(until) > now:
            key = scope.partition(":")[0], state
            held[key] = held.get(key, 0) + 1
    missed = ask(
        "SELECT entry, sum(slots), max(to_at) FROM schedule_misses WHERE to_at > ? "
        "AND substr(reason, 1, 7) <> 'paused ' GROUP BY entry",
        (now - MISSED_WITHIN,),
    )
    good = ask(
        "SELECT at, tested_at, bytes, took_ms FROM backups WHERE state = 'good' "
        "ORDER BY at DESC LIMIT 1", (),
    )  # fmt: skip
    share = ask("SELECT share FROM trading_states WHERE scope = 'swarm'", ())
    opening = ask(
        "SELECT coalesce(evaluated_at, stage_at) FROM enablings "
        "WHERE state IN ('running', 'stepped_back') ORDER BY id DESC LIMIT 1", (),
    )  # fmt: skip
    return Facts(
        at=now,
        doorbells=doorbells,
        doorbell_since=doorbell_since,
        doubtful=doubtful,
        doubtful_since=doubtful_since,
        accounts=[
            Account(venue=venue, name=name, agrees=bool(clean), compared_at=_moment(at))
            for venue, name, clean, at in ask(
                "SELECT venue, account, is_clean, reconciled_at FROM accounts", ()
            )
        ],
        swarm=_swarm_now(swarm, now),
        held=held,
        entries=[
            Entry(
                name=name,
                sent_at=_moment(sent_at),
                next_at=_moment(next_at),
                held=is_held,
                outcome=outcome,
                result=result,
                ended_at=_moment(ended_at),
                runs=int(runs),
                failures=int(failures),
            )
            for (
                name, sent_at, next_at, is_held, outcome, result, ended_at, runs, failures,
            ) in ask(
                "SELECT name, sent_at, next_at, held, outcome, result, ended_at, runs, failures "
                "FROM schedules ORDER BY name", (),
            )
        ],
        missed={entry: int(slots) for entry, slots, _ in missed},
        missed_at={entry: moment(at) for entry, _, at in missed},
        backup=_backup(good),
        backups={
            state: int(many)
            for state, many in ask("SELECT state, count(*) FROM backups GROUP BY state", ())
        },
        share=share[0][0] if share else None,
        processes=seen(ask, now),
        looked_at=_moment(opening[0][0]) if opening else None,
        uptime=uptime(spans(ask), now),
        archived_at=_moment(ask("SELECT max(published_at) FROM archive_marks", ())[0][0]),
    )  # fmt: skip


def _swarm_now(found: tuple[str, str, object], now: datetime) -> tuple[str, str]:
    state, reason, until = found
    if isinstance(until, str | datetime) and moment(until) <= now:
        return "active", reason
    return state, reason


def _since(rows: Sequence[Sequence[object]]) -> tuple[int, datetime | None]:
    many, first = rows[0]
    return int(str(many)), _moment(first)


def _moment(value: object) -> datetime | None:
    return moment(value) if isinstance(value, str | datetime) else None


def _backup(rows: Sequence[Sequence[object]]) -> Backup | None:
    if not rows:
        return None
    at, tested_at, size, took_ms = rows[0]
    found = _moment(at)
    assert found is not None
    return Backup(
        at=found, tested_at=_moment(tested_at), bytes=int(str(size)), took_ms=int(str(took_ms))
    )
