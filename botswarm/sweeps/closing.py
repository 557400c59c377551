"""Positions of a scope whose losses broke a limit are closed, where that is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce, protective_id
from botswarm.domain.standing import HeldPosition
from botswarm.errors import NotFound
from botswarm.ledger.fold import EXACT
from botswarm.ledger.limits import chain_of
from botswarm.ledger.protections import Place
from botswarm.ledger.sweeping import Snapshot
from botswarm.risk.guarding import AT_REST
from botswarm.sweeps.placing import LIFE, place
from botswarm.sweeps.sweep import Tools

ACTOR = "limit"


def close(scopes: Collection[str], seen: Snapshot, tools: Tools, now: datetime) -> dict[str, Any]:
    """End the bots' own orders there and sell what is held, the stops' shares with it.

    Harmless twice: what is being closed already is left to that.
    """
    held = [each for each in seen.positions if each.quantity and _is_in(scopes, each)]
    under_way = _under_way(held, tools)
    own = [
        order.id
        for each in held
        for order in under_way.get(_place(each), ())
        if not order.is_protective and not order.is_ending
    ]
    if own:
        reason = "losses broke a limit: what its scope holds is closed"
        tools.ledger.cancels.wish(own, now, actor=ACTOR, reason=reason)
    with localcontext(EXACT):
        closing = list(_orders(held, under_way, seen, tools, now))
    if own:
        tools.ring(now)
    return {"closing": place(closing, tools), "ended": len(own)}


def _is_in(scopes: Collection[str], held: HeldPosition) -> bool:
    chain = chain_of(held.venue, held.account, held.strategy, held.symbol, held.bot)
    return any(scope in scopes for scope in chain.values())


def _under_way(held: Sequence[HeldPosition], tools: Tools) -> Mapping[Place, Sequence[Order]]:
    found: dict[Place, list[Order]] = {}
    for order in tools.ledger.orders.under_way_of(sorted({each.bot for each in held})):
        place = order.bot, order.venue, order.account, order.symbol
        found.setdefault(place, []).append(order)
    return found


def _orders(
    held: Sequence[HeldPosition],
    under_way: Mapping[Place, Sequence[Order]],
    seen: Snapshot,
    tools: Tools,
    now: datetime,
) -> Iterator[Order]:
    for each in held:
        orders = under_way.get(_place(each), ())
        stops = [order for order in orders if order.is_protective]
        if any(order.state not in AT_REST or order.is_ending for order in stops):
            continue  # it is being closed, or its stop is on its way
        made = _order(each, orders, stops[-1] if stops else None, seen, tools, now)
        if made is not None:
            yield made


def _order(
    held: HeldPosition,
    orders: Sequence[Order],
    stop: Order | None,
    seen: Snapshot,
    tools: Tools,
    now: datetime,
) -> Order | None:
    side = Side.SELL if held.quantity > 0 else Side.BUY
    mark = seen.marks.get((held.venue, held.symbol))
    try:
        instrument = tools.ledger.books.instrument(held.venue, held.symbol)
    except NotFound:
        return None
    taken = sum(
        (each.open_quantity for each in orders if each.side is side and not each.is_protective),
        Decimal(0),
    )
    quantity = instrument.round_quantity(max(Decimal(0), abs(held.quantity) - taken))
    if mark is None or quantity < instrument.quantity_min or quantity <= 0:
        return None
    if quantity * mark.price < instrument.notional_min:
        return None
    moment = int(now.timestamp())
    return Order(
        id=protective_id("close", held.bot, held.venue, held.account, held.symbol, moment),
        bot=held.bot,
        venue=held.venue,
        account=held.account,
        symbol=held.symbol,
        side=side,
        kind=OrderKind.MARKET,
        quantity=quantity + (stop.filled_quantity if stop is not None else 0),
        limit_price=None,
        time_in_force=TimeInForce.GTC,
        reference_price=mark.price,
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + LIFE,
        replaces=None if stop is None else stop.id,
        is_reduce_only=True,
    )


def _place(held: HeldPosition) -> Place:
    return held.bot, held.venue, held.account, held.symbol
