"""Protections: pauses after losses, and stops that guard positions; their kinds and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from botswarm.errors import Refused

Unit = Literal["count", "time", "percent", "quote"]
BELOW: Mapping[Unit, Decimal] = {
    "count": Decimal(10_000),
    "time": Decimal(1_000 * 86_400),
    "percent": Decimal(100),
    "quote": Decimal(10) ** 18,
}
"""What nobody can mean, and no clock can add: each sweep would fail by it."""


class ProtectionKind(StrEnum):
    COOL_DOWN = "cool_down"
    STOP_GUARD = "stop_guard"
    LOW_PROFIT = "low_profit"
    MAX_DRAWDOWN = "max_drawdown"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    unit: Unit
    words: str
    default: Decimal | None
    """None where a person has to say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    words: str
    parameters: Mapping[str, Needed]
    keeps_stops: bool = False
    """It keeps stops at the venue; the others pause trading."""


def _time(words: str, **given: float) -> Needed:
    seconds = Decimal(str(timedelta(**given).total_seconds()))
    return Needed(unit="time", words=words, default=seconds)


def _count(words: str, default: int) -> Needed:
    return Needed(unit="count", words=words, default=Decimal(default))


_PERCENT = Needed(unit="percent", words="how far from the price", default=None)
KINDS: Mapping[ProtectionKind, Kind] = {
    ProtectionKind.COOL_DOWN: Kind(
        words="after losses, no new positions in that market for a while",
        parameters={
            "losses": _count("so many losing orders", 1),
            "within": _time("within so long", hours=1),
            "pause": _time("and then so long nothing new, from the last loss on", minutes=5),
        },
    ),
    ProtectionKind.STOP_GUARD: Kind(
        words="after several stop-losses, no new positions in the whole scope",
        parameters={
            "stops": _count("so many stops that lost", 4),
            "within": _time("within so long", hours=1),
            "pause": _time("and then so long nothing new", hours=1),
        },
    ),
    ProtectionKind.LOW_PROFIT: Kind(
        words="no new positions in a market that has not earned enough",
        parameters={
            "trades": _count("by so many closing orders at least", 10),
            "within": _time("within so long", days=1),
            "percent": Needed(
                unit="percent", words="less than this of what was closed", default=Decimal(0)
            ),
            "pause": _time("and then so long nothing new", hours=1),
        },
    ),
    ProtectionKind.MAX_DRAWDOWN: Kind(
        words="after a fall of what was realised, no new positions in the whole scope",
        parameters={
            "loss": Needed(unit="quote", words="so much below its peak", default=None),
            "trades": _count("by so many closing orders at least", 1),
            "within": _time("within so long", days=1),
            "pause": _time("and then so long nothing new", hours=1),
        },
    ),
    ProtectionKind.STOP_LOSS: Kind(
        words="a stop order below what a position was paid for on average",
        parameters={"percent": _PERCENT},
        keeps_stops=True,
    ),
    ProtectionKind.TRAILING_STOP: Kind(
        words="a stop order below the best price since the position was opened; it only follows",
        parameters={"percent": _PERCENT},
        keeps_stops=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    scope: str
    kind: ProtectionKind
    parameters: Mapping[str, Decimal] = field(default_factory=dict)
    """Times are seconds."""

    @classmethod
    def of(cls, scope: str, kind: ProtectionKind, said: Mapping[str, Decimal]) -> Protection:
        """With the defaults of what is not said; raises Refused for what makes no sense."""
        needed = KINDS[kind].parameters
        strange = sorted(set(said) - set(needed))
        if strange:
            raise Refused(
                f"{kind} has no parameter {strange[0]!r}", cure=f"it has {', '.join(needed)}"
            )
        values: dict[str, Decimal] = {}
        for name, each in needed.items():
            value = said.get(name, each.default)
            if value is None:
                raise Refused(f"{kind} needs {name}: {each.words}", cure=f"write {name}=…")
            _check(kind, name, each.unit, value)
            values[name] = value
        return cls(scope=scope, kind=kind, parameters=values)

    @property
    def is_of_stops(self) -> bool:
        return KINDS[self.kind].keeps_stops

    def time(self, name: str) -> timedelta:
        return timedelta(seconds=float(self.parameters[name]))

    def count(self, name: str) -> int:
        return int(self.parameters[name])


def _check(kind: ProtectionKind, name: str, unit: Unit, value: Decimal) -> None:
    is_loose = kind is ProtectionKind.LOW_PROFIT and name == "percent"
    is_bounded = value.is_finite() and abs(value) < BELOW[unit] and (value > 0 or is_loose)
    if is_bounded and (unit != "count" or value == int(value)):
        return
    raise Refused(
        f"{name} of {kind} cannot be {value}",
        cure="write more than 0, a percentage below 100, a time below 1000d, and whole numbers "
        "for counts",
    )
