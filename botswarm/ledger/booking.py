"""Book fills: the journal, the position and the day's result, at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, literal, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.ledger import chain
from botswarm.ledger.fold import EXACT, ZERO, Assets, Folded, Holding, day_of, fold, follows
from botswarm.ledger.models import DailyResultRow, FillRow, PositionRow
from botswarm.ledger.prepared import PREPARED
from botswarm.ledger.rows import fill_of
from botswarm.ledger.writes import Writes

log = logging.getLogger(__name__)

Key = tuple[str, str, int, str]
Place = tuple[str, str, str, str]
Day = tuple[str, str, str, str]

_IDENTITY = (FillRow.venue, FillRow.symbol, FillRow.trade_id, FillRow.account)
_FILL_COLUMNS = tuple(each.name for each in FillRow.__table__.columns if each.name != "id")
_ENTER = {
    name: kind.insert(FillRow).on_conflict_do_nothing().returning(FillRow.id, *_IDENTITY)
    for name, kind in (("sqlite", sqlite), ("postgresql", postgresql))
}
_one = select(literal(1).label("one")).subquery("one")
# Where a bot stands in a market, and what its account realised on a day: a row in any case.
_STAND: Select[Any] = (
    select(*PositionRow.__table__.columns, DailyResultRow.realised.label("result"))
    .select_from(_one)
    .outerjoin(
        PositionRow,
        and_(
            PositionRow.bot == bindparam("bot_name"),
            PositionRow.venue == bindparam("venue_name"),
            PositionRow.account == bindparam("account_name"),
            PositionRow.symbol == bindparam("symbol_name"),
        ),
    )
    .outerjoin(
        DailyResultRow,
        and_(
            DailyResultRow.venue == bindparam("venue_name"),
            DailyResultRow.account == bindparam("account_name"),
            DailyResultRow.day == bindparam("on_day"),
            DailyResultRow.quote == bindparam("quote_name"),
        ),
    )
    .execution_options(**PREPARED)
)


def rows_of(
    fills: Sequence[Fill], orders: Iterable[Row[Any]], now: datetime, account: str
) -> Mapping[Key, FillRow]:
    """A row for each, not yet in the ledger; what fills none of these orders is ``account``'s."""
    by_name = {order.client_order_id: order for order in orders}
    rows: dict[Key, FillRow] = {}
    for fill in fills:
        row = _row(fill, by_name.get(fill.client_order_id), account, now)
        rows.setdefault(_key(row), row)
    return rows


def enter(session: Session, rows: Mapping[Key, FillRow]) -> list[FillRow]:
    """Write down those that the ledger does not have yet; answers them by rising trade id.

    Whoever enters the same ones at the same time waits here for the end of our transaction.
    """
    if not rows:
        return []
    connection = session.connection()
    ordered = sorted(rows.values(), key=lambda row: (row.venue, row.symbol, row.trade_id))
    entered = connection.execute(
        _ENTER[connection.dialect.name],
        [{name: getattr(row, name) for name in _FILL_COLUMNS} for row in ordered],
    )
    ids = {(each.venue, each.symbol, each.trade_id, each.account): each.id for each in entered}
    if len(ids) < len(ordered):
        _compare(session, {key: row for key, row in rows.items() if key not in ids})
    for key, number in ids.items():
        rows[key].id = number
    return [row for row in ordered if _key(row) in ids]


def book(session: Session, writes: Writes, rows: Sequence[FillRow], now: datetime) -> None:
    """Book fills that were just entered; their orders are the caller's to change.

    The head of the journal is held from here to the end of the transaction, so that one at a time
    moves positions and results.
    """
    if not rows:
        return
    head = chain.hold_head(session)
    chain.append(writes, head, rows, now)
    results: dict[Day, Decimal] = {}
    for place, fills in _by_position(rows).items():
        _move_position(session, writes, place, fills, results, now)
    after = [
        {"venue": venue, "account": account, "day": day, "quote": quote, "realised": realised}
        for (venue, account, day, quote), realised in results.items()
    ]
    writes.insert(DailyResultRow, after, known="replace")


def filled_by(rows: Iterable[FillRow]) -> Mapping[str, Decimal]:
    """By client order id, how much of our orders these fill."""
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row.order_id is not None:
            filled[row.client_order_id] = EXACT.add(filled[row.client_order_id], row.quantity)
    return filled


def _row(fill: Fill, order: Row[Any] | None, account: str, now: datetime) -> FillRow:
    # An order is ours by its whole identity, never by a likeness.
    if order is not None and (order.venue, order.symbol) != (fill.venue, fill.symbol):
        order = None
    return FillRow(
        venue=fill.venue,
        symbol=fill.symbol,
        trade_id=fill.trade_id,
        account=account if order is None else order.account,
        client_order_id=fill.client_order_id,
        order_id=None if order is None else order.id,
        bot=None if order is None else order.bot,
        is_external=order is None,
        side=fill.side.value,
        price=fill.price,
        quantity=fill.quantity,
        commission=fill.commission,
        commission_asset=fill.commission_asset,
        at=fill.at,
        booked_at=now,
    )


def _key(row: FillRow) -> Key:
    return row.venue, row.symbol, row.trade_id, row.account


def _compare(session: Session, rows: Mapping[Key, FillRow]) -> None:
    """Never booked twice; but somebody may have told us two stories about one trade."""
    for known in session.scalars(select(FillRow).where(tuple_(*_IDENTITY).in_(list(rows)))):
        if fill_of(known) != fill_of(rows[_key(known)]):
            log.error("trade %s of %s %s came with other contents", *_key(known)[2::-1])


def _by_position(rows: Sequence[FillRow]) -> dict[Place, list[Fill]]:
    places: dict[Place, list[Fill]] = defaultdict(list)
    for row in rows:
        if row.bot is not None:
            places[row.bot, row.venue, row.account, row.symbol].append(fill_of(row))
    return places


def _move_position(
    session: Session,
    writes: Writes,
    place: Place,
    fills: list[Fill],
    results: dict[Day, Decimal],
    now: datetime,
) -> None:
    bot, venue, account, symbol = place
    assets, today = Assets.of(symbol), day_of(fills[-1])
    stand = _stand(session, place, assets.quote, today)
    before = Holding() if stand.bot is None else holding_of(stand)
    if follows(fills, before):
        folded = fold(fills, assets, before)
        daily = folded.daily
    else:
        folded, daily = _fold_anew(session, place, fills, assets)
    after = folded.holding
    position = {
        "bot": bot,
        "venue": venue,
        "account": account,
        "symbol": symbol,
        "quantity": after.quantity,
        "cash": after.cash,
        "cost": after.cost,
        "realised": after.realised,
        "last_trade_id": after.last_trade_id,
        "updated_at": now,
    }
    writes.insert(PositionRow, [position], known="replace")
    for day, realised in daily.items():
        where = (venue, account, day, assets.quote)
        if where not in results:
            known = stand if day == today else _stand(session, place, assets.quote, day)
            results[where] = ZERO if known.result is None else known.result
        results[where] = EXACT.add(results[where], realised)


def _stand(session: Session, place: Place, quote: str, day: str) -> Row[Any]:
    bot, venue, account, symbol = place
    values = {
        "bot_name": bot,
        "venue_name": venue,
        "account_name": account,
        "symbol_name": symbol,
        "quote_name": quote,
        "on_day": day,
    }
    return session.connection().execute(_STAND, values).one()


def _fold_anew(
    session: Session, place: Place, late: list[Fill], assets: Assets
) -> tuple[Folded, dict[str, Decimal]]:
    """Late fills change the results of those after them: answers by how much, day by day."""
    fills = fills_of(session, place)
    arrived = {fill.trade_id for fill in late}
    before = fold([fill for fill in fills if fill.trade_id not in arrived], assets)
    after = fold(fills, assets)
    days = {*before.daily, *after.daily}
    with localcontext(EXACT):
        changed = {
            day: after.daily.get(day, ZERO) - before.daily.get(day, ZERO) for day in sorted(days)
        }
    return after, changed


def fills_of(session: Session, place: Place) -> list[Fill]:
    bot, venue, account, symbol = place
    found = session.scalars(
        select(FillRow).where(
            FillRow.bot == bot,
            FillRow.venue == venue,
            FillRow.account == account,
            FillRow.symbol == symbol,
        )
    )
    return [fill_of(row) for row in found]


def holding_of(row: PositionRow | Row[Any]) -> Holding:
    return Holding(
        quantity=row.quantity,
        cash=row.cash,
        cost=row.cost,
        realised=row.realised,
        last_trade_id=row.last_trade_id,
    )
