"""When the swarm was seen well, in spans that outlive whoever saw it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from botswarm.domain.uptime import GAP, LONGEST, Span
from botswarm.ledger.control_models import UptimeRow
from botswarm.ledger.plain import Ask, moment
from botswarm.ledger.session import Database

MARKED_EVERY = timedelta(seconds=10)
"""Looks are more frequent, and few of them are worth a write."""


def mark(database: Database, now: datetime) -> None:
    """That it is well now. Harmless however often, and by however many."""
    last = select(UptimeRow.until).order_by(UptimeRow.id.desc()).limit(1)
    until = database.read(lambda session: session.scalar(last))
    if until is None or not timedelta(0) <= now - until < MARKED_EVERY:
        database.write(lambda session: _mark(session, now))


def _mark(session: Session, now: datetime) -> None:
    row = UptimeRow
    question = select(row.id, row.began_at, row.until).order_by(row.id.desc()).limit(1)
    last = session.execute(question).first()
    # What lies after now was written by a clock that was ahead: it ends, or begins, here.
    if last is not None and last.until >= now - GAP:
        values = {"began_at": min(last.began_at, now), "until": now}
        session.execute(update(row).where(row.id == last.id).values(values))
        return
    session.add(row(began_at=now, until=now))
    before = select(func.max(row.id)).where(row.until < now - LONGEST)
    # The last one from before stays: it says that the swarm was there already.
    session.execute(delete(row).where(row.id < before.scalar_subquery()))


def spans(ask: Ask) -> list[Span]:
    rows = ask("SELECT began_at, until FROM uptimes ORDER BY id", ())
    return [Span(moment(began_at), moment(until)) for began_at, until in rows]
