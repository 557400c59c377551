"""The conditions of a verdict, each with how far it is from turning: what ``bot why`` answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Number = float | Decimal | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition that was looked at: "RSI 31.2, needs < 30"."""

    words: str
    """What was looked at: "RSI"."""
    passed: bool
    value: Number
    needs: str
    """What it must be: "< 30"."""
    distance: float
    """How far the value is from the place where this turns, as a share of that place."""

    def __str__(self) -> str:
        return f"{self.words} {shown(self.value)}, needs {self.needs}"

    def plain(self) -> dict[str, Any]:
        """As the ledger keeps it: JSON knows neither Decimal nor NaN."""
        value, distance = float(self.value), float(self.distance)
        return {
            "words": self.words,
            "passed": bool(self.passed),
            "value": value if math.isfinite(value) else None,
            "needs": self.needs,
            "distance": distance if math.isfinite(distance) else None,
        }


def below(words: str, value: Number, limit: Number) -> Rule:
    """Passed while the value is under the limit."""
    return Rule(
        words=words,
        passed=bool(value < limit),
        value=value,
        needs=f"< {shown(limit)}",
        distance=_distance(value, limit),
    )


def above(words: str, value: Number, limit: Number) -> Rule:
    """Passed while the value is over the limit."""
    return Rule(
        words=words,
        passed=bool(value > limit),
        value=value,
        needs=f"> {shown(limit)}",
        distance=_distance(value, limit),
    )


def nearest_miss(rules: Iterable[Rule]) -> Rule | None:
    """Of the rules that failed, the one with the smallest relative distance."""
    failed = [rule for rule in rules if not rule.passed]
    return min(failed, key=_order, default=None)


def shown(number: Number) -> str:
    """For people: seven digits are more than anybody compares."""
    return f"{float(number):.7g}"


def _order(rule: Rule) -> float:
    return rule.distance if math.isfinite(rule.distance) else math.inf


def _distance(value: Number, limit: Number) -> float:
    """Of the limit's size; where that is nothing, of the value's: then it is all of it."""
    off, size = abs(float(value) - float(limit)), abs(float(limit)) or abs(float(value))
    return off / size if size else 0.0
