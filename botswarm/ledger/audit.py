"""Who changed which bots, and why: one row of the audit, however many they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from botswarm.ledger.bot import BotState
from botswarm.ledger.many import insert_all
from botswarm.ledger.models import AuditBotRow, AuditRow
from botswarm.ledger.session import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    at: datetime
    actor: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    reason: str


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of_bot(
        self, name: str, *, after: datetime | None = None, limit: int | None = None
    ) -> Sequence[Entry]:
        """What was done to a bot, alone or with others, oldest first; the latest ``limit``."""
        with_others = select(AuditBotRow.audit).where(AuditBotRow.bot == name)
        question = select(AuditRow).where(
            or_(AuditRow.subject == f"bot:{name}", AuditRow.id.in_(with_others))
        )
        if after is not None:
            question = question.where(AuditRow.at > after)
        question = question.order_by(AuditRow.at.desc(), AuditRow.id.desc()).limit(limit)
        return self._database.read(
            lambda session: [_entry(row) for row in session.scalars(question)][::-1]
        )


def _entry(row: AuditRow) -> Entry:
    return Entry(
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        before=row.before,
        after=row.after,
        reason=row.reason,
    )


def audit_bots(
    session: Session,
    action: str,
    names: Sequence[str],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | BotState | None,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """One row, however many bots; their names stand beside it where they are several."""
    if not names:
        return
    said = {"state": after.value} if isinstance(after, BotState) else after
    is_one = len(names) == 1
    row = AuditRow(
        at=now,
        actor=actor,
        action=action,
        subject=f"bot:{names[0]}" if is_one else "bots",
        before=None if before is None else dict(before),
        after=None if said is None and is_one else {**(said or {}), **_number(names)},
        reason=reason,
    )
    session.add(row)
    session.flush()
    if not is_one:
        insert_all(session, AuditBotRow, [{"bot": name, "audit": row.id} for name in names])


def _number(names: Sequence[str]) -> dict[str, int]:
    return {} if len(names) == 1 else {"bots": len(names)}


def one_or_all(states: Mapping[str, int]) -> dict[str, Any]:
    """The state of one bot, or how many of several were in which."""
    if sum(states.values()) == 1:
        return {"state": next(iter(states))}
    return {"states": dict(states)}
