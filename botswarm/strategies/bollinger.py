"""Bets on the way back to the average: in far below it, out once it is reached."""

from __future__ import annotations

from decimal import Decimal

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

IN = "in: the price is below its lower band"
OUT = "out: the price is back at its average"
STAYS = "stays: the price is between its lower band and its average"


class BollingerReversion(Strategy, name="bollinger-reversion"):
    """Buys under the lower Bollinger band, sells over the average in the middle."""

    length: int = parameter(default=20, at_least=2, at_most=500, words="candles in the average")
    width: Decimal = parameter(
        default=Decimal(2),
        at_least=Decimal("0.1"),
        at_most=Decimal(10),
        words="standard deviations between the average and the lower band",
    )

    @property
    def history(self) -> int:
        return self.length

    def decide(self, view: View) -> Decision:
        price = float(view.price)
        bands = view.candles.bollinger(self.length, float(self.width))
        lower, middle = float(bands.lower[-1]), float(bands.middle[-1])
        shown = {"lower": lower, "average": middle}
        enters, leaves = below("price", price, lower), above("price", price, middle)
        if price < lower:
            return Decision(verdict=IN, indicators=shown, target=ALL, rules=[leaves])
        if price > middle:
            return Decision(verdict=OUT, indicators=shown, target=NOTHING, rules=[enters])
        return Decision(verdict=STAYS, indicators=shown, rules=[leaves if view.holds else enters])

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        lower = many.last("bollinger", "length", "width", line="lower")
        middle = many.last("bollinger", "length", "width", line="middle")
        code = numpy.where(many.price < lower, 0, numpy.where(many.price > middle, 1, 2))
        return Outcomes(
            verdict=code, verdicts=(IN, OUT, STAYS), target=numpy.array([1.0, 0.0, KEEP])[code]
        )
