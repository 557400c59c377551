"""Every fill there is, ours and external, and every entry of the journal: to list and to export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.fill import Fill
from botswarm.ledger import chain
from botswarm.ledger.models import AdjustmentRow, EntryRow, FillRow, PostingRow
from botswarm.ledger.rows import fill_of
from botswarm.ledger.session import Database

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Trades that fit all that is said here."""

    bot: str | None = None
    venue: str | None = None
    account: str | None = None
    symbol: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    number: int
    """Of its row; rises with the order of booking."""
    fill: Fill
    account: str
    bot: str | None
    """None where it filled no order of ours."""
    order_id: str | None
    booked_at: datetime


class Trades:
    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, wanted: Wanted, limit: int) -> Sequence[Traded]:
        """By when they were booked, newest first."""
        question = _asked(wanted).order_by(FillRow.id.desc()).limit(limit)
        return self._database.read(
            lambda session: [_traded(row) for row in session.scalars(question)]
        )

    def all(self, wanted: Wanted) -> Iterator[Traded]:
        """In the order of booking, page by page: however many there are, few are held."""
        after = 0
        while True:
            question = _asked(wanted).where(FillRow.id > after).order_by(FillRow.id).limit(PAGE)
            page = self._database.read(
                lambda session, question=question: [  # type: ignore[misc]
                    _traded(row) for row in session.scalars(question)
                ]
            )
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].number

    def entries(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The journal from an entry on: what each says, word for word, and its hash."""
        while True:
            page = self._database.read(
                lambda session, after=after: _entries(session, after)  # type: ignore[misc]
            )
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]["sequence"]


def _asked(wanted: Wanted) -> Select[FillRow]:
    question = select(FillRow)
    for name in ("bot", "venue", "account", "symbol"):
        if (value := getattr(wanted, name)) is not None:
            question = question.where(getattr(FillRow, name) == value)
    if wanted.since is not None:
        question = question.where(FillRow.at >= wanted.since)
    if wanted.until is not None:
        question = question.where(FillRow.at < wanted.until)
    return question


def _traded(row: FillRow) -> Traded:
    return Traded(
        number=row.id,
        fill=fill_of(row),
        account=row.account,
        bot=row.bot,
        order_id=row.order_id,
        booked_at=row.booked_at,
    )


def _entries(session: Session, after: int) -> list[dict[str, Any]]:
    question = (
        select(EntryRow, FillRow, AdjustmentRow)
        .outerjoin(FillRow, FillRow.id == EntryRow.fill_id)
        .outerjoin(AdjustmentRow, AdjustmentRow.id == EntryRow.adjustment_id)
        .where(EntryRow.sequence > after)
        .order_by(EntryRow.sequence)
        .limit(PAGE)
    )
    rows: list[tuple[EntryRow, FillRow, AdjustmentRow]] = [
        (entry, fill, adjustment) for entry, fill, adjustment in session.execute(question)
    ]
    last = rows[-1][0].sequence if rows else after
    legs: dict[int, list[list[str]]] = {}
    for posting in session.scalars(
        select(PostingRow)
        .where(PostingRow.sequence > after, PostingRow.sequence <= last)
        .order_by(PostingRow.sequence, PostingRow.line)
    ):
        leg = [posting.ledger_account, posting.asset, plain(posting.amount)]
        legs.setdefault(posting.sequence, []).append(leg)
    return [
        {
            "sequence": entry.sequence,
            **chain.said(fill or adjustment),
            "postings": legs.get(entry.sequence, []),
            "previous_hash": entry.previous_hash,
            "hash": entry.hash,
        }
        for entry, fill, adjustment in rows
    ]
