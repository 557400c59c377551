"""Book what moves an account's balance and is no fill: openings, deposits, corrections."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.reconciliation import Adjustment, Balances
from botswarm.ledger import balances, chain
from botswarm.ledger.fold import EXACT, ZERO
from botswarm.ledger.models import AdjustmentRow
from botswarm.ledger.writes import Writes


def openings(session: Session, venue: str, account: str, there: Balances) -> list[Adjustment]:
    """What the account has at the venue beyond what the journal knows of."""
    here = balances.fold(session, venue, account)
    more = {
        asset: EXACT.subtract(there.get(asset, ZERO), here.get(asset, ZERO))
        for asset in sorted({*there, *here})
    }
    return [
        Adjustment(
            kind="opening",
            asset=asset,
            amount=amount,
            reason="what the account had when it was first looked at",
            reference=f"opening of {asset}",
        )
        for asset, amount in more.items()
        if amount
    ]


def adjust(
    session: Session,
    venue: str,
    account: str,
    adjustments: Sequence[Adjustment],
    now: datetime,
) -> int:
    """The caller holds the account, so that nobody else books the same reference."""
    known = set(
        session.scalars(
            select(AdjustmentRow.reference).where(
                AdjustmentRow.venue == venue,
                AdjustmentRow.account == account,
                AdjustmentRow.reference.in_([each.reference for each in adjustments]),
            )
        )
    )
    rows = [
        AdjustmentRow(
            venue=venue,
            account=account,
            kind=each.kind,
            asset=each.asset,
            amount=each.amount,
            reason=each.reason,
            actor=each.actor,
            reference=each.reference,
            at=now,
        )
        for each in adjustments
        if each.reference not in known
    ]
    if rows:
        head = chain.hold_head(session)
        session.add_all(rows)
        session.flush()
        writes = Writes(session)
        chain.append(writes, head, rows, now)
        writes.send()
    return len(rows)
