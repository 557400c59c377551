"""Book fills: the order they fill, the journal, the position and the day's result, at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.ledger import chain
from botswarm.ledger.fold import EXACT, ZERO, Assets, Folded, Holding, fold, follows
from botswarm.ledger.models import DailyResultRow, FillRow, OrderRow, PositionRow
from botswarm.ledger.rows import fill_of, is_open

log = logging.getLogger(__name__)

Key = tuple[str, str, int, str]


def rows_of(
    session: Session, fills: Sequence[Fill], now: datetime, account: str
) -> Mapping[Key, FillRow]:
    """A row for each, not yet in the ledger; what fills no order of ours belongs to ``account``."""
    orders = _orders_of(session, fills)
    rows: dict[Key, FillRow] = {}
    for fill in fills:
        row = _row(fill, orders.get(fill.client_order_id), account, now)
        rows.setdefault(_key(row), row)
    return rows


def unbooked(session: Session, rows: Mapping[Key, FillRow]) -> list[FillRow]:
    """Those that the ledger does not have, by rising trade id."""
    new = dict(rows)
    for known in _known(session, rows):
        if fill_of(known) != fill_of(new.pop(_key(known))):
            # Never booked twice; but somebody told us two stories about one trade.
            log.error("trade %s of %s %s came with other contents", *_key(known)[2::-1])
    return sorted(new.values(), key=lambda row: (row.venue, row.symbol, row.trade_id))


def book(session: Session, rows: Sequence[FillRow], now: datetime) -> None:
    """Book new fills; the caller holds their accounts, so that no limit is judged in between."""
    head = chain.hold_head(session)
    session.add_all(rows)
    session.flush()
    chain.append(session, head, rows, now)
    _fill_orders(session, rows, now)
    for place, fills in _by_position(rows).items():
        _move_position(session, place, fills, now)


def _orders_of(session: Session, fills: Iterable[Fill]) -> dict[str, OrderRow]:
    ids = {fill.client_order_id for fill in fills}
    found = session.scalars(select(OrderRow).where(OrderRow.client_order_id.in_(ids)))
    return {row.client_order_id: row for row in found}


def _row(fill: Fill, order: OrderRow | None, account: str, now: datetime) -> FillRow:
    # An order is ours by its whole identity, never by a likeness.
    if order is not None and (order.venue, order.symbol) != (fill.venue, fill.symbol):
        order = None
    return FillRow(
        venue=fill.venue,
        symbol=fill.symbol,
        trade_id=fill.trade_id,
        account=account if order is None else order.account,
        client_order_id=fill.client_order_id,
        order_id=order and order.id,
        bot=order and order.bot,
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


def _known(session: Session, keys: Iterable[Key]) -> Sequence[FillRow]:
    identity = tuple_(FillRow.venue, FillRow.symbol, FillRow.trade_id, FillRow.account)
    return session.scalars(select(FillRow).where(identity.in_(list(keys)))).all()


def _fill_orders(session: Session, rows: Sequence[FillRow], now: datetime) -> None:
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row.order_id is not None:
            filled[row.order_id] = EXACT.add(filled[row.order_id], row.quantity)
    # Locked and read anew: another worker may be recording their state.
    orders = session.scalars(
        select(OrderRow)
        .where(OrderRow.id.in_(filled))
        .order_by(OrderRow.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    for order in orders:
        order.filled_quantity = EXACT.add(order.filled_quantity, filled[order.id])
        order.is_open = is_open(order)
        order.updated_at = now


Place = tuple[str, str, str, str]


def _by_position(rows: Sequence[FillRow]) -> dict[Place, list[Fill]]:
    places: dict[Place, list[Fill]] = defaultdict(list)
    for row in rows:
        if row.bot is not None:
            places[row.bot, row.venue, row.account, row.symbol].append(fill_of(row))
    return places


def _move_position(session: Session, place: Place, fills: list[Fill], now: datetime) -> None:
    bot, venue, account, symbol = place
    assets = Assets.of(symbol)
    row = session.get(PositionRow, place, populate_existing=True)
    holding = holding_of(row) if row else Holding()
    if follows(fills, holding):
        after = fold(fills, assets, holding)
        daily = after.daily
    else:
        after, daily = _fold_anew(session, place, fills, assets)
    if row is None:
        row = PositionRow(bot=bot, venue=venue, account=account, symbol=symbol)
        session.add(row)
    row.quantity, row.cash = after.holding.quantity, after.holding.cash
    row.cost, row.realised = after.holding.cost, after.holding.realised
    row.last_trade_id, row.updated_at = after.holding.last_trade_id, now
    for day, realised in daily.items():
        _add_result(session, venue, account, day, assets.quote, realised)


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


def holding_of(row: PositionRow) -> Holding:
    return Holding(
        quantity=row.quantity,
        cash=row.cash,
        cost=row.cost,
        realised=row.realised,
        last_trade_id=row.last_trade_id,
    )


def _add_result(
    session: Session, venue: str, account: str, day: str, quote: str, realised: Decimal
) -> None:
    row = session.get(DailyResultRow, (venue, account, day, quote), populate_existing=True)
    if row is None:
        row = DailyResultRow(venue=venue, account=account, day=day, quote=quote, realised=ZERO)
        session.add(row)
    row.realised = EXACT.add(row.realised, realised)
