"""Earns on a market that goes nowhere: buys rest below the price, each with a sell a step above."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from botswarm.domain.order import Order, Side
from botswarm.strategies.api import Decision, Strategy, View, Wish, parameter

MARGIN = Decimal("0.001")
"""Of the budget: left free, so that rounding and fees never make a slice exceed its share."""


class Grid(Strategy, name="grid"):
    """Limit orders on fixed levels under the price at which the bot first looked.

    An empty level has a buy resting on it. Once that is filled, a sell of the same quantity
    rests one level above. What is open at the venue and what is held say where it stands, so an
    order that was refused or lost is simply wished for again.
    """

    levels: int = parameter(default=5, at_least=1, at_most=50, words="how many levels to buy on")
    step_percent: Decimal = parameter(
        default=Decimal("0.2"),
        at_least=Decimal("0.01"),
        at_most=Decimal(20),
        words="percent of the first price between two levels; less than two fees earns nothing",
    )

    def objection(self) -> str | None:
        depth = self.levels * self.step_percent
        return None if depth < 90 else f"the lowest level would be {depth} % under the first price"

    @property
    def history(self) -> int:
        return 1

    def decide(self, view: View) -> Decision:
        anchor = Decimal(view.memory["anchor"]) if "anchor" in view.memory else view.price
        step = anchor * self.step_percent / 100
        # Level n buys at prices[n] and sells at prices[n - 1]; prices[0] is the anchor.
        prices = [anchor - step * number for number in range(self.levels + 1)]
        share = view.budget * (1 - MARGIN) / self.levels
        wishes, waiting = self._wishes(view, prices, share)
        memory = None if "anchor" in view.memory else {"anchor": str(anchor)}
        shown: dict[str, Decimal | int | float] = {
            "top": prices[0],
            "bottom": prices[-1],
            "step": step,
            "buys": sum(order.side is Side.BUY for order in view.orders),
            "sells": sum(order.side is Side.SELL for order in view.orders),
        }
        return Decision(
            verdict=waiting,
            indicators=shown,
            nearest=_nearest(view, wishes),
            orders=wishes,
            memory=memory,
        )

    def _wishes(
        self, view: View, prices: Sequence[Decimal], share: Decimal
    ) -> tuple[list[Wish], str]:
        step = prices[0] - prices[1]
        buys, sells = _taken(view.orders, Side.BUY), _taken(view.orders, Side.SELL)
        free = view.position - sum((order.open_quantity for order in sells), Decimal(0))
        wishes: list[Wish] = []
        empty: list[int] = []
        for number in range(1, self.levels + 1):
            if _rests_at(buys, prices[number], step) or _rests_at(sells, prices[number - 1], step):
                continue
            empty.append(number)
        # What is held and has no sell yet gets one, the dearest levels first: they are the
        # ones a falling price fills first.
        for number in list(empty):
            quantity = share / prices[number]
            if free < quantity * Decimal("0.9"):
                break
            empty.remove(number)
            wishes.append(
                Wish(side=Side.SELL, quantity=min(free, quantity), limit_price=prices[number - 1])
            )
            free -= quantity
        wishes += [
            Wish(side=Side.BUY, quantity=share / prices[number], limit_price=prices[number])
            for number in empty
            if prices[number] < view.quote.ask
        ]
        if view.price < prices[-1] - step:
            return wishes, "waits: the price is under the lowest level"
        if view.price > prices[0] + step:
            return wishes, "waits: the price is over the highest level"
        return wishes, "trades between its levels"


def _taken(orders: Iterable[Order], side: Side) -> list[Order]:
    return [order for order in orders if order.side is side]


def _rests_at(orders: Sequence[Order], price: Decimal, step: Decimal) -> bool:
    """The venue's price steps move an order a little; another level is a whole step away."""
    return any(
        abs((order.limit_price or order.reference_price) - price) < step / 2 for order in orders
    )


def _nearest(view: View, wishes: Sequence[Wish]) -> str | None:
    resting: list[tuple[Decimal, Any]] = [
        (price, side)
        for side, price in [
            *((order.side, order.limit_price) for order in view.orders),
            *((wish.side, wish.limit_price) for wish in wishes),
        ]
        if price is not None
    ]
    if not resting:
        return None
    price, side = min(resting, key=lambda each: abs(each[0] - view.price))
    away = abs(price - view.price) / view.price * 100
    return f"its {side} at {price:.8g} is {away:.3g} % from the last price {view.price:.8g}"
