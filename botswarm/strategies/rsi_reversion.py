"""Bets on the way back: in when a market was sold too hard, out when it was bought too hard."""

from __future__ import annotations

from decimal import Decimal

import numpy

from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Decision,
    Many,
    Outcomes,
    Rule,
    Strategy,
    View,
    above,
    below,
    parameter,
)
from botswarm.strategies.many import KEEP

IN = "in: the market was sold too hard"
OUT = "out: the market was bought too hard"
STAYS = "stays: the RSI is between its bounds"


class RsiReversion(Strategy, name="rsi-reversion"):
    """Buys its budget when the RSI falls under one bound, sells when it rises over another."""

    length: int = parameter(default=14, at_least=2, at_most=500, words="candles in the RSI")
    enter_below: Decimal = parameter(
        default=Decimal(30),
        at_least=Decimal(1),
        at_most=Decimal(99),
        words="RSI under which it buys",
    )
    leave_above: Decimal = parameter(
        default=Decimal(60),
        at_least=Decimal(1),
        at_most=Decimal(99),
        words="RSI over which it sells",
    )

    def objection(self) -> str | None:
        if self.enter_below < self.leave_above:
            return None
        return f"enter_below {self.enter_below} is not under leave_above {self.leave_above}"

    @property
    def history(self) -> int:
        # Wilder's average never forgets; after four lengths what came before is under 2 %.
        return 5 * self.length + 1

    def decide(self, view: View) -> Decision:
        rsi = float(view.candles.rsi(self.length)[-1])
        low, high = float(self.enter_below), float(self.leave_above)
        enters, leaves = below("RSI", rsi, low), above("RSI", rsi, high)
        if rsi < low:
            return self._decision(IN, rsi, f"to leave: RSI {rsi:.1f}, needs > {high:g}", leaves)
        if rsi > high:
            return self._decision(OUT, rsi, f"to enter: RSI {rsi:.1f}, needs < {low:g}", enters)
        if view.holds:
            return self._decision(STAYS, rsi, f"to leave: RSI {rsi:.1f}, needs > {high:g}", leaves)
        return self._decision(STAYS, rsi, f"to enter: RSI {rsi:.1f}, needs < {low:g}", enters)

    def _decision(self, verdict: str, rsi: float, nearest: str, rule: Rule) -> Decision:
        return Decision(
            verdict=verdict,
            indicators={"rsi": rsi},
            nearest=nearest,
            target={IN: ALL, OUT: NOTHING}.get(verdict),
            rules=[rule],
        )

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        rsi = many.last("rsi", "length")
        low, high = many.parameter("enter_below"), many.parameter("leave_above")
        code = numpy.where(rsi < low, 0, numpy.where(rsi > high, 1, 2))
        return Outcomes(
            verdict=code, verdicts=(IN, OUT, STAYS), target=numpy.array([1.0, 0.0, KEEP])[code]
        )
