"""Lives on the spread: a buy below the middle and a sell above it, both resting."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from botswarm.domain.order import Order, Side
from botswarm.strategies.api import Decision, Strategy, Trigger, View, Wish, parameter


class MarketMaker(Strategy, name="market-maker"):
    """Rests post-only orders on both sides of the middle, shifted by what it holds.

    The more it holds over its goal, the lower both prices, so that it rather sells; the less, the
    higher. When a side is full and none of its orders rests near the price any more, the one that
    is farthest from it is replaced.
    """

    half_spread_percent: Decimal = parameter(
        default=Decimal("0.2"),
        at_least=Decimal("0.001"),
        at_most=Decimal(20),
        words="percent between the middle and each order; less than a maker's fee earns nothing",
    )
    size_percent: Decimal = parameter(
        default=Decimal(10),
        at_least=Decimal("0.1"),
        at_most=Decimal(50),
        words="percent of the budget in each order",
    )
    goal_percent: Decimal = parameter(
        default=Decimal(50),
        at_least=Decimal(1),
        at_most=Decimal(99),
        words="percent of the budget that it wants to hold",
    )
    skew: Decimal = parameter(
        default=Decimal(1),
        at_least=Decimal(0),
        at_most=Decimal(10),
        words="half spreads by which both prices move when it holds nothing, or twice its goal",
    )
    quotes: int = parameter(
        default=2, at_least=1, at_most=20, words="how many of its orders may rest on each side"
    )

    @property
    def history(self) -> int:
        return 0

    def trigger(self) -> Trigger:
        return Trigger.on_quote()

    def decide(self, view: View) -> Decision:
        quote = view.quote
        middle = (quote.bid + quote.ask) / 2
        half = middle * self.half_spread_percent / 100
        goal = view.budget * self.goal_percent / 100
        over = max(Decimal(-1), min(Decimal(1), (view.position * middle - goal) / goal))
        fair = middle - self.skew * half * over
        # Never through the market: it would be refused, or filled as a taker.
        bid, ask = min(fair - half, quote.bid), max(fair + half, quote.ask)
        size = view.budget * self.size_percent / 100 / middle
        least = view.budget * self.size_percent / 200 / middle
        wishes = []
        if self._is_missing(view.orders, Side.BUY, bid, half):
            old = self._left_behind(view.orders, Side.BUY, bid)
            wishes.append(_quote(Side.BUY, size, bid, old))
        if self._is_missing(view.orders, Side.SELL, ask, half):
            old = self._left_behind(view.orders, Side.SELL, ask)
            selling = sum((each.open_quantity for each in _of(view.orders, Side.SELL)), Decimal(0))
            free = view.position - selling + (old.open_quantity if old else 0)
            if free > least:
                wishes.append(_quote(Side.SELL, min(free, size), ask, old))
        resting = {side: sum(order.side is side for order in view.orders) for side in Side}
        return Decision(
            verdict="quotes both sides" if view.holds else "quotes to buy: it holds nothing",
            indicators={
                "middle": middle,
                "bid": bid,
                "ask": ask,
                "over_goal": over,
                "buys": resting[Side.BUY],
                "sells": resting[Side.SELL],
            },
            nearest=_nearest(view, wishes),
            orders=wishes,
        )

    def _is_missing(
        self, orders: Sequence[Order], side: Side, price: Decimal, half: Decimal
    ) -> bool:
        """None rests close to where this one would; what is ending is as good as gone."""
        return not any(_away(order, price) < half / 2 for order in _staying(orders, side))

    def _left_behind(self, orders: Sequence[Order], side: Side, price: Decimal) -> Order | None:
        """The farthest of a side that is full."""
        own = _staying(orders, side)
        if len(own) < self.quotes:
            return None
        return max(own, key=lambda order: _away(order, price))


def _quote(side: Side, quantity: Decimal, price: Decimal, old: Order | None) -> Wish:
    return Wish(
        side=side,
        quantity=quantity,
        limit_price=price,
        post_only=True,
        replaces=None if old is None else old.id,
    )


def _of(orders: Sequence[Order], side: Side) -> list[Order]:
    return [order for order in orders if order.side is side]


def _staying(orders: Sequence[Order], side: Side) -> list[Order]:
    return [order for order in _of(orders, side) if not order.is_ending]


def _away(order: Order, price: Decimal) -> Decimal:
    return abs((order.limit_price or order.reference_price) - price)


def _nearest(view: View, wishes: Sequence[Wish]) -> str | None:
    resting = [
        *((order.side, order.limit_price) for order in view.orders),
        *((wish.side, wish.limit_price) for wish in wishes),
    ]
    priced = [(price, side) for side, price in resting if price is not None]
    if not priced:
        return None
    price, side = min(priced, key=lambda each: abs(each[0] - view.price))
    away = abs(price - view.price) / view.price * 100
    return f"its {side} at {price:.8g} is {away:.3g} % from the last price {view.price:.8g}"
