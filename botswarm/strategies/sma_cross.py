"""Follows the trend: in while the fast moving average is above the slow one."""

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

IN = "in: the fast average is above the slow one"
OUT = "out: the fast average is below the slow one"
STAYS = "stays: the averages are too close to each other"


class SmaCross(Strategy, name="sma-cross"):
    """Holds its budget while the fast average of closing prices is above the slow one."""

    fast: int = parameter(default=10, at_least=1, at_most=500, words="candles in the fast average")
    slow: int = parameter(default=30, at_least=2, at_most=1000, words="candles in the slow average")
    margin_percent: Decimal = parameter(
        default=Decimal(0),
        at_least=Decimal(0),
        at_most=Decimal(10),
        words="percent of the slow average by which the fast one must be above or below it; "
        "in between all stays as it is",
    )

    def objection(self) -> str | None:
        return None if self.fast < self.slow else f"fast {self.fast} is not under slow {self.slow}"

    @property
    def history(self) -> int:
        return self.slow

    def decide(self, view: View) -> Decision:
        fast = float(view.candles.sma(self.fast)[-1])
        slow = float(view.candles.sma(self.slow)[-1])
        margin = slow * float(self.margin_percent) / 100
        ahead = fast - slow
        shown = {"fast": fast, "slow": slow, "above": ahead}
        enters, leaves = above("fast", fast, slow + margin), below("fast", fast, slow - margin)
        if abs(ahead) <= margin:
            return Decision(
                verdict=STAYS,
                indicators=shown,
                nearest=f"fast {fast:.8g} is {abs(ahead):.3g} from slow {slow:.8g}, "
                f"needs more than {margin:.3g}",
                rules=[enters, leaves],
            )
        if ahead > 0:
            return Decision(
                verdict=IN,
                indicators=shown,
                nearest=f"to leave: fast {fast:.8g} is {ahead:.3g} above slow {slow:.8g}",
                target=ALL,
                rules=[leaves],
            )
        return Decision(
            verdict=OUT,
            indicators=shown,
            nearest=f"to enter: fast {fast:.8g} is {-ahead:.3g} below slow {slow:.8g}",
            target=NOTHING,
            rules=[enters],
        )

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        fast, slow = many.last("sma", "fast"), many.last("sma", "slow")
        margin = slow * many.parameter("margin_percent") / 100
        ahead = fast - slow
        code = numpy.where(numpy.abs(ahead) <= margin, 2, numpy.where(ahead > 0, 0, 1))
        return Outcomes(
            verdict=code, verdicts=(IN, OUT, STAYS), target=numpy.array([1.0, 0.0, KEEP])[code]
        )
