"""Streams that people asked the feed for by hand, beside those that bots need."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from botswarm.ledger.models import FeedSubscriptionRow
from botswarm.ledger.session import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    venue: str
    symbol: str
    channel: str
    at: datetime
    actor: str


class Subscriptions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, venue: str | None = None) -> Sequence[Subscription]:
        row = FeedSubscriptionRow

        def work(session: Session) -> list[Subscription]:
            found = select(row).order_by(row.venue, row.symbol, row.channel)
            if venue is not None:
                found = found.where(row.venue == venue)
            return [
                Subscription(
                    venue=each.venue,
                    symbol=each.symbol,
                    channel=each.channel,
                    at=each.at,
                    actor=each.actor,
                )
                for each in session.scalars(found)
            ]

        return self._database.read(work)

    def add(
        self,
        venue: str,
        symbols: Collection[str],
        channels: Collection[str],
        *,
        now: datetime,
        actor: str,
    ) -> int:
        """How many were new; those that were there already stay as they are."""

        def work(session: Session) -> int:
            new = 0
            for symbol in sorted(symbols):
                for channel in sorted(channels):
                    if session.get(FeedSubscriptionRow, (venue, symbol, channel)) is None:
                        session.add(
                            FeedSubscriptionRow(
                                venue=venue, symbol=symbol, channel=channel, at=now, actor=actor
                            )
                        )
                        new += 1
            return new

        return self._database.write(work)

    def remove(
        self, venue: str, symbols: Collection[str], channels: Collection[str] | None = None
    ) -> int:
        """How many there were; None stands for every channel."""
        row = FeedSubscriptionRow

        def work(session: Session) -> int:
            gone = 0
            for symbol in symbols:
                found = delete(row).where(row.venue == venue, row.symbol == symbol)
                if channels is not None:
                    found = found.where(row.channel.in_(sorted(channels)))
                gone += len(session.scalars(found.returning(row.channel)).all())
            return gone

        return self._database.write(work)
