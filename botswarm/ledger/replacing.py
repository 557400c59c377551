"""An order in place of another: it waits for that one's end, and takes over what is left of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session, aliased

from botswarm.domain.amount import plain
from botswarm.domain.order import OrderState
from botswarm.ledger.fold import EXACT
from botswarm.ledger.models import OrderRow

# In these very words, so that SQLite sees that the index of waiting orders will do.
_WAITING = text("orders.state IN ('ready', 'approved')")


def is_waiting(session: Session, row: OrderRow, now: datetime) -> bool:
    """What it replaces is not at its end yet, so nobody can say how much is left to order.

    Nobody waits longer than the signal is worth anything.
    """
    if row.replaces is None or now >= row.signal_expires_at:
        return False
    before = session.get(OrderRow, row.replaces, populate_existing=True)
    return before is not None and _is_under_way(before)


def take_over(session: Session, row: OrderRow) -> str | None:
    """Take what the other one filled off its quantity; the reason why not, where that cannot be."""
    if row.replaces is None:
        return None
    before = session.get(OrderRow, row.replaces)
    if before is None:
        return f"it replaces {row.replaces}, which the ledger does not know"
    if _identity(before) != _identity(row):
        return f"it replaces {row.replaces}, which is another bot's, market's or side's"
    if before.filled_quantity >= row.quantity:
        return f"what it replaces was filled first: {plain(before.filled_quantity)}"
    row.quantity = EXACT.subtract(row.quantity, before.filled_quantity)
    return None


def freed(session: Session, venue: str, account: str) -> list[str]:
    """Orders that nobody has judged, and that have nothing more to wait for; oldest first."""
    before = aliased(OrderRow)
    question = (
        select(OrderRow.id)
        .join(before, before.id == OrderRow.replaces)
        .where(
            _WAITING,
            OrderRow.state == OrderState.READY.value,
            OrderRow.venue == venue,
            OrderRow.account == account,
            before.is_open.is_(False),
            before.state != OrderState.READY.value,
        )
        .order_by(OrderRow.created_at, OrderRow.id)
    )
    return list(session.scalars(question))


def _is_under_way(row: OrderRow) -> bool:
    return row.is_open or row.state == OrderState.READY


def _identity(row: OrderRow) -> tuple[str, ...]:
    return row.bot, row.venue, row.account, row.symbol, row.side
