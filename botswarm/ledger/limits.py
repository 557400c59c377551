"""The table of limits: what may be risked within each scope, and who said so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.limits import Chain, Level, Limit, LimitKind, level_of
from botswarm.errors import NotFound, Refused
from botswarm.ledger import halts
from botswarm.ledger.columns import NotExact, exact
from botswarm.ledger.fold import ZERO
from botswarm.ledger.models import AuditRow, BotRow
from botswarm.ledger.risk_models import LimitRevisionRow, LimitRow, LimitWarningRow
from botswarm.ledger.session import Database

SET, UNSET = "limit.set", "limit.unset"
KNOWN = frozenset(LimitKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A limit as it stands in the table."""

    limit: Limit
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What somebody did to a limit; nothing before or after is no limit."""

    at: datetime
    actor: str
    scope: str
    kind: str
    before: Decimal | None
    after: Decimal | None
    warn: Decimal | None
    reason: str


class Limits:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[Said]:
        question = select(LimitRow).order_by(LimitRow.scope, LimitRow.kind)
        return self._database.read(
            lambda session: [_said(row) for row in session.scalars(question) if row.kind in KNOWN]
        )

    def chain(self, scope: str) -> Chain:
        """The scopes that hold for everything in ``scope``; raises NotFound for a strange bot."""
        level = level_of(scope)
        if level is not Level.BOT:
            return {Level.SWARM: halts.SWARM, level: scope}
        name = scope.partition(":")[2]
        row = self._database.read(lambda session: session.get(BotRow, name))
        if row is None:
            raise NotFound(f"there is no bot {name}", cure="see: botswarm bot list")
        return chain_of(row.venue, row.account, row.strategy, row.symbol, row.name)

    def set(self, limit: Limit, *, actor: str, reason: str, now: datetime) -> Said:
        """Say it in place of what was said before; it holds for the next order that is judged."""
        _check(limit)

        def work(session: Session) -> Said:
            _count(session, now)
            row = session.get(LimitRow, (limit.scope, limit.kind.value), with_for_update=True)
            before = None if row is None else row.breach
            if row is None:
                row = LimitRow(scope=limit.scope, kind=limit.kind.value)
                session.add(row)
            row.warn, row.breach = limit.warn, limit.breach
            row.at, row.actor, row.reason = now, actor, reason
            after = {"kind": limit.kind.value, "breach": plain(limit.breach), "warn": None}
            if limit.warn is not None:
                after["warn"] = plain(limit.warn)
            _note(session, SET, row, before, after)
            _forget_warnings(session, limit.kind)
            return _said(row)

        return self._database.write(work)

    def unset(self, scope: str, kind: str, *, actor: str, reason: str, now: datetime) -> None:
        """What holds without it holds again; raises NotFound where nothing was said.

        ``kind`` may be one that only another version knows.
        """

        def work(session: Session) -> None:
            _count(session, now)
            row = session.get(LimitRow, (scope, str(kind)), with_for_update=True)
            if row is None:
                raise NotFound(
                    f"no limit {kind} was set for {scope}", cure="see: botswarm risk limits"
                )
            row.at, row.actor, row.reason = now, actor, reason
            _note(session, UNSET, row, row.breach, {"kind": str(kind)})
            session.delete(row)
            _forget_warnings(session, kind)

        self._database.write(work)

    def history(
        self, scope: str | None = None, kind: LimitKind | None = None, *, limit: int = 100
    ) -> Sequence[Change]:
        """Who changed which limit, the latest first."""
        question = select(AuditRow).where(AuditRow.action.in_((SET, UNSET)))
        if scope is not None:
            question = question.where(AuditRow.subject == scope)
        if kind is not None:
            question = question.where(AuditRow.after["kind"].as_string() == kind.value)
        question = question.order_by(AuditRow.id.desc()).limit(limit)
        return self._database.read(
            lambda session: [_change(row) for row in session.scalars(question)]
        )


def chain_of(venue: str, account: str, strategy: str | None, symbol: str, bot: str) -> Chain:
    """``strategy`` is None for orders of no bot that is known."""
    chain = {
        Level.SWARM: halts.SWARM,
        Level.ACCOUNT: halts.account_scope(venue, account),
        Level.MARKET: halts.market_scope(venue, symbol),
        Level.BOT: halts.bot_scope(bot),
    }
    if strategy is not None:
        chain[Level.STRATEGY] = halts.strategy_scope(strategy)
    return chain


def said_of(session: Session, scopes: Collection[str]) -> list[Limit]:
    """Of these scopes. A kind that this version does not know is a Refused: its limit holds."""
    question = select(LimitRow).where(LimitRow.scope.in_(scopes))
    return [_limit(row) for row in session.scalars(question)]


def _limit(row: LimitRow) -> Limit:
    if row.kind not in KNOWN:
        raise Refused(
            f"{row.scope} has a limit {row.kind!r}, which this version does not know",
            cure=f"run one version everywhere, or: botswarm risk limits unset {row.kind} "
            f"--for {row.scope}",
        )
    return Limit(scope=row.scope, kind=LimitKind(row.kind), breach=row.breach, warn=row.warn)


def _said(row: LimitRow) -> Said:
    return Said(limit=_limit(row), at=row.at, actor=row.actor, reason=row.reason)


def _check(limit: Limit) -> None:
    level_of(limit.scope)
    if limit.breach < 0 or (limit.warn is not None and limit.warn < 0):
        raise Refused("a limit is not negative", cure="write 0 or more")
    if limit.warn is not None and limit.warn > limit.breach:
        raise Refused(
            f"the warning line {plain(limit.warn)} is beyond the limit {plain(limit.breach)}",
            cure="name one that is reached first",
        )
    for amount in (limit.breach, limit.warn or ZERO):
        try:
            exact(amount)
        except NotExact as error:
            raise Refused(error.cause, cure="write an amount that some market has") from error


def _count(session: Session, now: datetime) -> None:
    """Held until the commit, so that revisions are committed in their order.

    A ledger that was restored from a backup must not come to a number that some process
    remembers: a clock says none twice.
    """
    row = session.get_one(LimitRevisionRow, 1, with_for_update=True)
    row.revision = max(row.revision + 1, int(now.timestamp() * 1e6))


def _forget_warnings(session: Session, kind: str) -> None:
    """What is near its limit by the new lines is told anew, and what is not is near no more."""
    session.execute(delete(LimitWarningRow).where(LimitWarningRow.kind == str(kind)))


def _note(
    session: Session, action: str, row: LimitRow, before: Decimal | None, after: dict[str, Any]
) -> None:
    said = None if before is None else {"kind": row.kind, "breach": plain(before)}
    session.add(
        AuditRow(
            at=row.at,
            actor=row.actor,
            action=action,
            subject=row.scope,
            before=said,
            after=after,
            reason=row.reason,
        )
    )


def _change(row: AuditRow) -> Change:
    before, after = row.before or {}, row.after or {}

    def amount(said: dict[str, Any], name: str) -> Decimal | None:
        return None if said.get(name) is None else Decimal(said[name])

    return Change(
        at=row.at,
        actor=row.actor,
        scope=row.subject,
        kind=after.get("kind") or before.get("kind") or "",
        before=amount(before, "breach"),
        after=amount(after, "breach"),
        warn=amount(after, "warn"),
        reason=row.reason,
    )
