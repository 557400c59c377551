"""How long each table of the ledger keeps what, and the deletion of what is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, Select, delete, select, tuple_
from sqlalchemy.orm import Session

from botswarm.ledger.account_models import DifferenceRow, ExternalOrderRow
from botswarm.ledger.models import Table
from botswarm.ledger.risk_models import RiskEventRow
from botswarm.ledger.schedule_models import ScheduleMissRow, SchedulePauseRow, ScheduleRunRow
from botswarm.ledger.session import Database

DELETED_AT_ONCE = 5_000
ROUNDS_MAX = 1_000

Old = Callable[[datetime], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class History:
    """A table whose rows are worth looking back at for a while, and no longer."""

    table: type[Table]
    is_old: Old
    """Of rows from before a moment."""


HISTORIES: tuple[History, ...] = (
    History(ScheduleRunRow, lambda before: ScheduleRunRow.due_at < before),
    History(ScheduleMissRow, lambda before: ScheduleMissRow.to_at < before),
    History(SchedulePauseRow, lambda before: SchedulePauseRow.until < before),
    History(RiskEventRow, lambda before: RiskEventRow.at < before),
    # Those that stand are never old.
    History(DifferenceRow, lambda before: DifferenceRow.ended_at < before),
    History(ExternalOrderRow, lambda before: ExternalOrderRow.last_at < before),
)

KEPT_ELSEWHERE: Mapping[str, str] = {
    "candles": "Candles.prune, by the length of the candle",
    "evaluations": "Evaluations.prune, by age and number",
    "outbox": "Outbox.prune, once it was sent",
    "reconciliations": "Reconciliations, with each new one",
    "heartbeats": "Heartbeats.beat, with each new one",
    "processes": "processes.sign, with each new one",
    "known_settings": "known_settings.note, with each change",
    "uptimes": "uptimes.mark, with each new one",
    "risk_sweeps": "Findings, with each new one",
    "risk_findings": "Findings, when a finding has ended",
    "outcomes": "Outcomes, with each new one",
    "alerts": "Alerts.prune",
    "alert_notices": "Alerts.prune",
    "alert_silences": "Alerts.prune",
}
"""Deleted by who writes them."""

BOUNDED: Mapping[str, str] = {
    **dict.fromkeys(("bots", "exchange_keys", "feed_subscriptions"), "people add and delete them"),
    **dict.fromkeys(
        ("accounts", "account_folds", "account_markets", "instruments", "ledger_accounts"),
        "one for each account or market",
    ),
    **dict.fromkeys(
        ("marks", "market_passes", "market_revisions", "positions", "exposures", "standings"),
        "one for each market, bot or scope",
    ),
    **dict.fromkeys(
        ("limits", "limit_revision", "limit_warnings", "protections", "trading_states"),
        "one for each scope and kind",
    ),
    **dict.fromkeys(
        ("chain_head", "alert_cursors", "sweep_cursors"), "one, or one for each reader"
    ),
    **dict.fromkeys(("schedules", "archive_marks"), "one for each entry or archive"),
    **dict.fromkeys(("outcome_holdings", "guards"), "one for each bot and market"),
}

KEPT_FOR_EVER: Mapping[str, str] = {
    **dict.fromkeys(
        ("orders", "order_events", "attempts", "cancels", "fills", "entries", "postings"),
        "what was done with money, and the chain that proves it",
    ),
    **dict.fromkeys(("adjustments", "daily_results", "reports"), "what the accounts add up to"),
    **dict.fromkeys(("audit", "audit_bots", "bot_versions"), "who did what, and why"),
    **dict.fromkeys(
        ("enablings", "stops", "restores", "backups", "backup_drills"),
        "few, and asked about long afterwards",
    ),
}


def prune(database: Database, now: datetime, days_kept: int) -> Mapping[str, int]:
    """How many rows of each table are gone; in small transactions, so that nobody waits long."""
    before = now - timedelta(days=days_kept)
    gone: dict[str, int] = {}
    for history in HISTORIES:
        for _ in range(ROUNDS_MAX):
            done = database.write(partial(_delete_some, history=history, before=before))
            if done:
                name = history.table.__tablename__
                gone[name] = gone.get(name, 0) + done
            if done < DELETED_AT_ONCE:
                break
    return gone


def _delete_some(session: Session, history: History, before: datetime) -> int:
    keys = list(history.table.__table__.primary_key)
    question: Select[tuple[object, ...]] = (
        select(*keys).where(history.is_old(before)).limit(DELETED_AT_ONCE)
    )
    found = [tuple(row) for row in session.execute(question)]
    if found:
        session.execute(
            delete(history.table).where(tuple_(*keys).in_(found)),
            execution_options={"synchronize_session": False},
        )
    return len(found)
