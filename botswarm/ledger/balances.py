"""What an account has by the journal: a fold over its entries, kept as far as it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.reconciliation import Balances, Reckoned
from botswarm.ledger import chain
from botswarm.ledger.account_models import AccountFoldRow
from botswarm.ledger.fold import EXACT, ZERO
from botswarm.ledger.models import ChainHeadRow, EntryRow, FillRow, PostingRow

MOVES_MAX = 2_000


def reckon(session: Session, venue: str, account: str, since: datetime) -> Reckoned:
    """``latest`` are the fills of ``since`` or later, by the venue's clock, at most MOVES_MAX."""
    row = session.get(AccountFoldRow, (venue, account))
    start, after = (of_row(row), row.sequence) if row is not None else ({}, 0)
    return Reckoned(
        fold(session, venue, account, start=start, after=after),
        _latest(session, venue, account, since),
    )


def keep(session: Session, venue: str, account: str) -> None:
    """Write the fold down as far as the journal has come, so that the next one is short."""
    row = session.get(AccountFoldRow, (venue, account))
    head = session.scalars(select(ChainHeadRow.sequence)).one()
    if row is None:
        row = AccountFoldRow(venue=venue, account=account, sequence=0, balances={})
        session.add(row)
    if row.sequence < head:
        now = fold(session, venue, account, start=of_row(row), after=row.sequence, through=head)
        row.sequence = head
        row.balances = {asset: plain(amount) for asset, amount in sorted(now.items())}


def of_row(row: AccountFoldRow) -> Balances:
    return {asset: Decimal(amount) for asset, amount in row.balances.items()}


def fold(
    session: Session,
    venue: str,
    account: str,
    *,
    start: Mapping[str, Decimal] | None = None,
    after: int = 0,
    through: int | None = None,
) -> Balances:
    journal = (
        PostingRow.sequence > after,
        PostingRow.ledger_account.in_(chain.accounts_of(venue, account)),
    )
    if session.get_bind().dialect.name == "sqlite":
        # Its own sum would be one of floats.
        question = select(PostingRow.asset, PostingRow.amount).where(*journal)
    else:
        summed = func.sum(PostingRow.amount)
        question = select(PostingRow.asset, summed).where(*journal).group_by(PostingRow.asset)
    if through is not None:
        question = question.where(PostingRow.sequence <= through)
    rows = session.execute(question.execution_options(yield_per=1_000))
    return _added(start or {}, ((asset, amount) for asset, amount in rows))


def _latest(session: Session, venue: str, account: str, since: datetime) -> tuple[Balances, ...]:
    # By the journal's own order, which has an index: what is recent was booked among the last.
    last = (
        select(EntryRow.sequence, FillRow.venue, FillRow.account, FillRow.at, FillRow.trade_id)
        .join(FillRow, FillRow.id == EntryRow.fill_id)
        .order_by(EntryRow.sequence.desc())
        .limit(MOVES_MAX)
    )
    recent = [
        (at, trade_id, sequence)
        for sequence, of_venue, of_account, at, trade_id in session.execute(last)
        if (of_venue, of_account) == (venue, account) and at >= since
    ]
    sequences = [sequence for _, _, sequence in sorted(recent, reverse=True)]
    legs: dict[int, list[tuple[str, Decimal]]] = {}
    for sequence, asset, amount in session.execute(
        select(PostingRow.sequence, PostingRow.asset, PostingRow.amount).where(
            PostingRow.sequence.in_(sequences),
            PostingRow.ledger_account.in_(chain.accounts_of(venue, account)),
        )
    ):
        legs.setdefault(sequence, []).append((asset, amount))
    return tuple(_added({}, legs.get(sequence, ())) for sequence in sequences)


def _added(start: Mapping[str, Decimal], rows: Iterable[tuple[str, Decimal]]) -> Balances:
    """What left clearing and fees has come to the account."""
    sums = dict(start)
    for asset, amount in rows:
        sums[asset] = EXACT.subtract(sums.get(asset, ZERO), amount)
    return {asset: amount for asset, amount in sums.items() if amount}
