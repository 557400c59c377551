"""Lives on the spread: a buy below the middle and a sell above it, both resting."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from botswarm.domain.order import Order, Side
from botswarm.strategies.api import Decision, Strategy, Trigger, View, Wish, parameter


class MarketMaker(Strategy, name="market-maker"):
    """Rests post-only orders on both sides of the middle, shifted by what it holds.

    The more it holds over its goal, the lower both prices, so that it rather sells; the less, the
    higher. An order that was left behind by the price rests until it is filled: nothing cancels
    it, and it counts against ``quotes``.
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
        wishes = []
        if self._has_room(view.orders, Side.BUY, bid, half):
            wishes.append(Wish(side=Side.BUY, quantity=size, limit_price=bid, post_only=True))
        free = view.position - sum(
            (order.open_quantity for order in view.orders if order.side is Side.SELL), Decimal(0)
        )
        if free * middle > view.budget * self.size_percent / 200 and self._has_room(
            view.orders, Side.SELL, ask, half
        ):
            quantity = min(free, size)
            wishes.append(Wish(side=Side.SELL, quantity=quantity, limit_price=ask, post_only=True))
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

    def _has_room(self, orders: Sequence[Order], side: Side, price: Decimal, half: Decimal) -> bool:
        """Neither too many rest there already, nor one close to where this would."""
        own = [order for order in orders if order.side is side]
        return len(own) < self.quotes and not any(
            abs((order.limit_price or order.reference_price) - price) < half / 2 for order in own
        )


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
