"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    kind: str
    """One of ``KINDS``."""
    words: str
    cure: str
    line: int | None = None
    """Of the strategy's file, where one can be named."""
    is_error: bool = True
    """A warning is worth a look and keeps nothing from running."""

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Finding:
        return cls(**plain)


KINDS: Mapping[str, str] = {
    "unusable": "it cannot be loaded or made",
    "look-ahead": "it decides differently when only the future is another",
    "impure": "it reads, writes, asks the time, rolls dice, or keeps something in between",
    "history": "it asks for fewer candles than it looks at",
    "not a number": "it fails, or says NaN, where prices stand still or volumes are zero",
    "disagreement": "decide_many answers otherwise than decide",
    "error": "it raises with parameters that are within their bounds",
    "nonsense": "its answer makes no sense, or cannot be kept",
    "slow": "it takes long, or for ever",
    "unexplained": "bot why has little to say about its decisions",
}


def sorted_out(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Each once, by line; errors first among those without one."""
    once = {(each.kind, each.words, each.line): each for each in findings}
    return sorted(
        once.values(), key=lambda each: (not each.is_error, each.line or 10**6, each.kind)
    )
