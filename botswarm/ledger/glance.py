"""A few counts out of the ledger, at once: plain SQL, because status must answer in half a second.

SQLAlchemy alone takes a good part of that to be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.config import Secret
from botswarm.domain.processes import Process
from botswarm.ledger.plain import Ask, asking, moment
from botswarm.ledger.processes import seen

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
    share: int | None
    """Percent of the bots that may grow positions; None is all."""
    accounts: dict[str, tuple[bool, datetime | None]]
    """Whether each agrees with its venue, and when they were compared last."""
    armed: Sequence[str]
    """Accounts in which real money may be traded now."""
    processes: Sequence[Process]
    """Those that were heard of lately, on every machine."""


def look(url: Secret, now: datetime) -> Glance:
    """Raises Unreachable where the ledger cannot be read."""
    with asking(url) as ask:
        last = ask("SELECT booked_at FROM fills ORDER BY id DESC LIMIT 1", ())
        recent = "SELECT state, count(*) FROM orders WHERE created_at >= ? GROUP BY state"
        is_open = "SELECT state, count(*) FROM orders WHERE is_open GROUP BY state"
        waiting = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
        return Glance(
            bots=dict(ask("SELECT state, count(*) FROM bots GROUP BY state", ())),
            orders_open=dict(ask(is_open, ())),
            orders_recent=dict(ask(recent, (now - RECENT,))),
            last_fill_at=moment(last[0][0]) if last else None,
            doorbells_waiting=int(ask(waiting, ())[0][0]),
            trading=_trading(ask, now),
            share=_share(ask),
            accounts=_accounts(ask),
            armed=_armed(ask, now),
            processes=seen(ask, now),
        )


def _trading(ask: Ask, now: datetime) -> dict[str, tuple[str, str]]:
    rows = ask("SELECT scope, state, reason, until FROM trading_states", ())
    return {
        scope: ("active" if until is not None and moment(until) <= now else state, reason)
        for scope, state, reason, until in rows
    }


def _share(ask: Ask) -> int | None:
    rows = ask("SELECT share FROM trading_states WHERE scope = 'swarm'", ())
    return rows[0][0] if rows else None


def _accounts(ask: Ask) -> dict[str, tuple[bool, datetime | None]]:
    rows = ask("SELECT venue, account, is_clean, reconciled_at FROM accounts", ())
    return {
        f"{venue}:{account}": (bool(is_clean), None if at is None else moment(at))
        for venue, account, is_clean, at in rows
    }


def _armed(ask: Ask, now: datetime) -> list[str]:
    is_armed = "armed_at <= ? AND (armed_until IS NULL OR armed_until > ?)"
    rows = ask(f"SELECT venue, account FROM accounts WHERE {is_armed}", (now, now))  # noqa: S608 - no value is put in
    return sorted(f"{venue}:{account}" for venue, account in rows)
