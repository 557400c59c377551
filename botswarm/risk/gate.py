"""The one question asked before an order is sent: may it be? Total, and closed by default."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

from botswarm.domain.order import Order, OrderKind, Side, TimeInForce
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.risk.limits import Limits

CLOCK_TOLERANCE = timedelta(seconds=1)
"""How far in the future a signal may seem to be; two machines' clocks never quite agree."""

# A sum that had to be rounded may have been rounded below its limit: then the answer is no.
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])


def judge(order: Order, exposure: Exposure | None, limits: Limits, now: datetime) -> Verdict:
    """Run the checks in order; the first objection refuses the order.

    Not knowing the exposure is itself an objection, and so are numbers that cannot be computed
    with. No limit blocks an order that only shrinks a position.
    """
    if exposure is None:
        return Refused(order, "the account's exposure is unknown")
    try:
        with localcontext(_EXACT):
            objection = _objection(order, exposure, limits, now)
    except (ArithmeticError, TypeError, ValueError) as error:
        objection = f"its numbers cannot be computed with ({type(error).__name__})"
    return Approved(order) if objection is None else Refused(order, objection)


def judge_again(order: Order, exposure: Exposure) -> Verdict:
    """An order that passed and was not sent then: its room is still its own, but a person may have
    said since that positions must not grow.
    """
    with localcontext(_EXACT):
        objection = _state_objects(order, exposure) or _it_would_not_reduce(order, exposure)
    return Approved(order) if objection is None else Refused(order, objection)


def shrinks(order: Order, exposure: Exposure) -> bool:
    """Whether the position gets smaller and stays on its side, open orders counted as filled."""
    if order.side is Side.SELL:
        return order.quantity + exposure.open_sell_quantity <= exposure.position
    return order.quantity + exposure.open_buy_quantity <= -exposure.position


def _objection(order: Order, exposure: Exposure, limits: Limits, now: datetime) -> str | None:
    for check in ALWAYS:
        if objection := check(order, exposure, limits, now):
            return objection
    if shrinks(order, exposure):
        return None
    for check in WHEN_GROWING:
        if objection := check(order, exposure, limits, now):
            return objection
    return None


def worst_price(order: Order) -> Decimal:
    """The dearer of what it is willing to pay and what the market paid: a sum is never too low."""
    named = (each for each in (order.limit_price, order.stop_price) if each is not None)
    return max((order.reference_price, *named))


# --- what holds for every order -------------------------------------------------------------


def numbers_make_sense(order: Order, exposure: Exposure, limits: Limits, _: datetime) -> str | None:
    kind = order.kind
    for name, price, is_needed in (
        ("limit", order.limit_price, kind.has_limit),
        ("stop", order.stop_price, kind.has_stop),
    ):
        if (price is not None) != is_needed:
            return f"a {kind} order {'lacks' if is_needed else 'has'} a {name} price"
    if kind is OrderKind.POST_ONLY and order.time_in_force is not TimeInForce.GTC:
        return f"a post-only order rests, so it cannot be {order.time_in_force}"
    for name, value in (
        ("quantity", order.quantity),
        ("reference price", order.reference_price),
        ("limit price", Decimal(1) if order.limit_price is None else order.limit_price),
        ("stop price", Decimal(1) if order.stop_price is None else order.stop_price),
    ):
        if not (value.is_finite() and value > 0):
            return f"its {name} is {value}"
    for name, sum_ in (
        ("position", exposure.position),
        ("realised loss", exposure.loss_today),
        ("open notional", exposure.account_open_notional),
        ("open buys", exposure.open_buy_quantity),
        ("open sells", exposure.open_sell_quantity),
    ):
        may_be_negative = name in ("position", "realised loss")
        if not sum_.is_finite() or (sum_ < 0 and not may_be_negative):
            return f"the exposure makes no sense: {name} {sum_}"
    if exposure.open_orders < 0 or exposure.orders_last_minute < 0:
        return "the exposure makes no sense: a negative count of orders"
    return None


def signal_is_fresh(order: Order, _: Exposure, limits: Limits, now: datetime) -> str | None:
    if now >= order.signal_expires_at:
        return f"its signal expired at {order.signal_expires_at:%H:%M:%S}"
    age = now - order.created_at
    if age > timedelta(seconds=limits.signal_age_max_s):
        return (
            f"its signal is {age.total_seconds():.1f} s old, over {limits.signal_age_max_s} s"
            " (limit_signal_age_max_s)"
        )
    if age < -CLOCK_TOLERANCE:
        return f"its signal is {-age.total_seconds():.1f} s in the future: a clock is wrong"
    return None


def trading_is_allowed(order: Order, exposure: Exposure, _: Limits, __: datetime) -> str | None:
    return _state_objects(order, exposure)


def _state_objects(order: Order, exposure: Exposure) -> str | None:
    match exposure.trading_state:
        case TradingState.ACTIVE:
            return None
        case TradingState.REDUCING if shrinks(order, exposure):
            return None
        case TradingState.REDUCING:
            return "trading is reducing: only orders that shrink a position pass"
        case _:
            return "trading is halted"


def it_reduces_if_it_must(order: Order, exposure: Exposure, _: Limits, __: datetime) -> str | None:
    return _it_would_not_reduce(order, exposure)


def _it_would_not_reduce(order: Order, exposure: Exposure) -> str | None:
    if not order.is_reduce_only or shrinks(order, exposure):
        return None
    return (
        f"it may only reduce a position, and would not: {exposure.position} is held, and other"
        " orders may take that"
    )


# --- what holds for orders that may make a position bigger ------------------------------------


def order_is_small_enough(order: Order, _: Exposure, limits: Limits, __: datetime) -> str | None:
    notional = order.quantity * worst_price(order)
    return _over("order notional", notional, limits.order_notional_max, "limit_order_notional_max")


def account_has_room(order: Order, exposure: Exposure, limits: Limits, _: datetime) -> str | None:
    after = exposure.account_open_notional + order.quantity * worst_price(order)
    return _over("open notional", after, limits.open_notional_max, "limit_open_notional_max")


def position_has_room(order: Order, exposure: Exposure, limits: Limits, _: datetime) -> str | None:
    if order.side is Side.BUY:
        quantity = exposure.position + exposure.open_buy_quantity + order.quantity
    else:
        quantity = -exposure.position + exposure.open_sell_quantity + order.quantity
    after = quantity * worst_price(order)
    return _over("position", after, limits.position_notional_max, "limit_position_notional_max")


def open_orders_have_room(_: Order, exposure: Exposure, limits: Limits, __: datetime) -> str | None:
    return _over(
        "open orders", exposure.open_orders + 1, limits.open_orders_max, "limit_open_orders_max"
    )


def bot_is_not_racing(_: Order, exposure: Exposure, limits: Limits, __: datetime) -> str | None:
    return _over(
        "orders of the last minute",
        exposure.orders_last_minute + 1,
        limits.orders_per_minute_max,
        "limit_orders_per_minute_max",
    )


def losses_are_bearable(_: Order, exposure: Exposure, limits: Limits, __: datetime) -> str | None:
    if exposure.loss_today < limits.daily_loss_max:
        return None
    return (
        f"today's realised loss is {exposure.loss_today}, at or over {limits.daily_loss_max}"
        " (limit_daily_loss_max)"
    )


def _over(what: str, after: Decimal | int, highest: Decimal | int, setting: str) -> str | None:
    return None if after <= highest else f"{what} would be {after}, over {highest} ({setting})"


Check = Callable[[Order, Exposure, Limits, datetime], str | None]
ALWAYS: tuple[Check, ...] = (
    numbers_make_sense,
    signal_is_fresh,
    trading_is_allowed,
    it_reduces_if_it_must,
)
WHEN_GROWING: tuple[Check, ...] = (
    order_is_small_enough,
    account_has_room,
    position_has_room,
    open_orders_have_room,
    bot_is_not_racing,
    losses_are_bearable,
)
