"""Where the stop of a position belongs, and what has to be done so that it is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from botswarm.domain.instrument import Instrument, step_down, step_up
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.domain.protections import Protection, ProtectionKind

STEP = Decimal("0.001")
"""Of the price: a stop is not moved for less, each move is a cancel and an order."""
LIMIT_BEYOND = Decimal("0.02")
"""Where a venue takes no stop at market: how far beyond the stop price its limit is."""
AT_REST = frozenset((OrderState.LIVE, OrderState.PARTIAL))


class Do(StrEnum):
    NOTHING = "nothing"
    ARM = "arm"
    MOVE = "move"
    CLOSE = "close"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A position that may be guarded, and what is known of its market."""

    quantity: Decimal
    """Negative when short."""
    cost: Decimal
    price: Decimal | None
    """None where nobody knows a fresh one."""
    best_price: Decimal | None
    """The best the market has been at while it was guarded."""
    orders: Sequence[Order]
    """Of its bot in its market, not at their end."""
    kinds: frozenset[OrderKind] | None
    """What the venue takes; None where that is not known."""

    @property
    def sign(self) -> int:
        return 1 if self.quantity > 0 else -1

    @property
    def side(self) -> Side:
        """Of what closes it."""
        return Side.closing(self.quantity)

    @property
    def average(self) -> Decimal:
        return abs(self.cost / self.quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    kind: ProtectionKind
    best_price: Decimal
    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    do: Do
    stop: Stop | None = None
    current: Order | None = None
    order_kind: OrderKind | None = None
    limit_price: Decimal | None = None
    words: str | None = None
    """Why there is no stop at the venue, where there should be one."""
    is_watched: bool = False
    """The bot's own orders hold what a stop would sell: they are taken over when it comes to it."""
    take_over: tuple[Order, ...] = ()
    """Orders of the bot that rest where the price will not come, now that the stop is passed."""


def plan(held: Held, protections: Iterable[Protection], instrument: Instrument) -> Plan:
    """What the next step is; after each step it is asked again."""
    current = _current(held)
    stop = stop_of(held, protections, instrument) if held.quantity else None
    if stop is None:
        return Plan(do=_ending(current), current=current)
    own = _resting(held) if _is_crossed(held, stop) else ()
    if not _is_worth(stop, instrument):
        is_watched = _taken(held) > 0
        words = None if is_watched or _is_dust(held, instrument) else "less than the market takes"
        return Plan(
            do=_ending(current),
            stop=stop,
            current=current,
            words=words,
            is_watched=is_watched,
            take_over=own,
        )
    return replace(_towards(held, stop, instrument, current), take_over=own)


def _ending(current: Order | None) -> Do:
    """A stop that guards nothing any more; what is closing the position already is left to it."""
    return Do.CANCEL if current is not None and current.kind.has_stop else Do.NOTHING


def _towards(held: Held, stop: Stop, instrument: Instrument, current: Order | None) -> Plan:
    if current is not None:
        if current.state not in AT_REST:
            return Plan(do=Do.NOTHING, stop=stop, current=current)
        do = Do.MOVE if _is_misplaced(current, stop) and not _is_crossed(held, stop) else Do.NOTHING
        return _by_order(do, held, stop, instrument, current)
    if any(order.is_protective for order in held.orders):
        # On its way out, for an order of the bot or for good: what is left is seen afterwards.
        return Plan(do=Do.NOTHING, stop=stop)
    if _is_crossed(held, stop):
        return Plan(do=Do.CLOSE, stop=stop, order_kind=OrderKind.MARKET)
    return _by_order(Do.ARM, held, stop, instrument, None)


def stop_of(held: Held, protections: Iterable[Protection], instrument: Instrument) -> Stop | None:
    """The nearest that any protection asks for; None where none does, or nothing is known yet."""
    best = held.best_price if held.best_price is not None else held.average
    if held.price is not None:
        best = max(best, held.price) if held.sign > 0 else min(best, held.price)
    found: list[tuple[Decimal, ProtectionKind]] = []
    for each in protections:
        share = held.sign * each.parameters["percent"] / 100
        start = held.average if each.kind is ProtectionKind.STOP_LOSS else best
        found.append((start * (1 - share), each.kind))
    if not found:
        return None
    price, kind = max(found) if held.sign > 0 else min(found)
    step = step_down if held.sign > 0 else step_up
    quantity = instrument.round_quantity(max(Decimal(0), abs(held.quantity) - _taken(held)))
    rounded = step(price, instrument.tick_size)
    return Stop(kind=kind, best_price=best, price=rounded, quantity=quantity)


def _current(held: Held) -> Order | None:
    own = [order for order in held.orders if order.is_protective and not order.is_ending]
    return max(own, key=lambda order: (order.created_at, order.id), default=None)


def _taken(held: Held) -> Decimal:
    """What the bot's own orders are selling already: it cannot be sold twice."""
    own = (
        order.open_quantity
        for order in held.orders
        if not order.is_protective and order.side is held.side
    )
    return sum(own, Decimal(0))


def _is_worth(stop: Stop, instrument: Instrument) -> bool:
    is_enough = stop.quantity >= instrument.quantity_min and stop.quantity > 0
    return is_enough and stop.price > 0 and stop.quantity * stop.price >= instrument.notional_min


def _is_dust(held: Held, instrument: Instrument) -> bool:
    """What commissions left over is nobody's position."""
    worth = abs(held.quantity) * held.average
    return worth < instrument.notional_min or abs(held.quantity) < instrument.quantity_min


def _resting(held: Held) -> tuple[Order, ...]:
    return tuple(
        order
        for order in held.orders
        if order.side is held.side
        and order.state in AT_REST
        and not order.is_protective
        and not order.is_ending
    )


def _is_misplaced(current: Order, stop: Stop) -> bool:
    if current.open_quantity != stop.quantity:
        return True
    if current.stop_price is None:
        return False
    return abs(current.stop_price - stop.price) > STEP * stop.price


def _is_crossed(held: Held, stop: Stop) -> bool:
    if held.price is None:
        return False
    return held.sign * (held.price - stop.price) <= 0


def _by_order(
    do: Do, held: Held, stop: Stop, instrument: Instrument, current: Order | None
) -> Plan:
    if do is Do.NOTHING:
        return Plan(do=do, stop=stop, current=current)
    if held.kinds is None or OrderKind.STOP in held.kinds:
        return Plan(do=do, stop=stop, current=current, order_kind=OrderKind.STOP)
    if OrderKind.STOP_LIMIT in held.kinds:
        beyond = stop.price * (1 - held.sign * LIMIT_BEYOND)
        step = step_down if held.sign > 0 else step_up
        return Plan(
            do=do,
            stop=stop,
            current=current,
            order_kind=OrderKind.STOP_LIMIT,
            limit_price=step(beyond, instrument.tick_size),
        )
    return Plan(
        do=Do.NOTHING, stop=stop, words="the venue takes no stop orders: the sweep watches it"
    )
