"""Buys the same amount again and again, whatever the price: cost averaging."""

from __future__ import annotations

from decimal import Decimal

from botswarm.domain.order import Side
from botswarm.strategies.api import (
    NOTHING,
    Decision,
    Strategy,
    Trigger,
    View,
    Wish,
    above,
    below,
    parameter,
)
from botswarm.strategies.rules import Rule

LOOKS_EVERY_S = 10


class Dca(Strategy, name="dca"):
    """Buys for a fixed amount at fixed intervals until its budget is spent.

    The intervals are those of the exchange's clock, from one purchase to the next. One that was
    missed, because the swarm stood still, is not made up for.
    """

    amount: Decimal = parameter(
        default=Decimal(20),
        at_least=Decimal(1),
        at_most=Decimal(10**9),
        words="how much each purchase is worth, in the quote asset",
    )
    every_minutes: int = parameter(
        default=1440, at_least=1, at_most=525_600, words="minutes between two purchases"
    )
    under_average_percent: Decimal = parameter(
        default=Decimal(0),
        at_least=Decimal(0),
        at_most=Decimal(90),
        words="it waits until the price is so many percent under what it paid on average; "
        "0: it does not wait",
    )
    profit_percent: Decimal = parameter(
        default=Decimal(0),
        at_least=Decimal(0),
        at_most=Decimal(10_000),
        words="percent over what it paid on average at which it sells all; 0: it never sells",
    )

    @property
    def history(self) -> int:
        return 0

    def trigger(self) -> Trigger:
        return Trigger.every(LOOKS_EVERY_S)

    def decide(self, view: View) -> Decision:
        # What commissions left over after a sale is nothing that was bought to be kept.
        is_dust = view.position * view.price * 2 < self.amount
        paid = None if is_dust else view.average_price
        due_ms = int(view.memory.get("due_ms", view.now_ms))
        minutes = round(Decimal(max(0, due_ms - view.now_ms)) / 60_000, 3)
        shown: dict[str, Decimal | int | float] = {"minutes_left": minutes}
        rules: list[Rule] = []
        if paid is not None:
            shown["paid"] = paid
            if self.profit_percent:
                goal = paid * (1 + self.profit_percent / 100)
                if view.quote.bid > goal:
                    return Decision(
                        verdict="out: the profit is large enough",
                        indicators=shown,
                        nearest=self._next_words,
                        target=NOTHING,
                        memory={"due_ms": view.now_ms + self._pause_ms},
                    )
                rules.append(above("bid", view.quote.bid, goal))
        if due_ms > view.now_ms:
            return Decision(
                verdict="waits for its time",
                indicators=shown,
                nearest=f"the next purchase is in {minutes:f} minutes",
                rules=rules,
            )
        if view.orders:
            return Decision(
                verdict="waits for its order",
                indicators=shown,
                nearest="its order must come to its end",
            )
        if paid is not None and self.under_average_percent:
            most = paid * (1 - self.under_average_percent / 100)
            rules = [below("ask", view.quote.ask, most)]
            if view.quote.ask >= most:
                return Decision(verdict="waits for its price", indicators=shown, rules=rules)
        left = view.budget - max(Decimal(0), view.position) * view.quote.ask
        if left < self.amount:
            shown["budget_left"] = left
            rules = [above("budget left", left, self.amount)]
            return Decision(verdict="done: its budget is spent", indicators=shown, rules=rules)
        wish = Wish(side=Side.BUY, quantity=self.amount / view.quote.ask)
        return Decision(
            verdict="buys: its time has come",
            indicators=shown,
            nearest=self._next_words,
            orders=[wish],
            memory={"due_ms": view.now_ms + self._pause_ms},
        )

    @property
    def _pause_ms(self) -> int:
        return self.every_minutes * 60_000

    @property
    def _next_words(self) -> str:
        return f"the next purchase is {self.every_minutes} minutes later"
