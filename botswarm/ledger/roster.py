"""Which bots there are and how they stand, thousands at once: chosen, listed and counted."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, String, and_, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderState
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.many import AT_ONCE, parts
from botswarm.ledger.models import BotRow, BotVersionRow, OrderRow, PositionRow, Table
from botswarm.ledger.session import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Bots that fit all that is said here, and in each list any of it."""

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    markets: tuple[tuple[str | None, str], ...] = ()
    """Venue and symbol; without a venue that symbol anywhere."""
    states: tuple[BotState, ...] = ()

    @property
    def is_empty(self) -> bool:
        """It leaves nobody out."""
        return not (self.names or self.tags or self.strategies or self.markets or self.states)


class Line(NamedTuple):
    """A bot as it stands in a list of many; a tuple, because ten thousand are made at once."""

    name: str
    strategy: str
    venue: str
    symbol: str
    account: str
    timeframe: str
    state: str
    reason: str | None
    version: int
    tags: Sequence[str]
    is_shadow: bool
    verdict: str | None
    gate: str | None
    words: str | None
    """Of the gate that stopped it, where one did."""
    nearest: str | None
    evaluated_at: str | None
    position: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    bot: str
    version: int
    at: datetime
    actor: str
    reason: str
    configuration: Mapping[str, Any]


class Roster:
    def __init__(self, database: Database) -> None:
        self._database = database

    def lines(
        self, choice: Choice, *, limit: int | None = None, after: str | None = None
    ) -> Sequence[Line]:
        """By name; with ``after`` those that come behind it."""
        question = _lines(self._clauses(choice))
        if after is not None:
            question = question.where(BotRow.name > after)
        if limit is not None:
            question = question.limit(limit)
        return self._database.read(
            lambda session: [_line(row) for row in session.connection().execute(question)]
        )

    def count(self, choice: Choice) -> int:
        question = select(func.count()).select_from(BotRow).where(*self._clauses(choice))
        return self._database.read(lambda session: session.execute(question).scalar_one())

    def states(self, choice: Choice) -> Mapping[str, BotState]:
        """By name; names that are asked for and are not there are left out."""

        def work(session: Session) -> dict[str, BotState]:
            found: dict[str, BotState] = {}
            for part in _parts(choice):
                question = (
                    select(BotRow.name, BotRow.state)
                    .where(*self._clauses(part))
                    .order_by(BotRow.name)
                )
                found |= {name: BotState(state) for name, state in session.execute(question)}
            return found

        return self._database.read(work)

    def bots(self, choice: Choice) -> Sequence[Bot]:
        """As they were told to be, without memory and evaluation: for copies and comparisons."""

        def work(session: Session) -> list[Bot]:
            return [
                _bot(tuple(row))
                for part in _parts(choice)
                for row in session.execute(_configured().where(*self._clauses(part)))
            ]

        return sorted(self._database.read(work), key=lambda bot: bot.name)

    def names(self) -> Sequence[str]:
        return self._database.read(lambda session: session.scalars(select(BotRow.name)).all())

    def holding(self, names: Sequence[str]) -> Sequence[tuple[str, str, Decimal]]:
        """Bot, symbol and quantity of those that hold something, by name."""

        def work(session: Session) -> list[tuple[str, str, Decimal]]:
            held = []
            for part in parts(sorted(names)):
                question = (
                    select(PositionRow.bot, PositionRow.symbol, PositionRow.quantity)
                    .where(PositionRow.bot.in_(part))
                    .order_by(PositionRow.bot, PositionRow.symbol)
                )
                held += [(row[0], row[1], row[2]) for row in session.execute(question) if row[2]]
            return held

        return self._database.read(work)

    def open_orders(self, names: Sequence[str]) -> int:
        """How many orders of these bots are not at their end."""
        under_way = or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value)

        def work(session: Session) -> int:
            return sum(
                session.execute(
                    select(func.count()).where(OrderRow.bot.in_(part), under_way)
                ).scalar_one()
                for part in parts(names)
            )

        return self._database.read(work)

    def versions(self, bot: str) -> Sequence[Version]:
        """Oldest first. A bot that nobody has changed since before versions were kept has none."""
        question = (
            select(BotVersionRow).where(BotVersionRow.bot == bot).order_by(BotVersionRow.version)
        )
        return self._database.read(
            lambda session: [_version(row) for row in session.scalars(question)]
        )

    def _clauses(self, choice: Choice) -> list[ColumnElement[bool]]:
        clauses: list[ColumnElement[bool]] = []
        if choice.names:
            clauses.append(BotRow.name.in_(choice.names))
        if choice.strategies:
            clauses.append(BotRow.strategy.in_(choice.strategies))
        if choice.states:
            clauses.append(BotRow.state.in_([state.value for state in choice.states]))
        if choice.markets:
            clauses.append(or_(*(_in_market(*market) for market in choice.markets)))
        if choice.tags:
            clauses.append(or_(*(self._has_tag(tag) for tag in choice.tags)))
        return clauses

    def _has_tag(self, tag: str) -> ColumnElement[bool]:
        if not self._database.is_sqlite:
            return cast(BotRow.tags, JSONB).contains([tag])
        each = func.json_each(BotRow.tags).table_valued("value")
        return exists(select(each.c.value).where(each.c.value == tag))


def _parts(choice: Choice) -> Sequence[Choice]:
    """The same choice in parts that a statement can hold."""
    names = sorted(set(choice.names))
    if len(names) <= AT_ONCE:
        return [choice]
    return [replace(choice, names=tuple(part)) for part in parts(names)]


def _in_market(venue: str | None, symbol: str) -> ColumnElement[bool]:
    here = BotRow.symbol == symbol
    return here if venue is None else and_(BotRow.venue == venue, here)


def _lines(clauses: Sequence[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    # The tables themselves: their classes would be looked through first, for what is not used.
    bots, positions = Table.metadata.tables["bots"], Table.metadata.tables["positions"]
    bot, held = bots.c, positions.c
    said = bot.last_evaluation
    holds = and_(
        held.bot == bot.name,
        held.venue == bot.venue,
        held.account == bot.account,
        held.symbol == bot.symbol,
    )
    # Of the evaluation only what is shown: reading all of ten thousand takes a second.
    return (
        select(
            bot.name,
            bot.strategy,
            bot.venue,
            bot.symbol,
            bot.account,
            bot.timeframe,
            bot.state,
            bot.reason,
            bot.version,
            cast(bot.tags, String),
            bot.is_shadow,
            said["verdict"].as_string(),
            said[("stopped", "gate")].as_string(),
            said[("stopped", "words")].as_string(),
            said["nearest"].as_string(),
            said["at"].as_string(),
            held.quantity,
        )
        .select_from(bots.outerjoin(positions, holds))
        .where(*clauses)
        .order_by(bot.name)
    )


def _line(row: Row[*tuple[Any, ...]]) -> Line:
    # The columns in the order of the fields; no list of tags is none, no position is nothing held.
    return Line._make((*row[:9], _tags(row[9]), *row[10:-1], row[-1] or Decimal(0)))


@functools.lru_cache(maxsize=1024)
def _tags(text: str | None) -> tuple[str, ...]:
    """Ten thousand bots have few lists of tags, and the same ones."""
    return tuple(json.loads(text) or ()) if text else ()


def _configured() -> Select[*tuple[Any, ...]]:
    return select(
        BotRow.name,
        BotRow.strategy,
        BotRow.venue,
        BotRow.symbol,
        BotRow.account,
        BotRow.timeframe,
        BotRow.parameters,
        BotRow.state,
        BotRow.reason,
        BotRow.version,
        BotRow.others,
        BotRow.tags,
        BotRow.is_shadow,
        BotRow.armed_until,
    )


def _bot(row: tuple[Any, ...]) -> Bot:
    (name, strategy, venue, symbol, account, timeframe, parameters, state, reason, version,
     others, tags, is_shadow, armed_until) = row  # fmt: skip
    return Bot(
        name=name,
        strategy=strategy,
        venue=venue,
        symbol=symbol,
        account=account,
        timeframe=timeframe,
        parameters=parameters,
        state=BotState(state),
        reason=reason,
        version=version,
        others=tuple(others or ()),
        tags=tuple(tags or ()),
        is_shadow=is_shadow,
        armed_until=armed_until,
    )


def _version(row: BotVersionRow) -> Version:
    return Version(
        bot=row.bot,
        version=row.version,
        at=row.at,
        actor=row.actor,
        reason=row.reason,
        configuration=row.configuration,
    )
