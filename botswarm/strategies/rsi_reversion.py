"""Bets on the way back: in when a market was sold too hard, out when it was bought too hard."""

from __future__ import annotations

from decimal import Decimal

from botswarm.strategies.api import ALL, NOTHING, Decision, Strategy, View, parameter


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
        shown = {"rsi": rsi}
        if rsi < low:
            return Decision(
                verdict="in: the market was sold too hard",
                indicators=shown,
                nearest=f"to leave: RSI {rsi:.1f}, needs > {high:g}",
                target=ALL,
            )
        if rsi > high:
            return Decision(
                verdict="out: the market was bought too hard",
                indicators=shown,
                nearest=f"to enter: RSI {rsi:.1f}, needs < {low:g}",
                target=NOTHING,
            )
        wait = f"to leave: RSI {rsi:.1f}, needs > {high:g}"
        if view.position <= 0:
            wait = f"to enter: RSI {rsi:.1f}, needs < {low:g}"
        return Decision(
            verdict="stays: the RSI is between its bounds", indicators=shown, nearest=wait
        )
