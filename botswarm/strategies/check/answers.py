"""What a decision says, in forms that can be compared, and values to try a strategy with."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy

from botswarm.strategies.api import Decision, OfBudget, Quantity, Worth


def is_plain(memory: object) -> bool:
    try:
        json.dumps(memory, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def whole(answer: Decision) -> str:
    """All of it; the order of dicts does not matter, that of orders does."""
    return "|".join(
        [
            str(answer.verdict),
            repr(sorted((name, repr(value)) for name, value in answer.indicators.items())),
            str(answer.nearest_words),
            repr(answer.target),
            repr(sorted((name, repr(value)) for name, value in answer.targets.items())),
            repr(list(answer.orders)),
            repr(list(answer.cancels)),
            repr(answer.memory),
        ]
    )


def unknown_in(answer: Decision) -> list[str]:
    """Names of what it says that is no number."""
    missing = [
        name
        for name, value in answer.indicators.items()
        if not isinstance(value, str) and not math.isfinite(value)
    ]
    amounts = [amount_of(each) for each in (answer.target, *answer.targets.values())]
    is_lost = any(isinstance(each, Decimal) and not each.is_finite() for each in amounts)
    return [*missing, "target"] if is_lost else missing


def amount_of(target: object) -> object:
    match target:
        case OfBudget(fraction=amount) | Worth(notional=amount) | Quantity(quantity=amount):
            return amount
        case _:
            return None


def fraction_of(answer: Decision) -> float | None:
    return float(answer.target.fraction) if isinstance(answer.target, OfBudget) else None


def some_value(told: Any, random: numpy.random.Generator) -> Any:
    if told.choices:
        return str(random.choice(list(told.choices)))
    if isinstance(told.default, bool):
        return bool(random.integers(2))
    if isinstance(told.default, str):
        return None
    # Around the default: the ends of the range make few of the combinations that people use.
    value = float(told.default) * random.uniform(0.3, 2.5)
    low = float(told.at_least) if told.at_least is not None else value
    high = float(told.at_most) if told.at_most is not None else value
    value = min(max(value, low), high)
    return typed_as(round(value, 3), told.default)


def typed_as(value: object, default: object) -> Any:
    if isinstance(default, int) and not isinstance(default, bool):
        return int(float(str(value)))
    return Decimal(str(value)) if isinstance(default, Decimal) else value


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
