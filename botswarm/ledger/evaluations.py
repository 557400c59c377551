"""Evaluations that changed something, kept with all they were decided on until they are pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.orm import Session

from botswarm.ledger.columns import as_kept
from botswarm.ledger.models import EvaluationRow
from botswarm.ledger.session import Database

if TYPE_CHECKING:
    from botswarm.ledger.bots import Decision

PRUNED_AT_ONCE = 10_000

_insert = insert(EvaluationRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One evaluation as it was written down."""

    bot: str
    at: datetime
    sequence: int
    version: int
    """Of the configuration the bot had."""
    record: Mapping[str, Any]
    inputs: Mapping[str, Any] | None
    """What deciding again takes; None where the bot was not asked."""


def add(session: Session, decisions: Sequence[Decision], now: datetime) -> None:
    """In the transaction that commits the decisions."""
    rows = [
        {
            "bot": each.bot,
            "at": now,
            "sequence": each.sequence,
            "version": each.version or 1,
            "record": as_kept(each.evaluation),
            "inputs": None if each.inputs is None else as_kept(each.inputs),
        }
        for each in decisions
        if each.is_change and each.evaluation is not None
    ]
    if rows:
        session.connection().execute(_insert, rows)


class Evaluations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def at(self, bot: str, moment: datetime) -> Kept | None:
        """The one that held then: the last that changed something up to that moment."""
        question = (
            select(EvaluationRow)
            .where(EvaluationRow.bot == bot, EvaluationRow.at <= moment)
            .order_by(EvaluationRow.at.desc(), EvaluationRow.id.desc())
            .limit(1)
        )
        return next(iter(self._found(question)), None)

    def after(self, bot: str, kept: Kept) -> datetime | None:
        """When the next one was written."""
        question = select(func.min(EvaluationRow.at)).where(
            EvaluationRow.bot == bot, EvaluationRow.at > kept.at
        )
        return self._database.read(lambda session: session.scalars(question).one())

    def between(self, bot: str, first: datetime, last: datetime) -> Sequence[Kept]:
        """Oldest first, both ends included."""
        question = (
            select(EvaluationRow)
            .where(EvaluationRow.bot == bot, EvaluationRow.at >= first, EvaluationRow.at <= last)
            .order_by(EvaluationRow.at, EvaluationRow.id)
        )
        return self._found(question)

    def oldest(self, bot: str) -> datetime | None:
        question = select(func.min(EvaluationRow.at)).where(EvaluationRow.bot == bot)
        return self._database.read(lambda session: session.scalars(question).one())

    def prune(self, *, before: datetime, kept_max: int) -> int:
        """Delete those older than ``before`` and all but the latest ``kept_max``; how many.

        At most PRUNED_AT_ONCE in one transaction, so that nobody waits long for it.
        """
        gone = 0
        while (done := self._database.write(lambda session: _prune(session, before, kept_max))) > 0:
            gone += done
        return gone

    def _found(self, question: Select[EvaluationRow]) -> Sequence[Kept]:
        return self._database.read(
            lambda session: [_kept(row) for row in session.scalars(question)]
        )


def _prune(session: Session, before: datetime, kept_max: int) -> int:
    ids = select(EvaluationRow.id).order_by(EvaluationRow.id.desc()).offset(kept_max).limit(1)
    last = session.scalars(ids).one_or_none()
    old = EvaluationRow.at < before
    due = old if last is None else old | (EvaluationRow.id <= last)
    some = select(EvaluationRow.id).where(due).order_by(EvaluationRow.id).limit(PRUNED_AT_ONCE)
    found = session.scalars(some).all()
    if found:
        session.execute(
            delete(EvaluationRow).where(due, EvaluationRow.id <= found[-1]),
            execution_options={"synchronize_session": False},
        )
    return len(found)


def _kept(row: EvaluationRow) -> Kept:
    return Kept(
        bot=row.bot,
        at=row.at,
        sequence=row.sequence,
        version=row.version,
        record=row.record,
        inputs=row.inputs,
    )
