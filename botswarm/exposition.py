"""Counts and measurements as Prometheus reads them: the text format, written in one go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from botswarm.tally import TALLY, Key


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


def counted(families: Iterable[Family]) -> list[Samples]:
    """What this process and its children have counted, of every family that was."""
    by_name: dict[str, list[tuple[Key, list[float]]]] = {}
    for key, values in TALLY.totals().items():
        by_name.setdefault(key[0], []).append((key[1:], values))
    made = []
    for family in families:
        rows = sorted(by_name.get(family.name, ()))
        if family.kind == "histogram":
            observed = [(labels, Observed(values[1:], values[0])) for labels, values in rows]
            made.append(Samples(family, observed=observed))
        else:
            made.append(Samples(family, [(labels, values[0]) for labels, values in rows]))
    return made


def names_of(family: Family) -> tuple[str, ...]:
    """Under which names a family is found in Prometheus."""
    if family.kind == "histogram":
        return tuple(f"{family.name}{end}" for end in ("_bucket", "_sum", "_count"))
    return (_exposed(family),)


def _exposed(family: Family) -> str:
    if family.kind == "counter":
        return family.name.removesuffix("_total") + "_total"
    return family.name


def text(samples: Iterable[Samples]) -> bytes:
    """Families of one name, from several sources, stand together as the format wants it."""
    merged: dict[str, Samples] = {}
    for each in samples:
        before = merged.get(each.family.name)
        if before is not None:
            each = Samples(
                each.family, [*before.rows, *each.rows], [*before.observed, *each.observed]
            )
        merged[each.family.name] = each
    lines: list[str] = []
    for each in merged.values():
        if each.rows or each.observed:
            _write(each, lines)
    return ("\n".join(lines) + "\n").encode()


def _write(samples: Samples, lines: list[str]) -> None:
    family, name = samples.family, _exposed(samples.family)
    lines.append(f"# HELP {name} {_escaped(family.help)}")
    lines.append(f"# TYPE {name} {family.kind}")
    for labels, value in samples.rows:
        lines.append(f"{name}{_braced(family.label_names, labels)} {_number(value)}")
    for labels, observed in samples.observed:
        _write_histogram(family, labels, observed, lines)


def _write_histogram(
    family: Family, labels: tuple[str, ...], observed: Observed, lines: list[str]
) -> None:
    named = (*family.label_names, "le")
    total = 0.0
    bounds = [*(_number(bound) for bound in family.buckets), "+Inf"]
    for bound, count in zip(bounds, observed.counts, strict=True):
        total += count
        lines.append(f"{family.name}_bucket{_braced(named, (*labels, bound))} {_number(total)}")
    braced = _braced(family.label_names, labels)
    lines.append(f"{family.name}_sum{braced} {_number(observed.sum)}")
    lines.append(f"{family.name}_count{braced} {_number(total)}")


def _braced(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_quoted(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _quoted(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def _escaped(help: str) -> str:
    return help.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
