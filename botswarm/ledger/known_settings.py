"""How the swarm was configured when it was looked at last; what changed since is told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from botswarm.config.table import SETTINGS
from botswarm.domain.configuration import (
    EVERYWHERE,
    Change,
    Said,
    agreed,
    changes,
    in_words,
)
from botswarm.ledger import risk_events
from botswarm.ledger.control_models import KnownSettingsRow
from botswarm.ledger.findings import hold
from botswarm.ledger.halts import SWARM
from botswarm.ledger.models import AuditRow
from botswarm.ledger.processes import asked_in, owned, seen
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.session import Database, save_latest

KIND, ACTION, ACTOR = "configuration", "configuration.changed", "processes"
KEPT_FOR = timedelta(days=90)
"""Of machines: containers have other names with every start."""
SECRET = frozenset(each.name for each in SETTINGS if each.secret)


def note(database: Database, now: datetime) -> Sequence[Change]:
    """What has changed since somebody noted it last, kept as an event and in the audit.

    Harmless however often it runs, and in however many processes at once.
    """
    if not database.read(lambda session: _news(session, now)[0]):
        return ()  # as nearly always: nothing to lock, nothing to write
    return database.write(lambda session: _note(session, now))


def _news(session: Session, now: datetime) -> tuple[Mapping[str, Said], list[Change]]:
    """By place, what is to be known from now on; and what of it is otherwise than before."""
    ask = asked_in(session)
    known: dict[str, Said] = {
        row.place: row.settings for row in session.scalars(select(KnownSettingsRow))
    }
    said = agreed(seen(ask, now), owned(ask, now), now)
    merged = {place: {**known.get(place, {}), **each} for place, each in said.items()}
    new = {place: each for place, each in merged.items() if each != known.get(place)}
    return new, changes(known, said, SECRET)


def _note(session: Session, now: datetime) -> list[Change]:
    hold(session, "known_settings", now)
    new, found = _news(session, now)
    rows = [{"place": place, "settings": dict(said), "at": now} for place, said in new.items()]
    if rows:
        save_latest(session, KnownSettingsRow, rows)
        # Of machines that are still there it is noted anew by the next look.
        row = KnownSettingsRow
        session.execute(delete(row).where(row.place != EVERYWHERE, row.at < now - KEPT_FOR))
    if found:
        _tell(session, found, now)
    return found


def _tell(session: Session, found: Sequence[Change], now: datetime) -> None:
    words = f"the configuration has changed: {in_words(found)}"
    before = {each.title: each.before for each in found}
    after = {each.title: each.after for each in found}
    event = RiskEvent(
        at=now,
        scope=SWARM,
        kind=KIND,
        severity=Severity.INFO,
        words=words,
        numbers={"before": before, "after": after},
    )
    risk_events.note(session, event)
    session.add(
        AuditRow(
            at=now,
            actor=ACTOR,
            action=ACTION,
            subject=SWARM,
            before=before,
            after=after,
            reason=words,
        )
    )
