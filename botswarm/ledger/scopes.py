"""Whether the ledger knows what a scope names: by a name that was mistyped nothing is held."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from botswarm.domain.limits import Level, level_of
from botswarm.ledger.models import AccountRow, BotRow, InstrumentRow
from botswarm.ledger.session import Database


def doubts(database: Database, scope: str) -> Sequence[str]:
    """In words, for whoever named it. What comes by that name later is held all the same."""
    level, _, name = scope.partition(":")
    if level_of(scope) is Level.SWARM or database.read(lambda session: _is_known(session, scope)):
        return ()
    what = "no bot of the strategy" if level == Level.STRATEGY else f"no {level}"
    return (f"the ledger knows {what} {name}: is the name right? nothing else is held by it",)


def _is_known(session: Session, scope: str) -> bool:
    level, _, rest = scope.partition(":")
    first, _, second = rest.partition(":")
    match level:
        case Level.BOT:
            found = [BotRow.name == rest]
        case Level.STRATEGY:
            found = [BotRow.strategy == rest]
        case Level.MARKET:
            found = [
                (row.venue == first) & (row.symbol == second) for row in (InstrumentRow, BotRow)
            ]
        case _:
            found = [(row.venue == first) & (row.account == second) for row in (AccountRow, BotRow)]
    return any(session.scalar(select(literal(1)).where(each).limit(1)) for each in found)
