"""Keeps a portfolio at its weights: sells what grew, buys what shrank."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from botswarm.strategies.api import (
    Decision,
    Needs,
    OfBudget,
    Other,
    Strategy,
    Trigger,
    View,
    above,
    below,
    parameter,
)

WEIGHT = r"([A-Z0-9]{1,20}-[A-Z0-9]{1,20})=([0-9]{1,3}(?:\.[0-9]{1,6})?)"
LOOKS_EVERY_S = 30
OTHERS_MAX = 20
ORDERS_MUST_END = "its orders must come to their end"


class Rebalance(Strategy, name="rebalance"):
    """Holds fixed shares of its budget in several markets, and trades when one has drifted.

    The shares are of the budget, not of what the portfolio is worth: what it earns is taken out,
    what it loses is put in again.
    """

    weight: Decimal = parameter(
        default=Decimal(40),
        at_least=Decimal(0),
        at_most=Decimal(100),
        words="percent of the budget in the bot's own market",
    )
    others: str = parameter(
        default="ETH-USDT=30",
        words="percent of the budget in further markets, such as ETH-USDT=30,SOL-USDT=20",
    )
    drift_percent: Decimal = parameter(
        default=Decimal(10),
        at_least=Decimal(1),
        at_most=Decimal(100),
        words="percent of its own share by which one may be off before all are put right",
    )

    def objection(self) -> str | None:
        parts = self.others.split(",")
        found = [re.fullmatch(WEIGHT, part.strip()) for part in parts]
        if not all(found) or len(parts) > OTHERS_MAX:
            return (
                f"others {self.others!r} makes no sense: write ETH-USDT=30,SOL-USDT=20, "
                f"at most {OTHERS_MAX} of them"
            )
        if len(self._weights()) < len(parts):
            return f"others {self.others!r} names a market twice"
        total = self.weight + sum(self._weights().values())
        return f"the weights come to {total} %, over 100" if total > 100 else None

    @property
    def history(self) -> int:
        return 0

    def needs(self) -> Needs:
        return Needs(others=tuple(self._weights()))

    def trigger(self) -> Trigger:
        return Trigger.every(LOOKS_EVERY_S)

    def decide(self, view: View) -> Decision:
        weights = {view.symbol: self.weight} | {
            symbol: weight for symbol, weight in self._weights().items() if symbol in view.others
        }
        if view.orders or any(each.orders for each in view.others.values()):
            return Decision(verdict="waits for its orders", nearest=ORDERS_MUST_END)
        drifts = {
            symbol: _drift(view if symbol == view.symbol else view.others[symbol], view, weight)
            for symbol, weight in weights.items()
        }
        most = self.drift_percent
        rules = [above(f"drift of {name} %", each, most) for name, each in drifts.items()]
        shown = {f"drift_{name}": each for name, each in drifts.items()}
        if not any(rule.passed for rule in rules):
            return Decision(
                verdict="stays: all are near their shares", indicators=shown, rules=rules
            )
        return Decision(
            verdict="puts the shares right",
            indicators=shown,
            targets={name: OfBudget(weight / 100) for name, weight in weights.items()},
            rules=[below(f"drift of {name} %", each, most) for name, each in drifts.items()],
        )

    def _weights(self) -> Mapping[str, Decimal]:
        return {
            match[1]: Decimal(match[2])
            for part in self.others.split(",")
            if (match := re.fullmatch(WEIGHT, part.strip()))
        }


def _drift(place: View | Other, view: View, weight: Decimal) -> Decimal:
    """Percent of its share, whichever way; of the budget where the share is nothing."""
    share = view.budget * weight / 100
    worth = place.position * place.price
    return abs(worth - share) / (share or view.budget) * 100
