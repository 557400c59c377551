"""From what a market and a bot look like to the orders the bot wants: gated, sized, explained."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, localcontext
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from botswarm.domain.market import Book
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.strategies.api import Candles, Decision, Other, View, Wish, wanted_history
from botswarm.strategies.candles import NONE
from botswarm.strategies.gates import CLOSING_TIME_MS, data_age_ms, objection, unfit
from botswarm.strategies.reasons import record, seen
from botswarm.strategies.sizing import TOLERANCE, Place, sized
from botswarm.strategies.stand import Evaluation, Holding, Market, Neighbour, Stop, Subject

__all__ = [
    "CLOSING_TIME_MS",
    "TOLERANCE",
    "Evaluation",
    "Holding",
    "Market",
    "Neighbour",
    "Stop",
    "Subject",
    "data_age_ms",
    "evaluate",
    "objection",
    "order_id",
    "record",
    "seen",
    "view_of",
]

ORDERS = UUID("6f0d4f0e-6a86-5d0e-9a0f-3b1c6a4b9e11")
"""The namespace of order ids."""
# More digits than any product of the amounts that the ledger can keep.
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def evaluate(
    subject: Subject,
    market: Market,
    candles: Candles | None,
    now: datetime,
    *,
    signal_life: timedelta,
    series: Mapping[str, Candles] | None = None,
    others: Mapping[str, Neighbour] | None = None,
    book: Book | None = None,
) -> Evaluation:
    """``candles`` are of the bot's own timeframe, ``series`` those of others it needs, ``others``
    its further markets; each may be longer than asked for.

    Whatever the strategy raises goes through: the caller knows how to count it.
    """
    stop = objection(market, now)
    if stop is not None:
        return Evaluation(decision=None, stopped=stop)
    known: dict[str, Candles | None] = {**(series or {}), subject.timeframe: candles}
    stop = unfit(subject, market, known, others or {}, now)
    if stop is not None:
        return Evaluation(decision=None, stopped=stop)
    view = view_of(subject, market, known, others or {}, book)
    decision = subject.strategy.decide(view)
    if not isinstance(decision, Decision):
        raise TypeError(f"decide answered {type(decision).__name__}, not a Decision")
    with localcontext(_WIDE):
        granted, stopped = sized(
            decision, subject.budget, view.symbol, _places(subject, market, view, others or {})
        )
    orders = tuple(
        _order(leg, wish, place, subject, market, now, signal_life)
        for leg, (place, wish) in enumerate(granted)
    )
    ending = {order.id for order in subject.orders if order.is_ending}
    own = {order.id for order in subject.orders}
    return Evaluation(
        decision=decision,
        stopped=stopped,
        orders=orders,
        # What it ends for good needs no room and no gate, whatever else it wants.
        cancels=tuple(each for each in decision.cancels if each in own - ending),
    )


def order_id(bot: str, market: str, sequence: int, leg: int) -> str:
    """The same decision makes the same order, however often it is made.

    ``market`` is the one the bot was evaluated for, also for a leg in another.
    """
    return str(uuid5(ORDERS, f"{bot}/{market}/{sequence}/{leg}"))


def view_of(
    subject: Subject,
    market: Market,
    series: Mapping[str, Candles | None],
    others: Mapping[str, Neighbour],
    book: Book | None,
) -> View:
    """What the bot is shown; the gates have seen that nothing of it is missing."""
    trade, quote, strategy = market.trade, market.quote, subject.strategy
    assert trade is not None
    assert quote is not None
    symbol = market.instrument.symbol
    cuts = {
        timeframe: (series.get(timeframe) or NONE).latest(wanted)
        for timeframe, wanted in wanted_history(strategy, subject.timeframe).items()
    }
    needs = strategy.needs()
    own = tuple(order for order in subject.orders if order.symbol == symbol)
    return View(
        symbol=symbol,
        candles=cuts[subject.timeframe],
        trade=trade,
        quote=quote,
        budget=subject.budget,
        position=subject.position,
        orders=own,
        memory=MappingProxyType({name: _own(each) for name, each in subject.memory.items()}),
        now_ms=market.exchange_ms,
        series=cuts,
        others={
            name: _other(name, others[name], subject) for name in needs.others if name != symbol
        },
        book=book if "book" in needs.channels else None,
        average_price=subject.average_price,
    )


def _own(value: Any) -> Any:
    """A copy of what can be changed in place: what a bot changed of the ledger's own would never
    look changed, and so never be kept.
    """
    return deepcopy(value) if isinstance(value, dict | list) else value


def _other(symbol: str, other: Neighbour, subject: Subject) -> Other:
    trade, quote = other.market.trade, other.market.quote
    assert trade is not None
    assert quote is not None
    held = subject.others.get(symbol, Holding())
    return Other(
        symbol=symbol,
        candles=(other.candles or NONE).latest(subject.strategy.history),
        trade=trade,
        quote=quote,
        position=held.position,
        orders=tuple(order for order in subject.orders if order.symbol == symbol),
        average_price=held.average_price,
    )


def _places(
    subject: Subject, market: Market, view: View, others: Mapping[str, Neighbour]
) -> dict[str, Place]:
    places = {
        view.symbol: Place(
            instrument=market.instrument,
            quote=view.quote,
            position=subject.position,
            orders=list(view.orders),
        )
    }
    for symbol, other in view.others.items():
        places[symbol] = Place(
            instrument=others[symbol].market.instrument,
            quote=other.quote,
            position=other.position,
            orders=list(other.orders),
        )
    return places


def _order(
    leg: int,
    wish: Wish,
    place: Place,
    subject: Subject,
    market: Market,
    now: datetime,
    life: timedelta,
) -> Order:
    quote, instrument = place.quote, place.instrument
    before = next((each for each in subject.orders if each.id == wish.replaces), None)
    return Order(
        id=order_id(subject.bot, market.instrument.market, market.sequence, leg),
        bot=subject.bot,
        venue=instrument.venue,
        account=subject.account,
        symbol=instrument.symbol,
        side=wish.side,
        kind=_kind(wish),
        # Of the one it replaces all that filled will be taken off; what the strategy has seen of
        # that, it has reckoned with.
        quantity=wish.quantity + (before.filled_quantity if before else 0),
        limit_price=wish.limit_price,
        stop_price=wish.stop_price,
        time_in_force=wish.time_in_force,
        replaces=wish.replaces,
        is_reduce_only=wish.reduce_only,
        reference_price=quote.ask if wish.side is Side.BUY else quote.bid,
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + life,
    )


def _kind(wish: Wish) -> OrderKind:
    if wish.stop_price is not None:
        return OrderKind.STOP if wish.limit_price is None else OrderKind.STOP_LIMIT
    if wish.limit_price is None:
        return OrderKind.MARKET
    return OrderKind.POST_ONLY if wish.post_only else OrderKind.LIMIT
