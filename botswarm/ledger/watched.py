"""What sweeps look for besides losses: old prices, orders and accounts nobody looked after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, text
from sqlalchemy.orm import Session

from botswarm.domain.order import PROTECTIVE, OrderKind, OrderState, is_protective
from botswarm.ledger.bot import BotState
from botswarm.ledger.fold import ZERO
from botswarm.ledger.models import (
    AccountRow,
    BotRow,
    CancelRow,
    OrderRow,
    PositionRow,
)
from botswarm.ledger.session import Database
from botswarm.ledger.sweep_models import MarkRow

ORDERS_MAX = 500
"""Of one look: of more that are stuck the oldest say enough."""
TRADED_MAX = 20_000
IN_DOUBT = (OrderState.APPROVED.value, OrderState.SENDING.value, OrderState.UNKNOWN.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedMarket:
    """A market that somebody trades or holds, and when its price was last heard."""

    venue: str
    symbol: str
    positions: int
    bots: int
    since: datetime | None
    """When the first of its running bots was last changed; None where only positions are."""
    marked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckOrder:
    id: str
    bot: str
    venue: str
    account: str
    symbol: str
    state: OrderState
    since: datetime
    is_ending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAfter:
    """An account that trades, and when it was last held against its venue."""

    venue: str
    account: str
    created_at: datetime
    reconciled_at: datetime | None
    is_clean: bool
    raised: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """An order as far as habits are concerned."""

    bot: str
    symbol: str
    side: str
    kind: str
    quantity: str
    price: str
    state: OrderState
    created_at: datetime
    is_filled: bool


class Watched:
    def __init__(self, database: Database) -> None:
        self._database = database

    def markets(self) -> Sequence[FollowedMarket]:
        return self._database.read(_markets)

    def stuck(self, before: datetime) -> Sequence[StuckOrder]:
        """Orders that have not moved since then and should have, the oldest first."""
        return self._database.read(lambda session: _stuck(session, before))

    def accounts(self) -> Sequence[LookedAfter]:
        return self._database.read(_accounts)

    def traded(self, after: datetime) -> Sequence[Traded]:
        """The latest orders of all bots, at most TRADED_MAX."""
        return self._database.read(lambda session: _traded(session, after))

    def counted(
        self, bots: Sequence[str], after: datetime, before: datetime
    ) -> dict[str, tuple[int, datetime]]:
        """By bot, how many orders it made between, and when the first was."""
        question = (
            select(OrderRow.bot, func.count(), func.min(OrderRow.created_at))
            .where(
                OrderRow.bot.in_(bots),
                OrderRow.created_at > after,
                OrderRow.created_at <= before,
                # As is_protective says it.
                func.substr(OrderRow.id, 15, 1) != str(PROTECTIVE),
            )
            .group_by(OrderRow.bot)
        )
        return self._database.read(
            lambda session: {
                bot: (number, first) for bot, number, first in session.execute(question)
            }
        )


def _markets(session: Session) -> list[FollowedMarket]:
    bots = session.execute(
        select(BotRow.venue, BotRow.symbol, func.count(), func.min(BotRow.updated_at))
        .where(BotRow.state == BotState.RUNNING.value)
        .group_by(BotRow.venue, BotRow.symbol)
    )
    running = {(venue, symbol): (number, since) for venue, symbol, number, since in bots}
    positions = session.execute(
        select(PositionRow.venue, PositionRow.symbol, func.count())
        .where(PositionRow.quantity != ZERO)
        .group_by(PositionRow.venue, PositionRow.symbol)
    )
    held = {(venue, symbol): number for venue, symbol, number in positions}
    marks = session.execute(select(MarkRow.venue, MarkRow.symbol, MarkRow.at))
    marked = {(venue, symbol): at for venue, symbol, at in marks}
    return [
        FollowedMarket(
            venue=venue,
            symbol=symbol,
            positions=held.get((venue, symbol), 0),
            bots=running.get((venue, symbol), (0, None))[0],
            since=running.get((venue, symbol), (0, None))[1],
            marked_at=marked.get((venue, symbol)),
        )
        for venue, symbol in sorted({*running, *held})
    ]


def _stuck(session: Session, before: datetime) -> list[StuckOrder]:
    # In these words SQLite sees that the indexes of waiting and of open orders will do.
    waiting = and_(
        text("state IN ('ready', 'approved')"),
        OrderRow.state == OrderState.READY.value,
        OrderRow.signal_expires_at < before,
        OrderRow.updated_at < before,
    )
    in_doubt = and_(
        OrderRow.is_open,
        or_(
            OrderRow.state.in_(IN_DOUBT),
            and_(OrderRow.state == OrderState.LIVE.value, OrderRow.kind == OrderKind.MARKET.value),
        ),
        OrderRow.updated_at < before,
    )
    ending = and_(
        OrderRow.is_open,
        OrderRow.is_ending,
        OrderRow.id.in_(
            select(CancelRow.order_id).where(CancelRow.done_at.is_(None), CancelRow.at < before)
        ),
    )
    found: dict[str, StuckOrder] = {}
    for condition in (waiting, in_doubt, ending):
        question = select(OrderRow).where(condition).order_by(OrderRow.updated_at)
        for row in session.scalars(question.limit(ORDERS_MAX)):
            found.setdefault(
                row.id,
                StuckOrder(
                    id=row.id,
                    bot=row.bot,
                    venue=row.venue,
                    account=row.account,
                    symbol=row.symbol,
                    state=OrderState(row.state),
                    since=row.updated_at,
                    is_ending=row.is_ending,
                ),
            )
    return sorted(found.values(), key=lambda each: (each.since, each.id))[:ORDERS_MAX]


def _accounts(session: Session) -> list[LookedAfter]:
    trading: set[tuple[str, str]] = set()
    for question in (
        select(BotRow.venue, BotRow.account).where(BotRow.state == BotState.RUNNING.value),
        select(OrderRow.venue, OrderRow.account).where(OrderRow.is_open),
        select(PositionRow.venue, PositionRow.account).where(PositionRow.quantity != ZERO),
    ):
        trading |= {(venue, account) for venue, account in session.execute(question.distinct())}
    rows = session.scalars(select(AccountRow).order_by(AccountRow.venue, AccountRow.account))
    return [_looked_after(row) for row in rows if (row.venue, row.account) in trading]


def _looked_after(row: AccountRow) -> LookedAfter:
    return LookedAfter(
        venue=row.venue,
        account=row.account,
        created_at=row.created_at,
        reconciled_at=row.reconciled_at,
        is_clean=row.is_clean,
        raised=tuple(str(each) for each in (row.reconciliation or {}).get("raised") or ()),
    )


def _traded(session: Session, after: datetime) -> list[Traded]:
    row = OrderRow
    question = (
        select(
            *(row.id, row.bot, row.symbol, row.side, row.kind, row.quantity, row.limit_price),
            *(row.stop_price, row.state, row.created_at, row.filled_quantity),
        )
        .where(row.created_at > after)
        .order_by(row.created_at.desc())
        .limit(TRADED_MAX)
    )
    # A stop that follows the price is moved again and again, and by no bot.
    return [_traded_one(each) for each in session.execute(question) if not is_protective(each.id)]


def _traded_one(each: Any) -> Traded:
    return Traded(
        bot=each.bot,
        symbol=each.symbol,
        side=each.side,
        kind=each.kind,
        quantity=f"{each.quantity}",
        price=f"{each.limit_price or each.stop_price or ''}",
        state=OrderState(each.state),
        created_at=each.created_at,
        is_filled=bool(each.filled_quantity),
    )
