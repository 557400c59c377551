"""The forms that alerts come in more than once: what they ask, and what promtool is shown of it."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.alerts.rule import Check, Rule, Trial
from botswarm.domain.alert import Severity


def when_fails(
    probe: Check,
    *,
    name: str,
    severity: Severity,
    group: str,
    says: str,
    for_s: int,
    explained_by: tuple[str, ...] = (),
) -> Rule:
    """As the processes say it themselves; two are enough where one of them has gone."""
    metric = f'botswarm_health_check{{check="{probe.name}"'
    series = f'{metric},instance="a:8080"}}'
    return Rule(
        name=name,
        severity=severity,
        group=group,
        says=says,
        expression=f"max({metric}}}) == 2",
        for_s=for_s,
        probe=probe,
        explained_by=explained_by,
        trial=Trial(fires={series: "2x60"}, quiet={series: "1x60"}),
    )


def crossed(metric: str, fires: str, quiet: str, **labels: str) -> Trial:
    """One series on either side of its line; the alert carries the labels of the series."""
    named = ",".join(f'{name}="{value}"' for name, value in labels.items())
    series = f"{metric}{{{named}}}" if named else metric
    return Trial(fires={series: fires}, quiet={series: quiet}, labels=labels)


def growing(series: str, by: Mapping[str, int]) -> dict[str, str]:
    """Counts that grow by so many a minute; ``%s`` in the series is what tells them apart."""
    return {series % name: f"0+{count}x60" for name, count in by.items()}
