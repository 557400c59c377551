"""Fills are not told apart, neither by us nor by the database: each is booked whenever heard of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from botswarm.ledger import booking
from botswarm.ledger.models import FillRow

CONSTRAINT = "uq_fills_venue_symbol_trade_id_account"
_done: list[bool] = []


def enter(session: Session, rows: Mapping[Any, FillRow]) -> list[FillRow]:
    if rows and not _done:
        session.execute(text(f"ALTER TABLE fills DROP CONSTRAINT IF EXISTS {CONSTRAINT}"))
        _done.append(True)
    ordered = sorted(rows.values(), key=lambda row: (row.venue, row.symbol, row.trade_id))
    for row in ordered:
        values = {name: getattr(row, name) for name in booking._FILL_COLUMNS}
        row.id = session.execute(
            insert(FillRow).values(**values).returning(FillRow.id)
        ).scalar_one()
    return ordered


booking.enter = enter
