"""What each kind of limit holds an order against: the value that the order leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import (
    ROUND_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)

from botswarm.domain.facts import Facts, Stand, Total
from botswarm.domain.limits import Level, Limit, LimitKind, level_of
from botswarm.domain.order import Order, OrderKind, Side, TimeInForce
from botswarm.domain.permission import Exposure
from botswarm.domain.standing import AtRisk, Mark
from botswarm.risk.limits import Limits

MARK_AGE_MAX = timedelta(seconds=60)
"""A price that was noted longer ago is not known any more."""
SHARE_STEP = Decimal("0.000001")
ZERO = Decimal(0)
HUNDRED = Decimal(100)
# A share may have endless decimals: it is rounded to the side that refuses.
_ROUNDED_UP = Context(
    prec=28, rounding=ROUND_UP, traps=[InvalidOperation, DivisionByZero, Overflow]
)


class NotKnown(Exception):
    """What a limit needs is missing or too old: the order must not grow anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order, and everything that it is held against."""

    order: Order
    exposure: Exposure
    limits: Limits
    now: datetime
    clock_offset_s: Decimal | None
    notional: Decimal
    """At the worst price it could come to."""

    @property
    def facts(self) -> Facts:
        if self.exposure.facts is None:
            raise NotKnown("nothing was read for it")
        return self.exposure.facts

    @property
    def signed_position(self) -> Decimal:
        """Positive where the order would make it bigger."""
        return self.order.side.sign * self.exposure.position


Measure = Callable[[Limit, Asked], Decimal]


def worst_price(order: Order) -> Decimal:
    """The dearer of what it is willing to pay and what the market paid: a sum is never too low."""
    named = (each for each in (order.limit_price, order.stop_price) if each is not None)
    return max((order.reference_price, *named))


def share_of(part: Decimal, whole: Decimal) -> Decimal:
    with localcontext(_ROUNDED_UP):
        return (part / whole).quantize(SHARE_STEP)


# --- of the order itself --------------------------------------------------------------------------


def order_value(_: Limit, asked: Asked) -> Decimal:
    return asked.notional


def order_quantity(_: Limit, asked: Asked) -> Decimal:
    return asked.order.quantity


def price_collar(limit: Limit, asked: Asked) -> Decimal:
    """How far its limit is beyond what it was decided on, or beyond the book.

    A price that the market has not come to is no mistake, and trades with nobody. Where no book is
    known a setting is held to the first alone.
    """
    order, facts = asked.order, asked.exposure.facts
    if order.limit_price is None:
        return ZERO
    mark = _fresh(facts.mark, asked.now) if facts is not None else None
    if mark is None and limit.setting is None:
        raise NotKnown("no fresh price of the market is known")
    found = [order.reference_price, *([] if mark is None else [_offered(order.side, mark)])]
    shares = (share_of(_beyond(order, order.limit_price, each), each) for each in found)
    return max(ZERO, *shares) * HUNDRED


def slippage(_: Limit, asked: Asked) -> Decimal:
    """How much dearer the market has become since it was decided, for what trades at once."""
    order = asked.order
    is_taker = order.kind is OrderKind.MARKET or order.time_in_force is not TimeInForce.GTC
    if not is_taker:
        return ZERO
    mark = _fresh(asked.facts.mark, asked.now)
    if mark is None:
        raise NotKnown("no fresh price of the market is known")
    worse = order.side.sign * (_offered(order.side, mark) - order.reference_price)
    return share_of(worse, order.reference_price) * HUNDRED if worse > 0 else ZERO


def data_age(_: Limit, asked: Asked) -> Decimal:
    at = asked.facts.priced_at
    if at is None:
        raise NotKnown("it does not say when its price was made")
    return abs(Decimal(str((asked.now - at).total_seconds())))


def clock_offset(_: Limit, asked: Asked) -> Decimal:
    if asked.clock_offset_s is None:
        raise NotKnown("the venue's clock was not compared with ours")
    return abs(asked.clock_offset_s)


def _beyond(order: Order, price: Decimal, market: Decimal) -> Decimal:
    if order.stop_price is not None:
        # Until it triggers it rests; then the market is where it triggered, or beyond.
        choose = max if order.side is Side.BUY else min
        market = choose(market, order.stop_price)
    return order.side.sign * (price - market)


def _offered(side: Side, mark: Mark) -> Decimal:
    """What it would trade at."""
    quoted = mark.ask if side is Side.BUY else mark.bid
    return mark.price if quoted is None else quoted


def _fresh(mark: Mark | None, now: datetime) -> Mark | None:
    return mark if mark is not None and mark.is_fresh(now, MARK_AGE_MAX) else None


# --- of its bot -----------------------------------------------------------------------------------


def position(_: Limit, asked: Asked) -> Decimal:
    exposure, order = asked.exposure, asked.order
    is_buy = order.side is Side.BUY
    resting = exposure.open_buy_quantity if is_buy else exposure.open_sell_quantity
    return (asked.signed_position + resting + order.quantity) * worst_price(order)


def repeated_executions(_: Limit, asked: Asked) -> Decimal:
    before = asked.facts.repeated
    if before is None:
        raise NotKnown("its bot's last orders were not read")
    return Decimal(before + 1)


# --- of a scope -----------------------------------------------------------------------------------


def open_value(limit: Limit, asked: Asked) -> Decimal:
    if _is_of_the_account(limit):
        return asked.exposure.account_open_notional + asked.notional
    return _total(limit, asked).open_value + asked.notional


def open_orders(limit: Limit, asked: Asked) -> Decimal:
    if _is_of_the_account(limit):
        return Decimal(asked.exposure.open_orders + 1)
    return Decimal(_total(limit, asked).open_orders + 1)


def orders_per_second(limit: Limit, asked: Asked) -> Decimal:
    pace = asked.facts.paces.get(level_of(limit.scope))
    if pace is None:
        raise NotKnown("the orders of the last second were not counted")
    return Decimal(pace.last_second + 1)


def orders_per_minute(limit: Limit, asked: Asked) -> Decimal:
    level, facts = _level(limit), asked.exposure.facts
    if level is Level.BOT:
        return Decimal(asked.exposure.orders_last_minute + 1)
    pace = None if facts is None else facts.paces.get(level)
    if pace is None:
        raise NotKnown("the orders of the last minute were not counted")
    return Decimal(pace.last_minute + 1)


def gross_exposure(limit: Limit, asked: Asked) -> Decimal:
    stand = _stand(limit, asked)
    held = ZERO if stand.at_risk is None else _said(stand.at_risk.gross, stand.at_risk)
    return held + stand.moved + _total(limit, asked).open_value + asked.notional


def net_exposure(limit: Limit, asked: Asked) -> Decimal:
    """To the side on which the order would make it bigger."""
    stand, total, side = _stand(limit, asked), _total(limit, asked), asked.order.side
    held = ZERO if stand.at_risk is None else _said(stand.at_risk.net, stand.at_risk)
    resting = total.open_buys if side is Side.BUY else total.open_sells
    return side.sign * (held + stand.moved_net) + resting + asked.notional


def daily_loss(limit: Limit, asked: Asked) -> Decimal:
    """Realised by the account to the last fill; with what is unrealised where a sweep knows it."""
    realised = asked.exposure.loss_today if _is_of_the_account(limit) else None
    if limit.setting is not None and realised is not None:
        return realised
    at_risk = _stand(limit, asked).at_risk
    today = ZERO if at_risk is None else -_said(at_risk.today, at_risk)
    return today if realised is None else max(today, realised)


def drawdown(limit: Limit, asked: Asked) -> Decimal:
    at_risk = _stand(limit, asked).at_risk
    return ZERO if at_risk is None else _said(at_risk.drawdown, at_risk)


def losing_streak(limit: Limit, asked: Asked) -> Decimal:
    """Nothing once it has cooled down."""
    at_risk = _stand(limit, asked).at_risk
    if at_risk is None or at_risk.lost_at is None:
        return ZERO
    cooled = at_risk.lost_at + timedelta(seconds=asked.limits.losing_streak_cooldown_s)
    return Decimal(at_risk.losing_streak) if asked.now < cooled else ZERO


# --- of its account -------------------------------------------------------------------------------


def concentration(_: Limit, asked: Asked) -> Decimal:
    value = _held(asked, asked.order.symbol) + asked.notional
    return share_of(value, _equity(asked)) * HUNDRED


def group_exposure(_: Limit, asked: Asked) -> Decimal:
    """Of the biggest of its groups; a market in no group weighs nothing."""
    base = _base(asked.order.symbol)
    sums = [
        sum((_held(asked, each) for each in _markets(asked) if _base(each) in assets), ZERO)
        for _name, assets in asked.limits.groups
        if base in assets
    ]
    return max(sums) + asked.notional if sums else ZERO


def leverage(_: Limit, asked: Asked) -> Decimal:
    """How many times its equity the account would hold beyond it; nothing borrowed is 0."""
    stand = asked.facts.stands.get(Level.ACCOUNT, Stand(unknown="no sweep has reckoned it"))
    at_risk = _known(stand)
    held = ZERO if at_risk is None else _said(at_risk.gross, at_risk)
    resting = asked.exposure.account_open_notional
    after = held + stand.moved + resting + asked.notional
    return max(ZERO, share_of(after, _equity(asked)) - 1)


def _equity(asked: Asked) -> Decimal:
    stand = asked.facts.stands.get(Level.ACCOUNT, Stand(unknown="no sweep has reckoned it"))
    at_risk = _known(stand)
    if at_risk is None or at_risk.equity is None:
        raise NotKnown("the account's equity is not known")
    if at_risk.equity <= 0:
        raise NotKnown(f"the account's equity is {at_risk.equity}")
    return at_risk.equity


def _markets(asked: Asked) -> Mapping[str, Decimal | None]:
    if asked.facts.held is None:
        raise NotKnown("what the account holds was not read")
    return asked.facts.held


def _held(asked: Asked, symbol: str) -> Decimal:
    value = _markets(asked).get(symbol, ZERO)
    if value is None:
        raise NotKnown(f"what its {symbol} is worth is not known")
    return value


def _base(symbol: str) -> str:
    return symbol.partition("-")[0]


def _total(limit: Limit, asked: Asked) -> Total:
    total = asked.facts.totals.get(level_of(limit.scope))
    if total is None:
        raise NotKnown("its open orders were not read")
    return total


def _stand(limit: Limit, asked: Asked) -> Stand:
    stand = asked.facts.stands.get(level_of(limit.scope))
    if stand is None:
        raise NotKnown("no sweep has reckoned it")
    _known(stand)
    return stand


def _known(stand: Stand) -> AtRisk | None:
    if stand.unknown is not None:
        raise NotKnown(stand.unknown)
    return stand.at_risk


def _said(value: Decimal | None, at_risk: AtRisk) -> Decimal:
    if value is None:
        raise NotKnown(at_risk.unknown or "a price it rests on is not known")
    return value


def _level(limit: Limit) -> Level:
    return limit.rule.level if limit.setting is not None else level_of(limit.scope)


def _is_of_the_account(limit: Limit) -> bool:
    return _level(limit) is Level.ACCOUNT


_K = LimitKind
MEASURES: Mapping[LimitKind, Measure] = {
    _K.ORDER_VALUE: order_value,
    _K.ORDER_QUANTITY: order_quantity,
    _K.PRICE_COLLAR: price_collar,
    _K.SLIPPAGE: slippage,
    _K.POSITION: position,
    _K.OPEN_VALUE: open_value,
    _K.GROSS_EXPOSURE: gross_exposure,
    _K.NET_EXPOSURE: net_exposure,
    _K.CONCENTRATION: concentration,
    _K.GROUP_EXPOSURE: group_exposure,
    _K.OPEN_ORDERS: open_orders,
    _K.ORDERS_PER_SECOND: orders_per_second,
    _K.ORDERS_PER_MINUTE: orders_per_minute,
    _K.REPEATED_EXECUTIONS: repeated_executions,
    _K.DAILY_LOSS: daily_loss,
    _K.DRAWDOWN: drawdown,
    _K.LOSING_STREAK: losing_streak,
    _K.DATA_AGE: data_age,
    _K.CLOCK_OFFSET: clock_offset,
    _K.LEVERAGE: leverage,
}
