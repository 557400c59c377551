"""Closed candles, kept so that whoever starts has history at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from botswarm.domain.market import TIMEFRAMES_S, Candle
from botswarm.ledger.models import CandleRow
from botswarm.ledger.rows import CANDLE_FIELDS, candle_of
from botswarm.ledger.session import Database, save_latest

PRUNED_AT_ONCE = 5_000

Series = tuple[str, str, str]
"""Venue, symbol and timeframe."""


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

    def prune(self, timeframe: str, before_ms: int) -> int:
        """Delete those that opened before; in small transactions, so that nobody waits long."""
        gone = 0
        while (done := self._database.write(lambda s: _prune(s, timeframe, before_ms))) > 0:
            gone += done
        return gone

    def holes(self, since_ms: int) -> Mapping[Series, int]:
        """How many candles are missing between the first and the last since then."""
        count, first, last = func.count(), func.min(CandleRow.open_ms), func.max(CandleRow.open_ms)
        series = (CandleRow.venue, CandleRow.symbol, CandleRow.timeframe)
        question = (
            select(*series, count, first, last)
            .where(CandleRow.open_ms >= since_ms)
            .group_by(*series)
        )

        def work(session: Session) -> dict[Series, int]:
            found: dict[Series, int] = {}
            for venue, symbol, timeframe, there, begin, end in session.execute(question):
                wanted = (end - begin) // (TIMEFRAMES_S[timeframe] * 1000) + 1
                if wanted > there:
                    found[venue, symbol, timeframe] = wanted - there
            return found

        return self._database.read(work)

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


def _prune(session: Session, timeframe: str, before_ms: int) -> int:
    """One market at a time: that is the order in which they lie."""
    old = CandleRow.timeframe == timeframe, CandleRow.open_ms < before_ms
    place = session.execute(
        select(CandleRow.venue, CandleRow.symbol, func.min(CandleRow.open_ms))
        .where(*old)
        .group_by(CandleRow.venue, CandleRow.symbol)
        .limit(1)
    ).first()
    if place is None:
        return 0
    venue, symbol, first_ms = place
    upto = min(before_ms, first_ms + PRUNED_AT_ONCE * TIMEFRAMES_S[timeframe] * 1000)
    done: Any = session.execute(
        delete(CandleRow).where(
            *old, CandleRow.venue == venue, CandleRow.symbol == symbol, CandleRow.open_ms < upto
        ),
        execution_options={"synchronize_session": False},
    )
    return int(done.rowcount)
