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

from botswarm.domain.amount import plain
from botswarm.domain.limits import AT_ITS_EDGE, Chain, Finding, Level, Limit, in_force
from botswarm.domain.order import Order, OrderKind, Side, TimeInForce
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.risk.limits import Limits
from botswarm.risk.measures import MEASURES, Asked, NotKnown, worst_price

CLOCK_TOLERANCE = timedelta(seconds=1)
"""How far in the future a signal may seem to be; two machines' clocks never quite agree."""

# A sum that had to be rounded may have been rounded below its limit: then the answer is no.
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])


def judge(
    order: Order,
    exposure: Exposure | None,
    limits: Limits,
    now: datetime,
    clock_offset_s: Decimal | None = None,
) -> Verdict:
    """Run the checks in order; the first objection refuses the order.

    Not knowing the exposure is itself an objection, and so are numbers that cannot be computed
    with, and limits whose value nobody knows. No limit blocks an order that only shrinks a
    position.
    """
    if exposure is None:
        return Refused(order, "the account's exposure is unknown")
    try:
        with localcontext(_EXACT):
            return _verdict(order, exposure, limits, now, clock_offset_s)
    except (ArithmeticError, TypeError, ValueError) as error:
        return Refused(order, f"its numbers cannot be computed with ({type(error).__name__})")


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


def _verdict(
    order: Order,
    exposure: Exposure,
    limits: Limits,
    now: datetime,
    clock_offset_s: Decimal | None,
) -> Verdict:
    for check in ALWAYS:
        if objection := check(order, exposure, limits, now):
            return Refused(order, objection)
    if shrinks(order, exposure):
        return Approved(order)
    if exposure.facts is not None and exposure.facts.unread is not None:
        return Refused(order, exposure.facts.unread)
    if objection := _trades_with_ourselves(order, exposure):
        return Refused(order, objection)
    asked = Asked(
        order=order,
        exposure=exposure,
        limits=limits,
        now=now,
        clock_offset_s=clock_offset_s,
        notional=order.quantity * worst_price(order),
    )
    return _weighed(asked)


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
        f"it may only reduce a position, and would not: {plain(exposure.position)} is held,"
        " and other orders may take that"
    )


# --- what holds for orders that may make a position bigger ------------------------------------


def _trades_with_ourselves(order: Order, exposure: Exposure) -> str | None:
    """Two of our bots would only pay fees to each other. What shrinks a position is the venue's to
    keep apart: it is asked to, with every order.
    """
    facts = exposure.facts
    if facts is None or order.kind.has_stop:
        return None
    price = order.reference_price if order.limit_price is None else order.limit_price
    is_buy = order.side is Side.BUY
    own = facts.lowest_own_sell if is_buy else facts.highest_own_buy
    if own is None or (price < own if is_buy else price > own):
        return None
    what = "sell" if is_buy else "buy"
    return f"it would trade with an order of our own: one of this account {what}s at {plain(own)}"


def _weighed(asked: Asked) -> Verdict:
    """Hold it against every limit that applies; the first that is broken refuses it."""
    order, facts = asked.order, asked.exposure.facts
    chain = _UNSAID if facts is None else facts.chain
    said = () if facts is None else facts.limits
    warned = frozenset[tuple[str, str]]() if facts is None else facts.warned
    crossed: list[Finding] = []
    calm: list[tuple[str, str]] = []
    for limit in in_force(chain, said, asked.limits.defaults):
        scope = limit.scope if limit.rule.is_total else chain[limit.rule.subject]
        try:
            value = MEASURES[limit.kind](limit, asked)
        except NotKnown as unknown:
            if limit.setting is not None:
                continue
            words = f"its {limit.rule.words} is not known: {unknown} ({limit.source})"
            return Refused(order, words, _finding(limit, scope, None, words, is_breach=True))
        if not value.is_finite():
            raise ValueError(f"{limit.kind} is {value}")
        if limit.is_broken_by(value):
            words = _over(limit, value)
            return Refused(order, words, _finding(limit, scope, value, words, is_breach=True))
        is_told = (scope, limit.kind.value) in warned
        if limit.is_near(value) and not is_told:
            words = f"{limit.rule.words} is {plain(value)}, at or over the warning line of"
            words += f" {plain(limit.warn or value)}; the limit is {plain(limit.breach)}"
            words += f" ({limit.source})"
            crossed.append(_finding(limit, scope, value, words, is_breach=False))
        elif is_told and not limit.is_near(value):
            calm.append((scope, limit.kind.value))
    return Approved(order, tuple(crossed), tuple(calm))


def _finding(
    limit: Limit, scope: str, value: Decimal | None, words: str, *, is_breach: bool
) -> Finding:
    return Finding(limit=limit, scope=scope, value=value, words=words, is_breach=is_breach)


def _over(limit: Limit, value: Decimal) -> str:
    number, highest, words = plain(value), plain(limit.breach), limit.rule.words
    if limit.kind in AT_ITS_EDGE:
        return f"{words} is {number}, at or over {highest} ({limit.source})"
    return f"{words} would be {number}, over {highest} ({limit.source})"


Check = Callable[[Order, Exposure, Limits, datetime], str | None]
ALWAYS: tuple[Check, ...] = (
    numbers_make_sense,
    signal_is_fresh,
    trading_is_allowed,
    it_reduces_if_it_must,
)
_UNSAID: Chain = {level: level.value for level in Level}
"""Where there is no table of limits, only the settings' speak, and of which scope is all one."""
