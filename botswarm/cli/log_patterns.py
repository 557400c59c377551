"""What should not stand in the logs, in one table, and how many lines of it are too many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
SAMPLE_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    name: str
    what: str
    fits: Callable[[Record], bool]
    warn_above: int
    fail_above: int
    cure: str


def _level(*levels: str) -> Callable[[Record], bool]:
    return lambda record: record.get("level") in levels


def _says(pattern: str, *levels: str) -> Callable[[Record], bool]:
    compiled = re.compile(pattern, re.I)

    def fits(record: Record) -> bool:
        if levels and record.get("level") not in levels:
            return False
        said = f"{record.get('message', '')} {record.get('error', '')}"
        return compiled.search(said) is not None

    return fits


BAD = ("warning", "error", "critical")

PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        name="fatal",
        what="a process could not go on",
        fits=_level("critical"),
        warn_above=0,
        fail_above=0,
        cure="botswarm logs search --level critical",
    ),
    Pattern(
        name="errors",
        what="something failed, and says so",
        fits=_level("error"),
        warn_above=0,
        fail_above=20,
        cure="botswarm logs search --level error",
    ),
    Pattern(
        name="tracebacks",
        what="something nobody had foreseen",
        fits=lambda record: (
            "traceback" in record or str(record.get("message", "")).startswith("Traceback ")
        ),
        warn_above=0,
        fail_above=3,
        cure="botswarm logs search traceback --json shows them whole",
    ),
    Pattern(
        name="order-failures",
        what="orders that were refused, or left as they stand",
        fits=_says(
            r"\border\b.*(left as it stands|not cancelled|failed|rejected)|^refused |in doubt",
            *BAD,
        ),
        warn_above=0,
        fail_above=20,
        cure="botswarm order list --state refused; botswarm order why ID",
    ),
    Pattern(
        name="rate-limits",
        what="a venue wants fewer requests",
        fits=_says(r"rate.?limit|too many requests|\b(429|418)\b|banned", *BAD),
        warn_above=0,
        fail_above=20,
        cure="botswarm account limits",
    ),
    Pattern(
        name="lost-connections",
        what="a server was away, or sent us away",
        fits=_says(
            r"no longer leading|cannot (reach|be reached)|connection (lost|refused|reset|closed)"
            r"|does not answer|unreachable",
            *BAD,
        ),
        warn_above=2,
        fail_above=50,
        cure="botswarm doctor; botswarm health --detailed",
    ),
    Pattern(
        name="restarts",
        what="a process ended and was started again",
        fits=_says(r"starting it again in"),
        warn_above=0,
        fail_above=10,
        cure="botswarm ps; botswarm logs tail --process NAME",
    ),
    Pattern(
        name="warnings",
        what="worth a look when there are many",
        fits=_level("warning"),
        warn_above=100,
        fail_above=10_000,
        cure="botswarm logs search --level warning",
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    pattern: Pattern
    count: int
    sample: str

    @property
    def status(self) -> str:
        if self.count > self.pattern.fail_above:
            return "fail"
        return "warn" if self.count > self.pattern.warn_above else "ok"


@dataclass(slots=True)
class Counts:
    lines: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> list[Found]:
        return [
            Found(each, self.counts.get(each.name, 0), self.samples.get(each.name, ""))
            for each in PATTERNS
        ]


def judge(records: Iterable[Record]) -> Counts:
    """Every pattern's lines counted, in one pass; a line may fit several."""
    counts = Counts()
    for record in records:
        counts.lines += 1
        for pattern in PATTERNS:
            if pattern.fits(record):
                counts.counts[pattern.name] = counts.counts.get(pattern.name, 0) + 1
                sample = " ".join(str(record.get("message", "")).split())
                counts.samples.setdefault(pattern.name, sample[:SAMPLE_SHOWN])
    return counts
