"""Which processes said lately that they are well, and what has to be cancelled when none does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from botswarm.ledger.account_models import HeartbeatRow
from botswarm.ledger.bot import BotState
from botswarm.ledger.models import BotRow, OrderRow
from botswarm.ledger.session import Database, save_latest

KEPT_FOR = timedelta(days=7)
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Watched:
    """Where an account's orders are, or may be in a moment."""

    markets: frozenset[str]
    has_open: bool


class Heartbeats:
    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str, kind: str, now: datetime) -> None:
        def work(session: Session) -> None:
            save_latest(session, HeartbeatRow, [{"name": name, "kind": kind, "at": now}])
            session.execute(delete(HeartbeatRow).where(HeartbeatRow.at < now - KEPT_FOR))

        self._database.write(work)

    def last(self, kind: str) -> datetime | None:
        """When any of this kind was last well."""
        question = select(func.max(HeartbeatRow.at)).where(HeartbeatRow.kind == kind)
        return self._database.read(lambda session: session.scalars(question).one_or_none())

    def watched(self) -> Mapping[Place, Watched]:
        """By account: the markets of its open orders and of its running bots."""

        def work(session: Session) -> dict[Place, Watched]:
            found: dict[Place, set[str]] = {}
            has_open: set[Place] = set()
            orders = select(OrderRow.venue, OrderRow.account, OrderRow.symbol).distinct()
            for venue, account, symbol in session.execute(orders.where(OrderRow.is_open)):
                found.setdefault((venue, account), set()).add(symbol)
                has_open.add((venue, account))
            bots = select(BotRow.venue, BotRow.account, BotRow.symbol).distinct()
            running = bots.where(BotRow.state == BotState.RUNNING.value)
            for venue, account, symbol in session.execute(running):
                found.setdefault((venue, account), set()).add(symbol)
            return {
                place: Watched(frozenset(markets), place in has_open)
                for place, markets in found.items()
            }

        return self._database.read(work)
