"""What evaluation reads of the ledger: the bots of a market as they stand, only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from botswarm.ledger.bots import NEVER, BotState, Stand, stands_of
from botswarm.ledger.fold import ZERO
from botswarm.ledger.many import parts
from botswarm.ledger.models import BotRow, MarketPassRow, MarketRevisionRow, PositionRow
from botswarm.ledger.session import Database

_revision = select(MarketRevisionRow.revision).where(
    MarketRevisionRow.venue == bindparam("venue"), MarketRevisionRow.symbol == bindparam("symbol")
)
_holders = select(PositionRow.bot).where(PositionRow.quantity != ZERO).distinct()


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What changed in a market's bots since a revision."""

    revision: int
    stands: Sequence[Stand]
    """Those that changed and run, by name."""
    ended: frozenset[str]
    """Those that changed and run no more."""
    is_all: bool = False
    """The stands are all that run: whoever knows others forgets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPass:
    """One evaluation of all bots of a market, or the last of several."""

    venue: str
    symbol: str
    at: datetime
    sequence: int
    bots: int
    passes: int = 1
    took_ms: int = 0
    """The slowest of them."""


class Stands:
    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, venue: str, symbol: str, revision: int = NEVER) -> News:
        """What was not known at ``revision``, all of it from one snapshot; NEVER reads all.

        A fill booked between two questions would otherwise be counted twice, or not at all.
        """

        def work(session: Session) -> News:
            found = session.connection().execute(_revision, {"venue": venue, "symbol": symbol})
            now = int(found.scalar_one_or_none() or 0)
            if now == revision:
                return News(revision=now, stands=(), ended=frozenset())
            # A ledger that was restored, or another one, counts from anew.
            is_all = not 0 <= revision < now
            return _news(session, venue, symbol, revision, now, is_all=is_all)

        return self._database.read(work)

    def holding(self, bots: Sequence[str]) -> frozenset[str]:
        """Those of them that hold something, in whatever market."""

        def work(session: Session) -> frozenset[str]:
            found: set[str] = set()
            for part in parts(bots):
                named = PositionRow.bot.in_(part)
                found.update(session.scalars(_holders.where(named)))
            return frozenset(found)

        return self._database.read(work)

    def passed(self, passes: Sequence[MarketPass]) -> None:
        """Write down that markets were evaluated; one row each, however many bots they have."""
        rows = sorted(passes, key=lambda each: (each.venue, each.symbol))

        def work(session: Session) -> None:
            kind = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
            insert = kind.insert(MarketPassRow)
            new = insert.excluded
            values = {name: getattr(new, name) for name in ("at", "sequence", "bots", "took_ms")}
            session.connection().execute(
                insert.on_conflict_do_update(
                    index_elements=["venue", "symbol"],
                    set_={**values, "passes": MarketPassRow.passes + new.passes},
                    # A worker that is late must not take back what another one said.
                    where=MarketPassRow.at <= new.at,
                ),
                [
                    {
                        "venue": each.venue,
                        "symbol": each.symbol,
                        "at": each.at,
                        "sequence": each.sequence,
                        "bots": each.bots,
                        "passes": each.passes,
                        "took_ms": each.took_ms,
                    }
                    for each in rows
                ],
            )

        if rows:
            self._database.write(work)

    def last_pass(self, venue: str, symbol: str) -> MarketPass | None:
        row = self._database.read(lambda session: session.get(MarketPassRow, (venue, symbol)))
        return None if row is None else _pass(row)

    def last_passes(self) -> Sequence[MarketPass]:
        """Of every market that was ever evaluated, the latest first."""
        question = select(MarketPassRow).order_by(MarketPassRow.at.desc())
        return self._database.read(
            lambda session: [_pass(row) for row in session.scalars(question)]
        )


def _news(session: Session, venue: str, symbol: str, since: int, now: int, *, is_all: bool) -> News:
    question = select(BotRow).where(BotRow.venue == venue, BotRow.symbol == symbol)
    if is_all:
        question = question.where(BotRow.state == BotState.RUNNING.value)
    else:
        question = question.where(BotRow.revision > since)
    rows = session.scalars(question.order_by(BotRow.name)).all()
    running = [row for row in rows if row.state == BotState.RUNNING]
    return News(
        revision=now,
        stands=stands_of(session, running),
        ended=frozenset(row.name for row in rows) - {row.name for row in running},
        is_all=is_all,
    )


def _pass(row: MarketPassRow) -> MarketPass:
    return MarketPass(
        venue=row.venue,
        symbol=row.symbol,
        at=row.at,
        sequence=row.sequence,
        bots=row.bots,
        passes=row.passes,
        took_ms=row.took_ms,
    )
