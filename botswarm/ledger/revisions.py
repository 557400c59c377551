"""Counts what changes in the stands of a market's bots, so that nobody reads them for nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from botswarm.ledger.models import BotRow, MarketRevisionRow

Market = tuple[str, str]
"""Venue and symbol."""
AT_ONCE_MAX = 5000
"""Names in one statement; databases bound how many values one may have."""


def touch(session: Session, bots: Iterable[str | None]) -> dict[Market, int]:
    """Say that these bots' stands change with this transaction: configuration, state, memory,
    orders or positions. Names of bots that are not, or no more, are left out.

    Call it in every transaction that changes one, at any place in it. It locks the bots' rows by
    rising name and then their markets, as everybody does, so nobody waits in a circle. A market's
    revisions are committed in their order, because its row stays locked until the commit: who has
    seen one has seen all that came before it. Answers with the markets' new revisions.
    """
    revisions: dict[Market, int] = {}
    names = sorted({name for name in bots if name is not None})
    for start in range(0, len(names), AT_ONCE_MAX):
        revisions |= _touch(session, names[start : start + AT_ONCE_MAX])
    return revisions


def advance(session: Session, markets: Iterable[Market]) -> dict[Market, int]:
    """The next revision of each, for who has locked its bots' rows and writes it into them."""
    return {market: _next(session, *market) for market in sorted(markets)}


def _touch(session: Session, names: Collection[str]) -> dict[Market, int]:
    # What the session holds back would be written after the revision that speaks of it.
    session.flush()
    connection = session.connection()
    found = connection.execute(
        select(BotRow.name, BotRow.venue, BotRow.symbol)
        .where(BotRow.name.in_(names))
        .order_by(BotRow.name)
        .with_for_update()
    )
    markets: dict[Market, list[str]] = {}
    revisions: dict[Market, int] = {}
    for name, venue, symbol in found:
        markets.setdefault((venue, symbol), []).append(name)
    for market, here in sorted(markets.items()):
        revision = revisions[market] = _next(session, *market)
        connection.execute(update(BotRow).where(BotRow.name.in_(here)).values(revision=revision))
    return revisions


def _next(session: Session, venue: str, symbol: str) -> int:
    counted = _counted[session.get_bind().dialect.name]
    row = {"venue": venue, "symbol": symbol, "revision": 1}
    return int(session.connection().execute(counted, row).scalar_one())


_counted = {
    name: kind.insert(MarketRevisionRow)
    .on_conflict_do_update(
        index_elements=["venue", "symbol"],
        set_={"revision": MarketRevisionRow.revision + 1},
    )
    .returning(MarketRevisionRow.revision)
    for name, kind in (("sqlite", sqlite), ("postgresql", postgresql))
}

TOUCH_ONE = text(
    """
    WITH bot AS (SELECT name, venue, symbol FROM bots WHERE name = :touched FOR UPDATE),
    market AS (
        INSERT INTO market_revisions (venue, symbol, revision) SELECT venue, symbol, 1 FROM bot
        ON CONFLICT (venue, symbol) DO UPDATE SET revision = market_revisions.revision + 1
        RETURNING revision)
    UPDATE bots SET revision = market.revision FROM market WHERE bots.name = :touched
    """
)
"""What ``touch`` does for one bot, in PostgreSQL's words and in one journey. Each part waits for
the rows of the one before it, so they are locked in the same order.
"""
