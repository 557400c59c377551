"""Who changed which bots, and why: one row of the audit, however many they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from botswarm.ledger.bot import BotState
from botswarm.ledger.many import insert_all
from botswarm.ledger.models import AuditBotRow, AuditRow


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
