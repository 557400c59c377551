"""Closed candles, kept so that whoever starts has history at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from botswarm.domain.market import Candle
from botswarm.ledger.models import CandleRow
from botswarm.ledger.rows import CANDLE_FIELDS, candle_of
from botswarm.ledger.session import Database, save_latest


class Candles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, candles: Sequence[Candle]) -> None:
        """Closed ones once each; those still open change nothing, and the last word counts: what
        was closed in good faith after a trade that nobody had heard of is put right by the venue.
        """
        closed = sorted(
            (candle for candle in candles if candle.is_closed),
            key=lambda each: (each.venue, each.symbol, each.timeframe, each.open_ms),
        )
        rows = [{name: getattr(candle, name) for name in CANDLE_FIELDS} for candle in closed]

        def work(session: Session) -> None:
            save_latest(session, CandleRow, rows)

        if rows:
            self._database.write(work)

    def load(self, venue: str, symbol: str, timeframe: str, *, limit: int) -> list[Candle]:
        """The latest ones, oldest first."""
        return self._found(venue, symbol, timeframe, limit)

    def until(
        self, venue: str, symbol: str, timeframe: str, last_open_ms: int, *, limit: int
    ) -> list[Candle]:
        """Up to and with the one that opened then, at most so many, oldest first."""
        return self._found(venue, symbol, timeframe, limit, CandleRow.open_ms <= last_open_ms)

    def _found(
        self, venue: str, symbol: str, timeframe: str, limit: int, *more: ColumnElement[bool]
    ) -> list[Candle]:
        question = (
            select(CandleRow)
            .where(
                CandleRow.venue == venue,
                CandleRow.symbol == symbol,
                CandleRow.timeframe == timeframe,
                *more,
            )
            .order_by(CandleRow.open_ms.desc())
            .limit(limit)
        )
        return self._database.read(
            lambda session: [candle_of(row) for row in session.scalars(question)][::-1]
        )
