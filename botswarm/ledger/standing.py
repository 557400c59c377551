"""The row of an account: the lock under which its limits are judged, and how it stands."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.reconciliation import Standing
from botswarm.ledger.models import AccountRow
from botswarm.ledger.session import insert_new


def hold_account(session: Session, venue: str, account: str, now: datetime) -> AccountRow:
    """Lock the account until the transaction ends, opening it where it is new."""
    question = (
        select(AccountRow)
        .where(AccountRow.venue == venue, AccountRow.account == account)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    row = session.scalars(question).one_or_none()
    if row is None:
        values = {"venue": venue, "account": account, "created_at": now}
        insert_new(session, AccountRow, [values])
        row = session.scalars(question).one()
    return row


def standing_of(row: AccountRow) -> Standing:
    return Standing(opened_at=row.opened_at, reconciled_at=row.reconciled_at, is_clean=row.is_clean)
