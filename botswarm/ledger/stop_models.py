"""The table of emergency stops and drills: how long each took."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class StopRow(Table):
    """One press of the button; times are milliseconds since it was pressed."""

    __tablename__ = "stops"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    """``emergency`` or ``drill``."""
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    said_ms: Mapped[int]
    """The halt was committed: nothing more is judged."""
    in_force_ms: Mapped[int | None]
    """From here on no venue takes an order that was judged before."""
    cancelled_ms: Mapped[int | None]
    """No venue has an open order of ours any more."""
    flat_ms: Mapped[int | None]
    finished_at: Mapped[datetime | None]
    is_clean: Mapped[bool]
    """All that was to be done was done."""
    numbers: Mapped[dict[str, Any]]
    """How many orders and positions, by account, and what was left."""
