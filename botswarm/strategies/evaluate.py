"""From what a market and a bot look like to the orders the bot wants: gated, sized, explained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from botswarm.domain.instrument import Instrument, step_down
from botswarm.domain.market import TIMEFRAMES_S, Quote, Trade
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.strategies.api import (
    Candles,
    Decision,
    OfBudget,
    Quantity,
    Strategy,
    Target,
    View,
    Wish,
    Worth,
)

ORDERS = UUID("6f0d4f0e-6a86-5d0e-9a0f-3b1c6a4b9e11")
"""The namespace of order ids."""
TOLERANCE = Decimal("0.05")
"""Of the target: a smaller difference is what prices do by themselves, not worth a fee."""
ORDERS_MAX = 50
"""Of one evaluation; a strategy that wants more is broken."""
AHEAD_MAX_MS = 5000
CLOSING_TIME_MS = 3000
"""How long after its end a candle may take to arrive before it counts as missing."""
ZERO = Decimal(0)
# More digits than any product of the amounts that the ledger can keep.
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a bot does not act. ``gate`` names the rule; only a new gate counts as news."""

    gate: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What all bots of one pass look at."""

    instrument: Instrument
    sequence: int
    trade: Trade | None
    quote: Quote | None
    exchange_ms: int
    wanted_sequence: int = 0
    """What was rung for: a market that has not got there yet is not decided on."""
    data_age_max_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One bot, as it stands in the ledger."""

    bot: str
    account: str
    strategy: Strategy
    timeframe: str
    budget: Decimal
    position: Decimal = ZERO
    orders: Sequence[Order] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    decision: Decision | None
    """None where the bot was not asked."""
    stopped: Stop | None
    orders: tuple[Order, ...] = ()


def evaluate(
    subject: Subject,
    market: Market,
    candles: Candles | None,
    now: datetime,
    *,
    signal_life: timedelta,
) -> Evaluation:
    """Whatever the strategy raises goes through: the caller knows how to count it."""
    trade, quote = market.trade, market.quote
    stop = objection(market, now) or _unfit(candles, subject, market)
    if stop is not None or trade is None or quote is None or candles is None:
        return Evaluation(decision=None, stopped=stop)
    view = View(
        symbol=market.instrument.symbol,
        candles=candles,
        trade=trade,
        quote=quote,
        budget=subject.budget,
        position=subject.position,
        orders=tuple(subject.orders),
        memory=MappingProxyType(dict(subject.memory)),
    )
    decision = subject.strategy.decide(view)
    with localcontext(_WIDE):
        wishes, stopped = _wishes(decision, subject, market.instrument, quote)
    orders = tuple(
        _order(leg, wish, subject, market, now, signal_life) for leg, wish in enumerate(wishes)
    )
    return Evaluation(decision=decision, stopped=stopped, orders=orders)


def order_id(bot: str, market: str, sequence: int, leg: int) -> str:
    """The same decision makes the same order, however often it is made."""
    return str(uuid5(ORDERS, f"{bot}/{market}/{sequence}/{leg}"))


# --- whether to look at all -----------------------------------------------------------------------


def objection(market: Market, now: datetime) -> Stop | None:
    """What is wrong with the data: nobody decides on what is old, crossed or full of holes."""
    if market.trade is None or market.quote is None:
        missing = "trade" if market.trade is None else "quote"
        return Stop(gate="no data", words=f"no {missing} of {market.instrument.market} came yet")
    if market.sequence < market.wanted_sequence:
        words = f"digest {market.sequence} is known, {market.wanted_sequence} was rung for"
        return Stop(gate="behind", words=words)
    age_ms = data_age_ms(market, now)
    if age_ms > market.data_age_max_s * 1000:
        words = f"the data is {age_ms / 1000:.1f} s old, over {market.data_age_max_s:g} s"
        return Stop(gate="stale", words=words)
    if age_ms < -AHEAD_MAX_MS:
        words = f"the data is from {-age_ms / 1000:.1f} s ahead: a clock is wrong"
        return Stop(gate="clock", words=words)
    if market.quote.is_crossed or market.quote.bid <= 0:
        words = f"bid {market.quote.bid:f} and ask {market.quote.ask:f} make no market"
        return Stop(gate="crossed", words=words)
    if not market.instrument.is_trading:
        return Stop(gate="not trading", words=f"{market.instrument.market} is not trading")
    return None


def data_age_ms(market: Market, now: datetime) -> int:
    """By the venue's own clock."""
    return int(now.timestamp() * 1000) - market.exchange_ms


def _unfit(candles: Candles | None, subject: Subject, market: Market) -> Stop | None:
    """What is wrong with a bot's own history; a hole further back is not its concern."""
    has, wants = 0 if candles is None else len(candles), subject.strategy.history
    if candles is None or has < wants:
        words = f"{has} of the {wants} closed candles it needs are known"
        return Stop(gate="history", words=words)
    if has == 0:
        return None
    length_ms = TIMEFRAMES_S[subject.timeframe] * 1000
    first, last = int(candles.open_ms[0]), int(candles.open_ms[-1])
    # They rise without repeating, so as many as fit between first and last are all there are.
    if last - first != (has - 1) * length_ms:
        return Stop(gate="gapped", words="candles are missing between those that are known")
    if market.exchange_ms >= last + 2 * length_ms + CLOSING_TIME_MS:
        return Stop(gate="gapped", words="the latest closed candles are missing")
    return None


# --- how much -------------------------------------------------------------------------------------


def _wishes(
    decision: Decision, subject: Subject, instrument: Instrument, quote: Quote
) -> tuple[list[Wish], Stop | None]:
    """At most what the budget has room for and what is held, in the venue's steps."""
    asked = list(decision.orders)
    stopped = None
    if len(asked) > ORDERS_MAX:
        words = f"it wants {len(asked)} orders at once, over {ORDERS_MAX}"
        return [], Stop(gate="too many orders", words=words)
    if decision.target is not None:
        wish, stopped = _towards(decision.target, subject, instrument, quote)
        asked += [] if wish is None else [wish]
    room, free = _room(subject, quote), _free(subject)
    granted = []
    for wish in asked:
        # The price it may be charged at: what it is willing to pay, and at the least the ask.
        price = wish.limit_price or (quote.ask if wish.side is Side.BUY else quote.bid)
        if not (wish.quantity.is_finite() and price.is_finite() and price > 0):
            return [], Stop(gate="no number", words=f"it wants {wish.quantity} at {price}")
        most = room / price if wish.side is Side.BUY else free
        most = min(most, instrument.quantity_max)
        quantity = step_down(max(ZERO, min(wish.quantity, most)), instrument.lot_size)
        limit_price = _stepped(wish, instrument)
        refusal = _too_small(wish, quantity, price, most, instrument)
        if refusal is not None:
            stopped = stopped or refusal
            continue
        if wish.side is Side.BUY:
            room -= quantity * price
        else:
            free -= quantity
        granted.append(Wish(side=wish.side, quantity=quantity, limit_price=limit_price))
    return granted, stopped


def _towards(
    target: Target, subject: Subject, instrument: Instrument, quote: Quote
) -> tuple[Wish | None, Stop | None]:
    """The one order to the target, from what is held once all that is open has been filled."""
    wanted = max(ZERO, _quantity(target, subject, quote))
    short = None
    if _quantity(target, subject, quote) < 0:
        short = Stop(gate="short", words="a spot market cannot be sold short: nothing is held")
    coming = subject.position + _open(subject.orders, Side.BUY) - _open(subject.orders, Side.SELL)
    difference = wanted - coming
    if difference == 0 or (wanted > 0 and abs(difference) <= wanted * TOLERANCE):
        return None, short
    if wanted > 0 and coming > 0 and abs(difference) * quote.bid < instrument.notional_min:
        return None, short
    side = Side.BUY if difference > 0 else Side.SELL
    if side is Side.SELL and _is_dust(subject.position, instrument, quote):
        # What commissions left over cannot be sold: it stays, and is nobody's problem.
        return None, short
    return Wish(side=side, quantity=abs(difference)), short


def _quantity(target: Target, subject: Subject, quote: Quote) -> Decimal:
    match target:
        case Quantity(quantity=quantity):
            return quantity
        case Worth(notional=notional):
            return notional / quote.ask
        case OfBudget(fraction=fraction):
            return fraction * subject.budget / quote.ask


def _room(subject: Subject, quote: Quote) -> Decimal:
    """What the budget leaves for buying, everything open counted as filled."""
    held = max(ZERO, subject.position) * quote.ask
    bought = sum(
        (
            order.open_quantity * max(order.limit_price or ZERO, order.reference_price)
            for order in subject.orders
            if order.side is Side.BUY
        ),
        ZERO,
    )
    return max(ZERO, subject.budget - held - bought)


def _free(subject: Subject) -> Decimal:
    """What is held and not being sold already."""
    return max(ZERO, subject.position - _open(subject.orders, Side.SELL))


def _open(orders: Iterable[Order], side: Side) -> Decimal:
    return sum((order.open_quantity for order in orders if order.side is side), ZERO)


def _is_dust(quantity: Decimal, instrument: Instrument, quote: Quote) -> bool:
    sellable = step_down(max(ZERO, quantity), instrument.lot_size)
    return sellable < instrument.quantity_min or sellable * quote.bid < instrument.notional_min


def _stepped(wish: Wish, instrument: Instrument) -> Decimal | None:
    if wish.limit_price is None:
        return None
    if wish.side is Side.BUY:
        return instrument.round_buy_price(wish.limit_price)
    return instrument.round_sell_price(wish.limit_price)


def _too_small(
    wish: Wish, quantity: Decimal, price: Decimal, most: Decimal, instrument: Instrument
) -> Stop | None:
    """Why an order of this quantity cannot be; the price may still be rounded a step down."""
    if wish.side is Side.BUY and most <= 0:
        return Stop(gate="budget", words="its budget is used up by what is held and open")
    if wish.side is Side.SELL and most <= 0:
        return Stop(gate="nothing to sell", words="all that is held is being sold already")
    charged = max(ZERO, price - instrument.tick_size) if wish.limit_price is not None else price
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


def _order(
    leg: int, wish: Wish, subject: Subject, market: Market, now: datetime, life: timedelta
) -> Order:
    quote, instrument = market.quote, market.instrument
    assert quote is not None
    return Order(
        id=order_id(subject.bot, instrument.market, market.sequence, leg),
        bot=subject.bot,
        venue=instrument.venue,
        account=subject.account,
        symbol=instrument.symbol,
        side=wish.side,
        kind=OrderKind.MARKET if wish.limit_price is None else OrderKind.LIMIT,
        quantity=wish.quantity,
        limit_price=wish.limit_price,
        time_in_force=TimeInForce.GTC,
        reference_price=quote.ask if wish.side is Side.BUY else quote.bid,
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + life,
    )


# --- why ------------------------------------------------------------------------------------------


def record(
    evaluation: Evaluation, subject: Subject, market: Market, now: datetime
) -> dict[str, Any]:
    """The evaluation in plain values, as it is kept: enough to say later what was seen and why."""
    decision, quote = evaluation.decision, market.quote
    said = {
        "at": now.isoformat(),
        "sequence": market.sequence,
        "data_age_ms": data_age_ms(market, now) if market.trade else None,
        "price": _plain(market.trade.price) if market.trade else None,
        "bid": _plain(quote.bid) if quote else None,
        "ask": _plain(quote.ask) if quote else None,
        "position": _plain(subject.position),
        "open_buys": _plain(_open(subject.orders, Side.BUY)),
        "open_sells": _plain(_open(subject.orders, Side.SELL)),
        "budget": _plain(subject.budget),
        "verdict": decision.verdict if decision else None,
        "nearest": decision.nearest if decision else None,
        "indicators": _indicators(decision),
        "stopped": None,
        "orders": [_wanted(order) for order in evaluation.orders],
    }
    if evaluation.stopped is not None:
        said["stopped"] = {"gate": evaluation.stopped.gate, "words": evaluation.stopped.words}
    return said


def _indicators(decision: Decision | None) -> dict[str, float | int | str | None]:
    shown: dict[str, float | int | str | None] = {}
    for name, value in (decision.indicators if decision else {}).items():
        if isinstance(value, Decimal):
            shown[name] = _plain(value)
        elif isinstance(value, int):
            shown[name] = value
        else:
            # Whatever float a plugin's library made: JSON knows no numpy and no NaN.
            shown[name] = float(value) if math.isfinite(value) else None
    return shown


def _wanted(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "side": order.side.value,
        "kind": order.kind.value,
        "quantity": _plain(order.quantity),
        "limit_price": None if order.limit_price is None else _plain(order.limit_price),
    }


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
