"""From what a bot wants to what it may order: its budget, what it holds, the venue's steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from botswarm.domain.instrument import Instrument, step_down, step_up
from botswarm.domain.market import Quote
from botswarm.domain.order import Order, Side, TimeInForce
from botswarm.strategies.api import Decision, OfBudget, Quantity, Target, Wish, Worth
from botswarm.strategies.stand import ZERO, Stop

TOLERANCE = Decimal("0.05")
"""Of the target: a smaller difference is what prices do by themselves, not worth a fee."""
ORDERS_MAX = 50
"""Of one evaluation; a strategy that wants more is broken."""


@dataclass(slots=True, kw_only=True)
class Place:
    """One market of a bot while its orders are sized: what is left to sell shrinks with each."""

    instrument: Instrument
    quote: Quote
    position: Decimal
    orders: list[Order]

    @property
    def coming(self) -> Decimal:
        """What is held once all that is open has been filled; a stop sleeps, perhaps for ever."""
        awake = [order for order in self.orders if not order.kind.has_stop]
        return self.position + opened(awake, Side.BUY) - opened(awake, Side.SELL)

    @property
    def free(self) -> Decimal:
        """What is held and not being sold already."""
        return max(ZERO, self.position - opened(self.orders, Side.SELL))

    @property
    def spent(self) -> Decimal:
        """Of the budget, everything open counted as filled."""
        bought = (
            order.open_quantity
            * max(order.limit_price or ZERO, order.stop_price or ZERO, order.reference_price)
            for order in self.orders
            if order.side is Side.BUY
        )
        return max(ZERO, self.position) * self.quote.ask + sum(bought, ZERO)


Granted = list[tuple[Place, Wish]]


def sized(
    decision: Decision, budget: Decimal, own: str, places: Mapping[str, Place]
) -> tuple[Granted, Stop | None]:
    """At most what the budget has room for and what is held, in the venue's steps.

    ``own`` is the symbol of the bot's own market; the budget is shared over all places.
    """
    known = {order.id: order for place in places.values() for order in place.orders}
    refusal = _not_its_own(decision, known)
    if refusal is not None:
        return [], refusal
    asked = [wish for wish in decision.orders if not _is_on_its_way(wish, known)]
    _make_room(asked, places)
    stopped: Stop | None = None
    if len(asked) + len(decision.targets) > ORDERS_MAX:
        count = len(asked) + len(decision.targets)
        words = f"it wants {count} orders at once, over {ORDERS_MAX}"
        return [], Stop(gate="too many orders", words=words)
    targets = dict(decision.targets)
    if decision.target is not None:
        targets.setdefault(own, decision.target)
    for symbol in [*targets, *(wish.symbol for wish in asked if wish.symbol is not None)]:
        if symbol not in places:
            words = f"it wants to trade {symbol}, which is not among its markets"
            return [], Stop(gate="foreign market", words=words)
    for symbol, target in targets.items():
        wish, refusal = _towards(target, budget, places[symbol])
        stopped = stopped or refusal
        asked += [] if wish is None else [replace(wish, symbol=symbol)]
    room = max(ZERO, budget - sum((place.spent for place in places.values()), ZERO))
    free = {symbol: place.free for symbol, place in places.items()}
    granted: Granted = []
    for wish in asked:
        symbol = wish.symbol or own
        place = places[symbol]
        refusal = _senseless(wish, place.quote)
        if refusal is not None:
            return [], refusal
        price = _charged(wish, place.quote)
        most = room / price if wish.side is Side.BUY else free[symbol]
        most = min(most, place.instrument.quantity_max)
        quantity = step_down(max(ZERO, min(wish.quantity, most)), place.instrument.lot_size)
        refusal = _too_small(wish, quantity, price, most, place.instrument)
        if refusal is not None:
            stopped = stopped or refusal
            continue
        if wish.side is Side.BUY:
            room -= quantity * price
        else:
            free[symbol] -= quantity
        granted.append((place, _stepped(wish, quantity, place.instrument)))
    return granted, stopped


def _not_its_own(decision: Decision, known: Mapping[str, Order]) -> Stop | None:
    """Whoever wants orders ended that are not its own, or not there, is broken."""
    replaced = [wish.replaces for wish in decision.orders if wish.replaces is not None]
    for order_id in (*decision.cancels, *replaced):
        if order_id not in known:
            return Stop(
                gate="no such order", words=f"it names {order_id}, which is none of its own"
            )
    for wish in decision.orders:
        if wish.replaces is not None and known[wish.replaces].side is not wish.side:
            words = f"it wants a {wish.side} in place of a {known[wish.replaces].side}"
            return Stop(gate="contradiction", words=words)
    return None


def _is_on_its_way(wish: Wish, known: Mapping[str, Order]) -> bool:
    """What it replaces is ending already, for another order or for good."""
    return wish.replaces is not None and known[wish.replaces].is_ending


def _make_room(asked: Iterable[Wish], places: Mapping[str, Place]) -> None:
    """What is replaced has ended before its replacement is judged."""
    replaced = {wish.replaces for wish in asked if wish.replaces is not None}
    for place in places.values():
        place.orders = [order for order in place.orders if order.id not in replaced]


def opened(orders: Iterable[Order], side: Side) -> Decimal:
    return sum((order.open_quantity for order in orders if order.side is side), ZERO)


def _towards(target: Target, budget: Decimal, place: Place) -> tuple[Wish | None, Stop | None]:
    """The one order to the target, from what is held once all that is open has been filled."""
    quote, instrument = place.quote, place.instrument
    quantity = _quantity(target, budget, quote)
    if not quantity.is_finite():
        return None, Stop(gate="no number", words=f"it wants to hold {quantity}")
    wanted = max(ZERO, quantity)
    short = None
    if quantity < 0:
        short = Stop(gate="short", words="a spot market cannot be sold short: nothing is held")
    difference = wanted - place.coming
    if difference == 0 or (wanted > 0 and abs(difference) <= wanted * TOLERANCE):
        return None, short
    if wanted > 0 and place.coming > 0 and abs(difference) * quote.bid < instrument.notional_min:
        return None, short
    side = Side.BUY if difference > 0 else Side.SELL
    if side is Side.SELL and _is_dust(place.position, instrument, quote):
        # What commissions left over cannot be sold: it stays, and is nobody's problem.
        return None, short
    return Wish(side=side, quantity=abs(difference)), short


def _quantity(target: Target, budget: Decimal, quote: Quote) -> Decimal:
    match target:
        case Quantity(quantity=quantity):
            return _number(quantity)
        case Worth(notional=notional):
            return _number(notional) / quote.ask
        case OfBudget(fraction=fraction):
            return _number(fraction) * budget / quote.ask
        case _:
            raise TypeError(f"its target is {target!r}, not OfBudget, Worth or Quantity")


def _number(given: object) -> Decimal:
    if isinstance(given, Decimal):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Decimal(given)
    raise TypeError(f"{given!r} is no Decimal: write Decimal(str(…)) around what an array gave")


def _is_dust(quantity: Decimal, instrument: Instrument, quote: Quote) -> bool:
    sellable = step_down(max(ZERO, quantity), instrument.lot_size)
    return sellable < instrument.quantity_min or sellable * quote.bid < instrument.notional_min


# --- one wish -------------------------------------------------------------------------------------


def _charged(wish: Wish, quote: Quote) -> Decimal:
    """The price it may be charged at: what it is willing to pay, and at the least the ask."""
    if wish.limit_price is not None:
        return wish.limit_price
    if wish.side is Side.BUY:
        return max(quote.ask, wish.stop_price or ZERO)
    return quote.bid if wish.stop_price is None else wish.stop_price


def _senseless(wish: Wish, quote: Quote) -> Stop | None:
    """What no venue could make sense of; a strategy that wishes it is broken."""
    numbers = [wish.quantity, _charged(wish, quote)]
    numbers += [each for each in (wish.limit_price, wish.stop_price) if each is not None]
    if not all(_number(each).is_finite() for each in numbers) or min(numbers[1:]) <= 0:
        words = f"it wants {wish.quantity} at {' and '.join(map(str, numbers[1:]))}"
        return Stop(gate="no number", words=words)
    if wish.post_only and (wish.limit_price is None or wish.stop_price is not None):
        words = "only an order that rests at a limit price can be post-only"
        return Stop(gate="contradiction", words=words)
    if wish.post_only and wish.time_in_force is not TimeInForce.GTC:
        words = f"a post-only order rests: it cannot be {wish.time_in_force}"
        return Stop(gate="contradiction", words=words)
    if wish.time_in_force is not TimeInForce.GTC and wish.limit_price is None:
        words = f"{wish.time_in_force} is for orders with a limit price"
        return Stop(gate="contradiction", words=words)
    return None


def _stepped(wish: Wish, quantity: Decimal, instrument: Instrument) -> Wish:
    buys, limit_price, stop_price = wish.side is Side.BUY, wish.limit_price, wish.stop_price
    if limit_price is not None:
        step = instrument.round_buy_price if buys else instrument.round_sell_price
        limit_price = step(limit_price)
    if stop_price is not None:
        # Later rather than sooner: it wakes once the market is at least where it was asked to be.
        stop_price = (step_up if buys else step_down)(stop_price, instrument.tick_size)
    return replace(wish, quantity=quantity, limit_price=limit_price, stop_price=stop_price)


def _too_small(
    wish: Wish, quantity: Decimal, price: Decimal, most: Decimal, instrument: Instrument
) -> Stop | None:
    """Why an order of this quantity cannot be; the price may still be rounded a step down."""
    if wish.side is Side.BUY and most <= 0:
        return Stop(gate="budget", words="its budget is used up by what is held and open")
    if wish.side is Side.SELL and most <= 0:
        return Stop(gate="nothing to sell", words="all that is held is being sold already")
    is_priced = wish.limit_price is not None or wish.stop_price is not None
    charged = max(ZERO, price - instrument.tick_size) if is_priced else price
    is_enough = (
        quantity >= instrument.quantity_min and quantity * charged >= instrument.notional_min
    )
    if quantity > 0 and is_enough:
        return None
    words = (
        f"a {wish.side} of {quantity:f} {instrument.base} is worth {quantity * price:.2f} "
        f"{instrument.quote}; the market takes {instrument.quantity_min:f} {instrument.base} "
        f"and {instrument.notional_min:f} {instrument.quote} or more"
    )
    return Stop(gate="too small", words=words)
