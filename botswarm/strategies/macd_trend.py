"""Follows the trend while it gains speed: in while the MACD is above its signal."""

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

IN = "in: the MACD is above its signal"
OUT = "out: the MACD is below its signal"
WAITS = "out: the MACD is above its signal and below zero"


class MacdTrend(Strategy, name="macd-trend"):
    """Holds its budget while the MACD line is above its signal."""

    fast: int = parameter(default=12, at_least=2, at_most=200, words="candles in the fast average")
    slow: int = parameter(default=26, at_least=3, at_most=400, words="candles in the slow average")
    signal: int = parameter(
        default=9, at_least=2, at_most=200, words="candles in the average of their difference"
    )
    over_zero: bool = parameter(
        default=False, words="true: it buys only where the fast average is above the slow one too"
    )

    def objection(self) -> str | None:
        return None if self.fast < self.slow else f"fast {self.fast} is not under slow {self.slow}"

    @property
    def history(self) -> int:
        # Of what was before, an exponential average keeps under 0.1 % after four lengths.
        return 4 * self.slow + self.signal

    def decide(self, view: View) -> Decision:
        lines = view.candles.macd(self.fast, self.slow, self.signal)
        line, signal = float(lines.line[-1]), float(lines.signal[-1])
        shown = {"macd": line, "signal": signal}
        rules = [above("MACD", line, signal)]
        if self.over_zero:
            rules.append(above("MACD", line, 0))
        if line > signal and (line > 0 or not self.over_zero):
            leaves = [below("MACD", line, signal)]
            if self.over_zero:
                leaves.append(below("MACD", line, 0))
            return Decision(verdict=IN, indicators=shown, target=ALL, rules=leaves)
        verdict = WAITS if line > signal else OUT
        return Decision(verdict=verdict, indicators=shown, target=NOTHING, rules=rules)

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        names = ("fast", "slow", "signal")
        line, signal = (
            many.last("macd", *names, line="line"),
            many.last("macd", *names, line="signal"),
        )
        is_held_back = many.parameter("over_zero") & ~(line > 0)
        code = numpy.where(line > signal, numpy.where(is_held_back, 2, 0), 1)
        return Outcomes(
            verdict=code, verdicts=(IN, OUT, WAITS), target=numpy.array([1.0, 0.0, 0.0])[code]
        )
