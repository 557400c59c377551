"""Buys strength: in above the range of some candles, out below the range of fewer."""

from __future__ import annotations

import numpy

from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Decision,
    Many,
    Outcomes,
    Strategy,
    View,
    above,
    below,
    parameter,
)
from botswarm.strategies.many import KEEP

IN = "in: the price is above its range"
OUT = "out: the price is below its nearer range"
STAYS = "stays: the price is within its range"


class Breakout(Strategy, name="breakout"):
    """Buys over the highest price of some candles, sells under the lowest of fewer."""

    enter_length: int = parameter(
        default=20, at_least=2, at_most=1000, words="candles whose highest price must be passed"
    )
    leave_length: int = parameter(
        default=10, at_least=1, at_most=1000, words="candles whose lowest price must hold"
    )

    def objection(self) -> str | None:
        if self.leave_length <= self.enter_length:
            return None
        return f"leave_length {self.leave_length} is over enter_length {self.enter_length}"

    @property
    def history(self) -> int:
        return self.enter_length

    def decide(self, view: View) -> Decision:
        price = float(view.price)
        top = float(view.candles.donchian(self.enter_length).upper[-1])
        bottom = float(view.candles.donchian(self.leave_length).lower[-1])
        shown = {"top": top, "bottom": bottom}
        enters, leaves = above("price", price, top), below("price", price, bottom)
        if price > top:
            return Decision(verdict=IN, indicators=shown, target=ALL, rules=[leaves])
        if price < bottom:
            return Decision(verdict=OUT, indicators=shown, target=NOTHING, rules=[enters])
        return Decision(verdict=STAYS, indicators=shown, rules=[leaves if view.holds else enters])

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        top = many.last("donchian", "enter_length", line="upper")
        bottom = many.last("donchian", "leave_length", line="lower")
        code = numpy.where(many.price > top, 0, numpy.where(many.price < bottom, 1, 2))
        return Outcomes(
            verdict=code, verdicts=(IN, OUT, STAYS), target=numpy.array([1.0, 0.0, KEEP])[code]
        )
