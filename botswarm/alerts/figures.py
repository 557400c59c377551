"""What processes show on /metrics, held to the numbers of the table: alerts without Prometheus."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from botswarm.alerts.rule import Figure, Rule
from botswarm.alerts.rules import RULES
from botswarm.clock import Clock
from botswarm.domain.alert import Seen
from botswarm.health import ask
from botswarm.health.ask import Said
from botswarm.health.pages import METRICS

EVERY_S = 15.0
"""As often as Prometheus would."""
LIMIT_S = 4.0
FIGURES = tuple((rule, rule.probe) for rule in RULES if isinstance(rule.probe, Figure))
NAMES = frozenset(figure.metric for _, figure in FIGURES)

_PLACE = re.compile(r"\{\{ \$(labels\.(\w+)|value)(?: \| (\w+))? \}\}")


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


class Figures:
    """Asked for now and then; in between, what was found last still holds."""

    def __init__(self, state_dir: Path, environment: str, clock: Clock) -> None:
        self._state_dir = state_dir
        self._environment = environment
        self._clock = clock
        self._asked_at: float | None = None
        self._seen: Sequence[Seen] = ()

    def look(self) -> Sequence[Seen]:
        now = self._clock.monotonic()
        if self._asked_at is None or now - self._asked_at >= EVERY_S:
            self._asked_at = now
            samples = read(ask.processes(self._state_dir, METRICS, LIMIT_S))
            self._seen = seen_of(samples, self._environment)
        return self._seen


def read(said: Iterable[Said]) -> list[Sample]:
    """Of what is in the table only: a page may have thousands of lines."""
    return [
        Sample(
            sample.name, {"process": card.name, "role": card.role, **sample.labels}, sample.value
        )
        for each in said
        if each.code == 200
        for card in [each.process.card]
        for sample in parsed(each.body.decode(errors="replace"))
    ]


def parsed(text: str) -> Iterator[Sample]:
    # What is left out is not parsed: that costs more than to look at the names.
    lines = [line for line in text.splitlines() if _name(line) in NAMES]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for found in family.samples:
            if not math.isnan(found.value):
                yield Sample(found.name, found.labels, found.value)


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


def seen_of(samples: Sequence[Sample], environment: str) -> list[Seen]:
    found = []
    for rule, figure in FIGURES:
        for labels, values in _groups(samples, figure):
            worst = _worst(figure, values, environment)
            if worst is not None:
                found.append(_seen(rule, figure, labels, worst))
    return found


def _groups(
    samples: Sequence[Sample], figure: Figure
) -> Iterator[tuple[Mapping[str, str], Sequence[float]]]:
    groups: dict[tuple[str, ...], list[float]] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name != figure.metric:
            continue
        if all(labels.get(name) == value for name, value in figure.where.items()):
            key = tuple(labels.get(name, "") for name in figure.by)
            groups.setdefault(key, []).append(sample.value)
    for key, values in groups.items():
        yield dict(zip(figure.by, key, strict=True)), values


def _worst(figure: Figure, values: Sequence[float], environment: str) -> float | None:
    """None where all is well."""
    if figure.above is not None:
        value = min(values) if figure.by_all else max(values)
        return value if value > figure.above else None
    limit = figure.limit(environment)
    value = max(values) if figure.by_all else min(values)
    return value if limit is not None and value < limit else None


def _seen(rule: Rule, figure: Figure, labels: Mapping[str, str], value: float) -> Seen:
    return Seen(
        name=rule.name,
        subject=" ".join(labels.values()),
        severity=rule.severity,
        words=words(rule.says, {"instance": labels.get("process", ""), **labels}, value),
        cure=f"botswarm runbook {rule.page}",
        value=f"{value:.6g}",
        for_s=figure.for_s,
    )


# --- the words of a rule, as Prometheus would fill them in --------------------------------------


def words(says: str, labels: Mapping[str, str], value: float) -> str:
    def fill(found: re.Match[str]) -> str:
        if found[2]:
            return labels.get(found[2], "")
        return HUMAN.get(found[3] or "", _plain)(value)

    return _PLACE.sub(fill, says)


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.4g} M"


HUMAN: Mapping[str, Callable[[float], str]] = {
    "humanizePercentage": lambda value: f"{100 * value:.4g} %",
    "humanize1024": _bytes,
    "humanizeDuration": lambda value: f"{value:.0f} s",
}
