"""What is told of a metric: its family, declared once, and the values one scrape finds of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Family(Protocol):
    """What is said of a metric once, wherever its values come from."""

    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def label_names(self) -> tuple[str, ...]: ...
    @property
    def buckets(self) -> tuple[float, ...]: ...


class Observed(NamedTuple):
    """One set of labels of a histogram: each bucket's own count, the last without a bound."""

    counts: Sequence[float]
    sum: float


Rows = list[tuple[tuple[str, ...], float]]
"""Values by their labels."""


class Samples(NamedTuple):
    """What one scrape finds of one family."""

    family: Family
    rows: Rows = []  # noqa: RUF012 - never changed in place
    observed: Sequence[tuple[tuple[str, ...], Observed]] = ()


class Source(Protocol):
    def collect(self) -> Iterable[Samples]:
        """Asked at each scrape."""
        ...


def names_of(family: Family) -> tuple[str, ...]:
    """Under which names a family is found in Prometheus."""
    if family.kind == "histogram":
        # What falls below zero makes a sum that can shrink, which no rate can be taken of.
        is_summed = family.buckets[0] >= 0
        ends = ("_bucket", "_sum", "_count") if is_summed else ("_bucket",)
        return tuple(f"{family.name}{end}" for end in ends)
    if family.kind == "counter":
        return (family.name.removesuffix("_total") + "_total",)
    return (family.name,)
