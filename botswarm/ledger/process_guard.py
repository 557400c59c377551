"""Trading is held back while the processes that trade are not made of the same."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from botswarm.domain.permission import TradingState
from botswarm.domain.processes import Difference, in_words
from botswarm.ledger import halts, risk_events
from botswarm.ledger.halts import SWARM, Cause, Halt
from botswarm.ledger.processes import differing
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.session import Database

ACTOR = "processes"
KIND = "processes"


def guard(database: Database, now: datetime) -> list[Difference]:
    """How processes differ now; the swarm reduces for as long as they do, and no longer.

    Harmless however often it runs. What anybody else holds is left as it is.
    """

    def work(session: Session) -> list[Difference]:
        found = differing(session, now)
        held = halts.hold(session, SWARM)
        if found:
            _hold_back(session, held, found, now)
        elif held is not None and _is_ours(held):
            _let_go(session, now)
        return found

    return database.write(work)


def _is_ours(held: Halt) -> bool:
    is_held = held.state is not TradingState.ACTIVE
    return is_held and held.cause is Cause.SYSTEM and held.actor == ACTOR


def _hold_back(session: Session, held: Halt | None, found: list[Difference], now: datetime) -> None:
    if held is None or held.state_at(now) is not TradingState.ACTIVE:
        return
    words = f"processes differ: {in_words(found)}"
    _put(session, TradingState.REDUCING, words, now)
    _note(session, Severity.BREACH, words, now, found)


def _let_go(session: Session, now: datetime) -> None:
    words = "all processes are made of the same again"
    _put(session, TradingState.ACTIVE, words, now)
    _note(session, Severity.INFO, words, now, [])


def _put(session: Session, state: TradingState, words: str, now: datetime) -> None:
    wanted = Halt(scope=SWARM, state=state, reason=words, actor=ACTOR, at=now, cause=Cause.SYSTEM)
    halts.put(session, wanted, is_human=False)


def _note(
    session: Session, severity: Severity, words: str, now: datetime, found: list[Difference]
) -> None:
    numbers = [
        {"process": each.process, "what": each.what, "value": each.value, "others": each.others}
        for each in found
    ]
    event = RiskEvent(
        at=now,
        scope=SWARM,
        kind=KIND,
        severity=severity,
        words=words,
        numbers={"differences": numbers},
    )
    risk_events.note(session, event)
