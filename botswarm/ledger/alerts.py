"""Alerts and what is told of them: judged in one transaction, delivered from an outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from botswarm.domain.alert import Episode, Notice, NoticeKind, Severity, Silence
from botswarm.errors import NotFound
from botswarm.ledger import risk_events
from botswarm.ledger.alert_models import (
    AlertCursorRow,
    AlertNoticeRow,
    AlertRow,
    AlertSilenceRow,
)
from botswarm.ledger.models import AuditRow
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.risk_models import RiskEventRow
from botswarm.ledger.session import Database, insert_new

RISK = "risk_events"
LOOK_BACK = 500
"""So far behind the last number are events looked for that became visible late."""
KEPT_FOR = timedelta(days=90)
CLAIMED_FOR = timedelta(seconds=90)
AT_ONCE_MAX = 200

_EPISODE = tuple(each.name for each in fields(Episode))
_NOTICE = tuple(each.name for each in fields(Notice))
_SILENCE = tuple(each.name for each in fields(Silence))


class Judged(Protocol):
    """What is to be written: see botswarm.alerts.judging."""

    @property
    def episodes(self) -> Sequence[Episode]: ...
    @property
    def passed(self) -> Sequence[Episode]: ...
    @property
    def notices(self) -> Sequence[Notice]: ...


J = TypeVar("J", bound=Judged)
Judge = Callable[[Sequence[Episode], Sequence[Silence], Sequence[RiskEvent]], J]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look without a transaction shows: whether there is anything to judge."""

    episodes: Sequence[Episode]
    has_events: bool
    """Of risk, that no alert was made of yet."""


class Alerts:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- judging --------------------------------------------------------------------------

    def standing(self) -> Standing:
        def work(session: Session) -> Standing:
            cursor = session.get(AlertCursorRow, RISK)
            if cursor is None:
                return Standing(_open(session), has_events=True)
            recent = select(func.count()).where(RiskEventRow.id > cursor.position - LOOK_BACK)
            return Standing(_open(session), session.scalar(recent) != len(cursor.known))

        return self._database.read(work)

    def advance(self, judge: Judge[J], now: datetime) -> J:
        """Judge by all there is and keep what follows, in one transaction.

        Who begins to follow the events of risk begins with those of the last minutes.
        """

        def work(session: Session) -> J:
            first = {"name": RISK, "position": -1, "known": []}
            insert_new(session, AlertCursorRow, [first])
            cursor = session.get_one(AlertCursorRow, RISK, with_for_update=True)
            events = _unread(session, cursor, now)
            judged = judge(_open(session), _silences(session, now), events)
            _keep(session, judged)
            return judged

        return self._database.write(work)

    # --- the outbox -----------------------------------------------------------------------

    def add(self, notices: Sequence[Notice]) -> list[int]:
        def work(session: Session) -> list[int]:
            return _add(session, notices)

        return self._database.write(work)

    def claim(self, now: datetime, *, channels: Sequence[str]) -> list[Notice]:
        """Those that are due and nobody is at, oldest first; they are the caller's for a while."""

        def work(session: Session) -> list[Notice]:
            row = AlertNoticeRow
            due = (
                select(row)
                .where(
                    row.sent_at.is_(None),
                    row.gave_up_at.is_(None),
                    row.due_at <= now,
                    row.channel.in_(channels),
                    or_(row.claimed_until.is_(None), row.claimed_until <= now),
                )
                .order_by(row.id)
                .limit(AT_ONCE_MAX)
                .with_for_update(skip_locked=True)
            )
            found = list(session.scalars(due))
            for each in found:
                each.claimed_until = now + CLAIMED_FOR
            return [_notice(each) for each in found]

        if not channels or not self._anything_due(now):
            return []
        return self._database.write(work)

    def _anything_due(self, now: datetime) -> bool:
        row = AlertNoticeRow
        question = select(row.id).where(
            row.sent_at.is_(None), row.gave_up_at.is_(None), row.due_at <= now
        )
        return self._database.read(lambda session: session.scalar(question.limit(1))) is not None

    def sent(self, ids: Sequence[int], now: datetime) -> None:
        self._set(ids, sent_at=now, attempts=AlertNoticeRow.attempts + 1, error="")

    def failed(
        self, ids: Sequence[int], error: str, again_at: datetime | None, now: datetime
    ) -> None:
        """Not taken; without ``again_at`` it is not tried any more, and stays in the list."""
        values: dict[str, Any] = {"attempts": AlertNoticeRow.attempts + 1, "error": error[:500]}
        values |= {"claimed_until": None}
        values |= {"gave_up_at": now} if again_at is None else {"due_at": again_at}
        self._set(ids, **values)

    def release(self, ids: Sequence[int]) -> None:
        """Nobody has tried these: whoever comes next may."""
        self._set(ids, claimed_until=None)

    def _set(self, ids: Sequence[int], **values: Any) -> None:
        change = update(AlertNoticeRow).where(AlertNoticeRow.id.in_(ids)).values(**values)
        if ids:
            self._database.write(lambda session: session.execute(change))

    # --- what was kept elsewhere meanwhile -------------------------------------------------

    def take_over(self, episodes: Sequence[Episode], notices: Sequence[Notice]) -> None:
        """What happened while the ledger could not be reached: its end here, or its beginning."""

        def work(session: Session) -> None:
            known = {each.key: each for each in _open(session)}
            for episode in episodes:
                before = known.get(episode.key)
                if before is None and episode.ended_at is None and episode.fired_at is None:
                    continue
                values = _values(episode, _EPISODE)
                if before is None:
                    session.execute(insert(AlertRow).values(**values))
                else:
                    values["began_at"] = before.began_at
                    session.execute(
                        update(AlertRow).where(AlertRow.id == before.id).values(**values)
                    )
            _add(session, notices)

        self._database.write(work)

    # --- people ---------------------------------------------------------------------------

    def open(self) -> Sequence[Episode]:
        return self._database.read(_open)

    def history(self, *, since: datetime, limit: int) -> Sequence[Episode]:
        """Those that fired and are over, newest first."""
        row = AlertRow
        question = (
            select(row)
            .where(row.ended_at.is_not(None), row.began_at >= since)
            .order_by(row.began_at.desc(), row.id.desc())
            .limit(limit)
        )
        return self._database.read(
            lambda session: [_episode(each) for each in session.scalars(question)]
        )

    def notices(self, *, waiting: bool, limit: int) -> Sequence[Notice]:
        row = AlertNoticeRow
        question = select(row).order_by(row.id.desc()).limit(limit)
        if waiting:
            question = question.where(row.sent_at.is_(None))
        return self._database.read(
            lambda session: [_notice(each) for each in session.scalars(question)]
        )

    def waiting(self) -> Mapping[str, int]:
        """How many notices nobody has taken yet, by channel."""
        row = AlertNoticeRow
        question = (
            select(row.channel, func.count()).where(row.sent_at.is_(None)).group_by(row.channel)
        )
        return self._database.read(
            lambda session: {row[0]: row[1] for row in session.execute(question)}
        )

    def silence(self, silence: Silence) -> Silence:
        def work(session: Session) -> Silence:
            row = AlertSilenceRow(**_values(silence, _SILENCE))
            session.add(row)
            session.flush()
            subject = f"{silence.name or 'every alert'} {silence.subject}".strip()
            after = {"until": silence.until.isoformat()}
            _audit(
                session, silence.at, silence.actor, "alert.silence", subject, after, silence.reason
            )
            return _silence(row)

        return self._database.write(work)

    def silences(self, now: datetime) -> Sequence[Silence]:
        return self._database.read(lambda session: _silences(session, now))

    def unsilence(self, number: int, *, actor: str, now: datetime) -> Silence:
        """Raises NotFound where no such silence holds any more."""

        def work(session: Session) -> Silence:
            row = session.get(AlertSilenceRow, number)
            if row is None or row.until <= now:
                raise NotFound(
                    f"no silence {number} holds", cure="see: botswarm alert list --silences"
                )
            row.until = now
            _audit(session, now, actor, "alert.unsilence", str(number), {}, "")
            return _silence(row)

        return self._database.write(work)

    def acknowledge(
        self, name: str, subject: str | None, *, actor: str, now: datetime
    ) -> Sequence[Episode]:
        """Somebody is at it. Raises NotFound where it does not hold."""

        def work(session: Session) -> list[Episode]:
            question = select(AlertRow).where(AlertRow.name == name, AlertRow.ended_at.is_(None))
            if subject is not None:
                question = question.where(AlertRow.subject == subject)
            rows = list(session.scalars(question))
            if not rows:
                raise NotFound(f"no alert {name} is open", cure="see: botswarm alert list")
            for row in rows:
                row.acknowledged_at, row.acknowledged_by = now, actor
                _audit(session, now, actor, "alert.acknowledge", f"{name} {row.subject}", {}, "")
            return [_episode(row) for row in rows]

        return self._database.write(work)

    def prune(self, now: datetime) -> int:
        """Delete what is over for long; answers how many rows."""
        old = now - KEPT_FOR
        rows = (
            delete(AlertRow).where(AlertRow.ended_at < old),
            delete(AlertNoticeRow).where(AlertNoticeRow.at < old),
            delete(AlertSilenceRow).where(AlertSilenceRow.until < old),
        )

        def work(session: Session) -> int:
            return sum(session.connection().execute(each).rowcount for each in rows)

        return self._database.write(work)


def _unread(session: Session, cursor: AlertCursorRow, now: datetime) -> list[RiskEvent]:
    after = now - timedelta(minutes=5) if cursor.position < 0 else None
    known = set(cursor.known)
    found = risk_events.since(session, max(0, cursor.position - LOOK_BACK), after=after)
    if not found and cursor.position >= 0:
        return []
    new = [each for each in found if str(each.id) not in known]
    last = max([cursor.position, 0, *(each.id or 0 for each in found)])
    cursor.position = last
    cursor.known = [str(each.id) for each in found if (each.id or 0) > last - LOOK_BACK]
    return new


def _keep(session: Session, judged: Judged) -> None:
    for episode in judged.episodes:
        values = _values(episode, _EPISODE)
        if episode.id is None:
            session.execute(insert(AlertRow).values(**values))
        else:
            session.execute(update(AlertRow).where(AlertRow.id == episode.id).values(**values))
    gone = [each.id for each in judged.passed if each.id is not None]
    if gone:
        session.execute(delete(AlertRow).where(AlertRow.id.in_(gone)))
    _add(session, judged.notices)


def _add(session: Session, notices: Sequence[Notice]) -> list[int]:
    rows = [AlertNoticeRow(**_values(each, _NOTICE)) for each in notices]
    session.add_all(rows)
    session.flush()
    return [row.id for row in rows]


def _audit(
    session: Session,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    after: Mapping[str, Any],
    reason: str,
) -> None:
    session.add(
        AuditRow(
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            before={},
            after=dict(after),
            reason=reason,
        )
    )


def _open(session: Session) -> list[Episode]:
    rows = session.scalars(
        select(AlertRow).where(AlertRow.ended_at.is_(None)).order_by(AlertRow.id)
    )
    return [_episode(row) for row in rows]


def _silences(session: Session, now: datetime) -> list[Silence]:
    rows = session.scalars(
        select(AlertSilenceRow).where(AlertSilenceRow.until > now).order_by(AlertSilenceRow.id)
    )
    return [_silence(row) for row in rows]


def _values(value: Episode | Notice | Silence, names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in names if name != "id"}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Severity | NoticeKind) else value


def _episode(row: AlertRow) -> Episode:
    values = {name: getattr(row, name) for name in _EPISODE}
    return Episode(**{**values, "severity": Severity(row.severity)})


def _notice(row: AlertNoticeRow) -> Notice:
    values = {name: getattr(row, name) for name in _NOTICE}
    values |= {"severity": Severity(row.severity), "kind": NoticeKind(row.kind)}
    return Notice(**values)


def _silence(row: AlertSilenceRow) -> Silence:
    return Silence(**{name: getattr(row, name) for name in _SILENCE})
