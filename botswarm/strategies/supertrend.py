"""Follows the trend with a stop that moves along: in while it is below the price."""

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

IN = "in: the price rises"
OUT = "out: the price falls"


class Supertrend(Strategy, name="supertrend"):
    """Holds its budget while the Supertrend line runs under closing prices."""

    length: int = parameter(
        default=10, at_least=2, at_most=200, words="candles in the average range"
    )
    width: Decimal = parameter(
        default=Decimal(3),
        at_least=Decimal("0.1"),
        at_most=Decimal(20),
        words="average ranges between the price and the line",
    )

    @property
    def history(self) -> int:
        # The line remembers where it last turned; it must have had the time to turn.
        return 10 * self.length + 1

    def decide(self, view: View) -> Decision:
        found = view.candles.supertrend(self.length, float(self.width))
        line, close = float(found.line[-1]), float(view.candles.close[-1])
        shown = {"line": line, "close": close}
        # Where nothing has ever moved the line lies on the price, and no trend is to be followed.
        if found.direction[-1] > 0 and close > line:
            leaves = below("close", close, line)
            return Decision(verdict=IN, indicators=shown, target=ALL, rules=[leaves])
        enters = above("close", close, line)
        return Decision(verdict=OUT, indicators=shown, target=NOTHING, rules=[enters])

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        found = "supertrend", "length", "width"
        is_over = float(many.candles.close[-1]) > many.last(*found, line="line")
        rises = (many.last(*found, line="direction") > 0) & is_over
        return Outcomes(
            verdict=numpy.where(rises, 0, 1),
            verdicts=(IN, OUT),
            target=numpy.where(rises, 1.0, 0.0),
        )
