"""What an alert is: when it fires in Prometheus and without it, how urgent, and how it is tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from botswarm.domain.alert import Severity

Series = Mapping[str, str]
"""What is measured, in promtool's words: the series, and its values a minute apart."""


@dataclass(frozen=True, slots=True)
class Check:
    """Fires without Prometheus from what processes say of their health."""

    name: str
    at: Literal["warn", "fail"]
    """From this on; where another rule stands for worse, only that one."""
    about: Literal["swarm", "machine", "process"] = "swarm"
    """Whether several that say so are one alert."""
    for_s: float = 0


@dataclass(frozen=True, slots=True)
class Silent:
    """A process that ended without anybody ending it, or does not answer."""


@dataclass(frozen=True, slots=True)
class Events:
    """Fires without Prometheus from what limits and sweeps have written down."""

    severity: Literal["info", "warn", "breach", "any"]
    kinds: tuple[str, ...] = ()
    """None is every kind that no other rule names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Fires without Prometheus from a figure that processes show, held to a number.

    ``by`` and ``where`` are labels of the metric, or ``process`` and ``role`` of who shows it.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    below_in: Mapping[str, float] = field(default_factory=dict)
    """By environment, where that makes a difference."""
    by: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    by_all: bool = False
    """Only where every one of them is so."""
    for_s: float = 0

    def limit(self, environment: str) -> float | None:
        return self.below_in.get(environment, self.below)


Probe = Check | Silent | Events | Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What promtool is shown. ``at`` minutes later the alert fires, or does not."""

    fires: Series
    quiet: Series = field(default_factory=dict)
    """The same at a value just on the good side; empty where nothing measured is good, too."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """That the alert carries, besides its severity."""
    at: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    name: str
    severity: Severity
    group: str
    says: str
    """One sentence, in Prometheus' templates: what is so."""
    expression: str
    for_s: int
    trial: Trial
    more_trials: Mapping[str, Trial] = field(default_factory=dict)
    """By what they are about."""
    probe: Probe | None = None
    explained_by: tuple[str, ...] = ()
    """While one of these fires, this one is no news."""

    @property
    def page(self) -> str:
        """Of the runbook."""
        return self.name
