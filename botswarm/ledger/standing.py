"""The row of an account: the lock under which its limits are judged, and how it stands."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.reconciliation import Standing
from botswarm.ledger.models import AccountRow
from botswarm.ledger.session import insert_new

RECONCILED_FOR = timedelta(minutes=10)
"""How long a reconciliation is believed; there is one every minute."""


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


def is_awaited(row: AccountRow, now: datetime) -> bool:
    """Nobody has held the account against its venue lately, so nothing is known of it.

    A clock that jumped says the same; the next reconciliation puts it right.
    """
    return row.reconciled_at is None or abs(now - row.reconciled_at) > RECONCILED_FOR


def objection_of(row: AccountRow) -> str | None:
    """Why nothing may be sent, where the account and its venue do not agree."""
    if row.is_clean:
        return None
    raised = (row.reconciliation or {}).get("raised") or ["see: botswarm ledger reconcile"]
    return f"the account is not reconciled: {raised[0]}"
