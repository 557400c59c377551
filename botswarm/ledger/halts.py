"""The trading state: of the swarm, and of what is in it; the strictest holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, String, bindparam, case, literal_column, select
from sqlalchemy.orm import Session

from botswarm.domain.permission import TradingState
from botswarm.errors import Refused
from botswarm.ledger import processes
from botswarm.ledger.halting import SWARM as SWARM
from botswarm.ledger.models import AuditRow, BotRow, TradingStateRow
from botswarm.ledger.session import Database

STRATEGY = "strategy:"
ALL = 100
STRICTNESS = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


class Cause(StrEnum):
    """Who holds a scope; what a person or a limit holds only a person lets go."""

    SYSTEM = "system"
    LIMIT = "limit"
    PERSON = "person"


BINDING = {cause: rank for rank, cause in enumerate(Cause)}


def account_scope(venue: str, account: str) -> str:
    return f"account:{venue}:{account}"


def bot_scope(bot: str) -> str:
    return f"bot:{bot}"


def market_scope(venue: str, symbol: str) -> str:
    return f"market:{venue}:{symbol}"


def strategy_scope(strategy: str) -> str:
    return STRATEGY + strategy


def place_of(bot: str) -> int:
    """Where a bot stands among a hundred: it is in the swarm's share when the share is above."""
    return int.from_bytes(hashlib.sha256(bot.encode()).digest()[:8]) % ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """What was said of a scope, who said so and why."""

    scope: str
    state: TradingState
    reason: str
    actor: str
    at: datetime
    cause: Cause = Cause.PERSON
    until: datetime | None = None
    share: int | None = None
    """Of the swarm: how many in a hundred of its bots may grow positions; None is all."""

    def state_at(self, now: datetime) -> TradingState:
        return TradingState.ACTIVE if self.is_over(now) else self.state

    def is_over(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now


class Halts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Halt]:
        """Every scope about which something was said; the others are active."""

        def work(session: Session) -> list[Halt]:
            rows = session.scalars(select(TradingStateRow).order_by(TradingStateRow.scope))
            return [_halt(row) for row in rows]

        return self._database.read(work)

    def strictest(
        self, *, venue: str, account: str, bot: str, symbol: str, now: datetime
    ) -> TradingState:
        """What holds for one order; a swarm about which nothing is known is halted."""
        values = names(venue, account, bot, symbol, now)
        row = self._database.read(lambda session: session.execute(_STATES, values).one())
        return strictest_of(row, bot)

    def set(
        self,
        scope: str,
        state: TradingState,
        *,
        reason: str,
        actor: str,
        now: datetime,
        is_human: bool = False,
        cause: Cause = Cause.PERSON,
        until: datetime | None = None,
        share: int | None = None,
    ) -> Halt:
        """Anything may restrict; only a person may relax, but for what the system holds itself.

        ``share`` is left as it is where it is None, and 100 is all bots. What holds as firmly
        already is left as it is. Every change is audited.
        """
        wanted = Halt(
            scope=scope,
            state=state,
            reason=reason,
            actor=actor,
            at=now,
            cause=Cause.PERSON if is_human else cause,
            until=until,
            share=share,
        )
        _check(wanted)

        def work(session: Session) -> Halt:
            return put(session, wanted, is_human=is_human)

        return self._database.write(work)

    def restrict(
        self,
        scope: str,
        state: TradingState,
        *,
        reason: str,
        actor: str,
        now: datetime,
        cause: Cause,
        until: datetime | None = None,
    ) -> Halt | None:
        """At least so strict; None where that held already. For what looks again and again."""
        wanted = Halt(
            scope=scope,
            state=state,
            reason=reason,
            actor=actor,
            at=now,
            cause=cause,
            until=until,
        )
        return self._database.write(lambda session: restrict(session, wanted))


def restrict(session: Session, wanted: Halt) -> Halt | None:
    """As Halts.restrict, with the transaction of what asks for it."""
    _check(wanted)
    held = hold(session, wanted.scope)
    if held is not None and _is_as_firm(held, wanted):
        return None
    if held is not None and STRICTNESS[held.state_at(wanted.at)] > STRICTNESS[wanted.state]:
        return None
    return put(session, wanted, is_human=False)


def _check(wanted: Halt) -> None:
    if wanted.share is not None and (wanted.scope != SWARM or not 0 <= wanted.share <= ALL):
        raise ValueError(f"{wanted.scope} cannot have a share of {wanted.share} %")
    if wanted.until is None:
        return
    if wanted.cause is Cause.LIMIT or wanted.state is TradingState.ACTIVE:
        raise ValueError("what a limit holds ends by a person only, and what is active needs none")
    if wanted.until <= wanted.at:
        raise Refused(
            f"{wanted.until:%Y-%m-%d %H:%M:%S} is not in the future",
            cure="name a later moment, or none to halt until somebody resumes",
        )


def hold(session: Session, scope: str) -> Halt | None:
    """What was said of a scope, locked until the transaction ends."""
    return None if (row := _locked(session, scope)) is None else _halt(row)


def _locked(session: Session, scope: str) -> TradingStateRow | None:
    row = session.get(TradingStateRow, scope, with_for_update=True)
    if row is None and scope != SWARM and _locked(session, SWARM) is not None:
        # Nobody can lock what is not there: who speaks of a scope for the first time takes turns.
        row = session.get(TradingStateRow, scope, with_for_update=True, populate_existing=True)
    return row


def put(session: Session, wanted: Halt, *, is_human: bool, is_granted: bool = False) -> Halt:
    """``Halts.set`` within a transaction that does more.

    ``is_granted`` says that a person let this share be reached when he began an enabling.
    """
    row = _locked(session, wanted.scope)
    held = None if row is None else _halt(row)
    before = held.state_at(wanted.at) if held is not None else unsaid(wanted.scope)
    _check_processes(session, held, before, wanted)
    if not is_human:
        _may(held, before, wanted, is_granted=is_granted)
        if held is not None and _is_as_firm(held, wanted):
            return held
    after = wanted if is_human else _together(held, wanted)
    if row is None:
        row = TradingStateRow(scope=wanted.scope)
        session.add(row)
    said = described(held)
    row.state, row.cause, row.until = after.state.value, after.cause.value, after.until
    row.reason, row.actor, row.at = after.reason, after.actor, after.at
    if after.share is not None:
        row.share = None if after.share == ALL else after.share
    done = _halt(row)
    if described(done) != said or is_human:
        before_row = {"state": before.value} | said
        session.add(_audited(wanted, before_row, described(done) | {"is_human": is_human}))
    return done


def narrow(session: Session, wanted: Halt) -> None:
    """Fewer of the swarm's bots may grow positions; who holds it, and how, stays as it is."""
    row = session.get(TradingStateRow, SWARM, with_for_update=True)
    if row is None or wanted.share is None or wanted.share >= _share(held := _halt(row)):
        return
    row.share = wanted.share
    before_row = {"state": held.state_at(wanted.at).value} | described(held)
    session.add(_audited(wanted, before_row, described(_halt(row)) | {"is_human": False}))


def _audited(wanted: Halt, before: dict[str, Any], after: dict[str, Any]) -> AuditRow:
    return AuditRow(
        at=wanted.at,
        actor=wanted.actor,
        action="trading.set",
        subject=wanted.scope,
        before=before,
        after=after,
        reason=wanted.reason,
    )


def _check_processes(
    session: Session, held: Halt | None, before: TradingState, wanted: Halt
) -> None:
    """Nothing opens the swarm while those who would trade are not made of the same."""
    if wanted.scope != SWARM or wanted.state is not TradingState.ACTIVE:
        return
    is_open = before is TradingState.ACTIVE
    if held is not None and is_open and (wanted.share or 0) <= _share(held):
        return
    if (why := processes.objection(session, wanted.at)) is not None:
        raise Refused(
            f"trading stays as it is: {why}",
            cure="restart those that are older with the same settings, or stop them; "
            "see: botswarm ps --all",
        )


def _may(held: Halt | None, before: TradingState, wanted: Halt, *, is_granted: bool) -> None:
    is_own = held is not None and held.cause is wanted.cause is Cause.SYSTEM
    if STRICTNESS[wanted.state] < STRICTNESS[before] and not is_own:
        raise Refused(
            f"{wanted.actor} may not relax {wanted.scope} from {before} to {wanted.state}",
            cure="a person has to do it: botswarm trading resume",
        )
    is_wider = wanted.share is not None and wanted.share > (ALL if held is None else _share(held))
    if is_wider and not is_granted:
        raise Refused(
            f"{wanted.actor} may not open {wanted.scope} to {wanted.share} % of its bots",
            cure="a person has to do it: botswarm trading enable",
        )


def _share(held: Halt) -> int:
    return ALL if held.share is None else held.share


def _is_as_firm(held: Halt, wanted: Halt) -> bool:
    """Whether all that ``wanted`` says holds already, for as long and as hard to lift."""
    if held.state is not wanted.state or held.is_over(wanted.at):
        return False
    if wanted.share is not None and wanted.share != _share(held):
        return False
    is_as_long = held.until is None or (wanted.until is not None and wanted.until <= held.until)
    return is_as_long and BINDING[held.cause] >= BINDING[wanted.cause]


def _together(held: Halt | None, wanted: Halt) -> Halt:
    """What a rule says beside what holds: neither ends earlier or more easily than it did."""
    is_free = held is None or held.state_at(wanted.at) is TradingState.ACTIVE
    if held is None or is_free or wanted.state is TradingState.ACTIVE:
        return wanted
    ends = (held.until, wanted.until)
    until = None if None in ends else max(end for end in ends if end is not None)
    cause = max(held.cause, wanted.cause, key=BINDING.__getitem__)
    return replace(wanted, cause=cause, until=until)


def described(held: Halt | None) -> dict[str, Any]:
    if held is None:
        return {}
    return {
        "state": held.state.value,
        "cause": held.cause.value,
        "until": None if held.until is None else held.until.isoformat(),
        "share": held.share,
    }


# --- what holds for one order ---------------------------------------------------------------------


def names(venue: str, account: str, bot: str, symbol: str, now: datetime) -> Mapping[str, Any]:
    return {
        "bot_name": bot,
        "now": now,
        "swarm_scope": SWARM,
        "account_scope": account_scope(venue, account),
        "bot_scope": bot_scope(bot),
        "market_scope": market_scope(venue, symbol),
    }


def _state() -> ColumnElement[str]:
    """In words, as it is at ``now``."""
    is_over = TradingStateRow.until <= bindparam("now", type_=TradingStateRow.until.type)
    active = literal_column(f"'{TradingState.ACTIVE}'", String())
    return case((is_over, active), else_=TradingStateRow.state)


def _said_of(scope: str) -> ColumnElement[Any]:
    named = TradingStateRow.scope == bindparam(f"{scope}_scope")
    return select(_state()).where(named).scalar_subquery().label(f"{scope}_state")


_STRATEGY: ColumnElement[str] = literal_column(f"'{STRATEGY}'", String())
_BY_STRATEGY = (
    select(_state())
    .join(BotRow, TradingStateRow.scope == _STRATEGY.concat(BotRow.strategy))
    .where(BotRow.name == bindparam("bot_name"))
    .scalar_subquery()
    .label("strategy_state")
)
STRATEGY_OF_THE_BOT = (
    select(_STRATEGY.concat(BotRow.strategy))
    .where(BotRow.name == bindparam("bot_name"))
    .scalar_subquery()
)
"""Its scope."""
_SHARE = (
    select(TradingStateRow.share)
    .where(TradingStateRow.scope == bindparam("swarm_scope"))
    .scalar_subquery()
    .label("swarm_share")
)
STATES: tuple[ColumnElement[Any], ...] = (
    *(_said_of(scope) for scope in ("swarm", "account", "bot", "market")),
    _BY_STRATEGY,
    _SHARE,
)
"""For a question about one order: what is said of each of its scopes, the values as ``names``."""
_STATES: Select[Any] = select(*STATES)


def strictest_of(said: Any, bot: str) -> TradingState:
    """Of a row that holds STATES; the bot may be beyond the share that the swarm is open to."""
    states = [unsaid(SWARM) if said.swarm_state is None else known(said.swarm_state)]
    others = (said.account_state, said.bot_state, said.market_state, said.strategy_state)
    states += [known(state) for state in others if state is not None]
    if said.swarm_share is not None and place_of(bot) >= said.swarm_share:
        states.append(TradingState.REDUCING)
    return max(states, key=STRICTNESS.__getitem__)


def known(word: str) -> TradingState:
    """A word that means nothing to us was said for a reason: nothing passes."""
    try:
        return TradingState(word)
    except ValueError:
        return TradingState.HALTED


def unsaid(scope: str) -> TradingState:
    # The first migration says ACTIVE for the swarm: where that row is gone, something is wrong.
    return TradingState.HALTED if scope == SWARM else TradingState.ACTIVE


def _halt(row: TradingStateRow) -> Halt:
    return Halt(
        scope=row.scope,
        state=known(row.state),
        reason=row.reason,
        actor=row.actor,
        at=row.at,
        cause=Cause(row.cause) if row.cause in BINDING else Cause.PERSON,
        until=row.until,
        share=row.share,
    )
