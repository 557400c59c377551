"""The trading state: of the swarm, and of each account, bot and market; the strictest holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.permission import TradingState
from botswarm.errors import Refused
from botswarm.ledger.models import AuditRow, TradingStateRow
from botswarm.ledger.session import Database

SWARM = "swarm"
STRICTNESS = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


def account_scope(venue: str, account: str) -> str:
    return f"account:{venue}:{account}"


def bot_scope(bot: str) -> str:
    return f"bot:{bot}"


def market_scope(venue: str, symbol: str) -> str:
    return f"market:{venue}:{symbol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """What holds for a scope, who said so and why."""

    scope: str
    state: TradingState
    reason: str
    actor: str
    at: datetime


class Halts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Halt]:
        """Every scope about which something was said; the others are active."""

        def work(session: Session) -> list[Halt]:
            rows = session.scalars(select(TradingStateRow).order_by(TradingStateRow.scope))
            return [_halt(row) for row in rows]

        return self._database.read(work)

    def strictest(self, *, venue: str, account: str, bot: str, symbol: str) -> TradingState:
        """What holds for one order; a swarm about which nothing is known is halted."""
        return self._database.read(
            lambda session: strictest(session, venue=venue, account=account, bot=bot, symbol=symbol)
        )

    def set(
        self,
        scope: str,
        state: TradingState,
        *,
        reason: str,
        actor: str,
        now: datetime,
        is_human: bool = False,
    ) -> Halt:
        """Anything may restrict; only a person may relax. Either is audited."""

        def work(session: Session) -> Halt:
            row = session.get(TradingStateRow, scope, with_for_update=True)
            before = TradingState(row.state) if row else _unsaid(scope)
            if STRICTNESS[state] < STRICTNESS[before] and not is_human:
                raise Refused(
                    f"{actor} may not relax {scope} from {before} to {state}",
                    cure="a person has to do it: botswarm trading resume",
                )
            if row is None:
                row = TradingStateRow(scope=scope)
                session.add(row)
            row.state, row.reason, row.actor, row.at = state.value, reason, actor, now
            session.add(
                AuditRow(
                    at=now,
                    actor=actor,
                    action="trading.set",
                    subject=scope,
                    before={"state": before.value},
                    after={"state": state.value, "is_human": is_human},
                    reason=reason,
                )
            )
            return _halt(row)

        return self._database.write(work)


def strictest(session: Session, *, venue: str, account: str, bot: str, symbol: str) -> TradingState:
    scopes = (
        SWARM,
        account_scope(venue, account),
        bot_scope(bot),
        market_scope(venue, symbol),
    )
    rows = session.execute(
        select(TradingStateRow.scope, TradingStateRow.state).where(
            TradingStateRow.scope.in_(scopes)
        )
    )
    said = {row.scope: row.state for row in rows}
    return strictest_of(said.get(SWARM), *(said.get(scope) for scope in scopes[1:]))


def strictest_of(swarm: str | None, *others: str | None) -> TradingState:
    """Of what was said of the swarm and of the scopes of an order; None where nothing was."""
    said = [_unsaid(SWARM) if swarm is None else TradingState(swarm)]
    said += [TradingState(state) for state in others if state is not None]
    return max(said, key=STRICTNESS.__getitem__)


def _unsaid(scope: str) -> TradingState:
    # The first migration says ACTIVE for the swarm: where that row is gone, something is wrong.
    return TradingState.HALTED if scope == SWARM else TradingState.ACTIVE


def _halt(row: TradingStateRow) -> Halt:
    return Halt(
        scope=row.scope,
        state=TradingState(row.state),
        reason=row.reason,
        actor=row.actor,
        at=row.at,
    )
