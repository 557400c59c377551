"""What orders that closed a position earned or lost: read from the journal, each entry once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, delete, select, tuple_
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderKind, is_protective
from botswarm.ledger import halts
from botswarm.ledger.findings import hold
from botswarm.ledger.fold import EXACT, ZERO, Assets, Holding, changes, value
from botswarm.ledger.models import BotRow, EntryRow, FillRow, OrderRow
from botswarm.ledger.rows import fill_of
from botswarm.ledger.session import Database, save_latest
from botswarm.ledger.sweep_models import OutcomeHoldingRow, OutcomeRow

CURSOR = "outcomes"
ENTRIES_MAX = 2_000
"""Of one reading; the next goes on from there."""
STREAK_MAX = 50
"""A longer streak is told as so many."""
KEPT_FOR = timedelta(days=90)
PRUNED_MAX = 2_000
STOPS = frozenset((OrderKind.STOP.value, OrderKind.STOP_LIMIT.value))

Place = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    order_id: str
    bot: str
    strategy: str | None
    venue: str
    account: str
    symbol: str
    quote: str
    realised: Decimal
    turnover: Decimal
    at: datetime
    is_stop: bool

    @property
    def scopes(self) -> Sequence[str]:
        scopes = [
            halts.SWARM,
            halts.account_scope(self.venue, self.account),
            halts.market_scope(self.venue, self.symbol),
            halts.bot_scope(self.bot),
        ]
        return scopes if self.strategy is None else [*scopes, halts.strategy_scope(self.strategy)]


_COLUMNS = tuple(getattr(OutcomeRow, name) for name in Outcome.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Read:
    entries: int
    outcomes: Sequence[Outcome]
    """Those that are new or have grown."""
    is_all: bool
    """The end of the journal was reached."""


class Outcomes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read_on(self, now: datetime) -> Read:
        """Harmless however often: what was read is not read again."""
        return self._database.write(lambda session: read_on(session, now))

    def since(self, after: datetime, most: int) -> Sequence[Outcome]:
        """Oldest first; of more than ``most`` the latest."""
        question = (
            select(*_COLUMNS)
            .where(OutcomeRow.at > after)
            .order_by(OutcomeRow.at.desc(), OutcomeRow.order_id.desc())
            .limit(most)
        )

        def work(session: Session) -> list[Outcome]:
            return [Outcome(**row._mapping) for row in session.execute(question)]

        return self._database.read(work)[::-1]


def read_on(session: Session, now: datetime) -> Read:
    cursor = hold(session, CURSOR, now)
    question = (
        select(EntryRow.sequence, FillRow, OrderRow.id, OrderRow.kind, BotRow.strategy)
        .outerjoin(FillRow, FillRow.id == EntryRow.fill_id)
        .outerjoin(OrderRow, OrderRow.id == FillRow.order_id)
        .outerjoin(BotRow, BotRow.name == FillRow.bot)
        .where(EntryRow.sequence > cursor.position)
        .order_by(EntryRow.sequence)
        .limit(ENTRIES_MAX)
    )
    rows: list[Any] = list(session.execute(question))
    if not rows:
        return Read(0, (), is_all=True)
    fills = [row for row in rows if row[1] is not None and row[1].bot is not None]
    found = _folded(session, fills)
    kept = _add(session, found)
    cursor.position, cursor.at = rows[-1][0], now
    oldest = select(OutcomeRow.order_id).where(OutcomeRow.at < now - KEPT_FOR).limit(PRUNED_MAX)
    session.execute(delete(OutcomeRow).where(OutcomeRow.order_id.in_(oldest)))
    return Read(len(rows), kept, is_all=len(rows) < ENTRIES_MAX)


def _folded(session: Session, rows: Sequence[Any]) -> dict[str, Outcome]:
    """By order. What came late is folded when it comes: only streaks and pauses rest on it."""
    places = {_place(row[1]) for row in rows}
    before = _holdings(session, places)
    found: dict[str, Outcome] = {}
    for _, row, order_id, kind, strategy in rows:
        place, assets = _place(row), Assets.of(row.symbol)
        held, fill = before.get(place, Holding()), fill_of(row)
        after = before[place] = held.after(fill, assets)
        moved, _ = changes(fill, assets)
        if held.quantity * moved >= 0:
            continue
        closed = min(abs(moved), abs(held.quantity))
        name = order_id or f"fill {row.id}"
        outcome = Outcome(
            order_id=name,
            bot=row.bot,
            strategy=strategy,
            venue=row.venue,
            account=row.account,
            symbol=row.symbol,
            quote=assets.quote,
            realised=EXACT.subtract(after.realised, held.realised),
            turnover=value(fill.price, closed),
            at=fill.at,
            is_stop=kind in STOPS or is_protective(name),
        )
        found[name] = _joined(found.get(name), outcome)
    _keep_holdings(session, before)
    return found


def _joined(one: Outcome | None, other: Outcome) -> Outcome:
    if one is None:
        return other
    values = {name: getattr(other, name) for name in Outcome.__dataclass_fields__}
    values["realised"] = EXACT.add(one.realised, other.realised)
    values["turnover"] = EXACT.add(one.turnover, other.turnover)
    values["at"] = max(one.at, other.at)
    return Outcome(**values)


def _add(session: Session, found: Mapping[str, Outcome]) -> list[Outcome]:
    names = sorted(found)
    known = {
        row.order_id: _outcome(row)
        for row in session.scalars(select(OutcomeRow).where(OutcomeRow.order_id.in_(names)))
    }
    kept = [_joined(known.get(name), found[name]) for name in names]
    if kept:
        fields = Outcome.__dataclass_fields__
        rows = [{name: getattr(each, name) for name in fields} for each in kept]
        save_latest(session, OutcomeRow, rows)
    return kept


def _holdings(session: Session, places: Iterable[Place]) -> dict[Place, Holding]:
    row = OutcomeHoldingRow
    identity = tuple_(row.bot, row.venue, row.account, row.symbol)
    found = session.scalars(select(row).where(identity.in_(sorted(places)))) if places else ()
    return {_place(each): Holding(quantity=each.quantity, cost=each.cost) for each in found}


def _keep_holdings(session: Session, holdings: Mapping[Place, Holding]) -> None:
    rows = [
        {
            **dict(zip(("bot", "venue", "account", "symbol"), place, strict=True)),
            "quantity": held.quantity,
            "cost": held.cost,
        }
        for place, held in sorted(holdings.items())
    ]
    if rows:
        save_latest(session, OutcomeHoldingRow, rows)


def _place(row: Any) -> Place:
    return row.bot, row.venue, row.account, row.symbol


def _outcome(row: OutcomeRow) -> Outcome:
    return Outcome(**{name: getattr(row, name) for name in Outcome.__dataclass_fields__})


# --- what they add up to --------------------------------------------------------------------------


def streak(session: Session, scope: str) -> tuple[int, datetime | None]:
    """How many of a scope's latest outcomes were losses, in a row, and when the last loss was."""
    question = (
        select(OutcomeRow.realised, OutcomeRow.at)
        .where(*_within(scope))
        .order_by(OutcomeRow.at.desc(), OutcomeRow.order_id)
        .limit(STREAK_MAX)
    )
    losing, lost_at, is_over = 0, None, False
    for realised, at in session.execute(question):
        if realised < 0:
            lost_at = lost_at or at
            losing += not is_over
        elif realised > 0:
            is_over = True
    return losing, lost_at


def realised_since(
    session: Session, after: datetime, bots: Sequence[str] | None = None
) -> dict[tuple[str, str], Decimal]:
    """By scope and quote asset; of these bots, or of all."""
    row = OutcomeRow
    question = select(row).where(row.at >= after)
    if bots is not None:
        question = question.where(row.bot.in_(bots))
    found: dict[tuple[str, str], Decimal] = {}
    for each in session.scalars(question.execution_options(yield_per=1_000)):
        outcome = _outcome(each)
        for scope in outcome.scopes:
            key = scope, outcome.quote
            found[key] = EXACT.add(found.get(key, ZERO), outcome.realised)
    return found


def _within(scope: str) -> tuple[ColumnElement[bool], ...]:
    level, _, rest = scope.partition(":")
    first, _, second = rest.partition(":")
    row = OutcomeRow
    match level:
        case "account":
            return row.venue == first, row.account == second
        case "market":
            return row.venue == first, row.symbol == second
        case "strategy":
            return (row.strategy == rest,)
        case "bot":
            return (row.bot == rest,)
    return ()
