"""Positions of a scope whose losses broke a limit are closed, where that is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from botswarm.domain.order import Order, OrderKind, Side, protective_id
from botswarm.domain.standing import HeldPosition
from botswarm.errors import NotFound
from botswarm.ledger.fold import EXACT
from botswarm.ledger.limits import chain_of
from botswarm.ledger.protections import Place
from botswarm.ledger.sweeping import Snapshot
from botswarm.risk.guarding import AT_REST
from botswarm.sweeps.orders import place_of, reducing_order, under_way
from botswarm.sweeps.placing import place
from botswarm.sweeps.sweep import Tools

ACTOR = "limit"


def close(scopes: Collection[str], seen: Snapshot, tools: Tools, now: datetime) -> dict[str, Any]:
    """End the bots' own orders there and sell what is held, the stops' shares with it.

    Harmless twice: what is being closed already is left to that.
    """
    held = [each for each in seen.positions if each.quantity and _is_in(scopes, each)]
    waiting = under_way((each.bot for each in held), tools)
    own = [
        order.id
        for each in held
        for order in waiting.get(place_of(each), ())
        if not order.is_protective and not order.is_ending
    ]
    if own:
        reason = "losses broke a limit: what its scope holds is closed"
        tools.ledger.cancels.wish(own, now, actor=ACTOR, reason=reason)
    with localcontext(EXACT):
        closing = list(_orders(held, waiting, seen, tools, now))
    if own:
        tools.ring(now)
    return {"closing": place(closing, tools), "ended": len(own)}


def _is_in(scopes: Collection[str], held: HeldPosition) -> bool:
    chain = chain_of(held.venue, held.account, held.strategy, held.symbol, held.bot)
    return any(scope in scopes for scope in chain.values())


def _orders(
    held: Sequence[HeldPosition],
    waiting: Mapping[Place, Sequence[Order]],
    seen: Snapshot,
    tools: Tools,
    now: datetime,
) -> Iterator[Order]:
    for each in held:
        orders = waiting.get(place_of(each), ())
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
    side = Side.closing(held.quantity)
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
    return reducing_order(
        held,
        protective_id("close", *place_of(held), moment),
        now,
        side=side,
        kind=OrderKind.MARKET,
        quantity=quantity + (stop.filled_quantity if stop is not None else 0),
        reference_price=mark.price,
        replaced=stop,
    )
