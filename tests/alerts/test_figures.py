"""What processes show is judged without Prometheus as promtool sees Prometheus judge it."""

from __future__ import annotations

import re

import pytest

from botswarm.alerts.figures import FIGURES, Sample, parsed, seen_of, words
from botswarm.alerts.rule import Figure, Rule, Series
from botswarm.domain.alert import Severity

each_figure = pytest.mark.parametrize(
    ("rule", "figure"), FIGURES, ids=[rule.name for rule, _ in FIGURES]
)


def at_the_end(series: Series) -> tuple[list[Sample], str]:
    """The last values that promtool is shown, and the environment they are of."""
    samples, environment = [], "production"
    for name, values in series.items():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
        environment = labels.pop("environment", environment)
        last = re.findall(r"(-?[0-9.e]+)x", values)[-1]
        labels = {"process": labels.get("instance", "feed"), "role": "feed", **labels}
        samples.append(Sample(name.partition("{")[0], labels, float(last)))
    return samples, environment


@each_figure
def test_it_fires_on_what_prometheus_fires_on(rule: Rule, figure: Figure) -> None:
    seen = [each for each in seen_of(*at_the_end(rule.trial.fires)) if each.name == rule.name]
    assert len(seen) == 1
    assert seen[0].severity is rule.severity
    assert "{{" not in seen[0].words


@each_figure
def test_it_is_silent_on_what_prometheus_is_silent_on(rule: Rule, figure: Figure) -> None:
    # An environment has its own numbers, and a process is in one: the first is tried here.
    first = dict(list(rule.trial.quiet.items())[:1]) if figure.below_in else rule.trial.quiet
    seen = [each.name for each in seen_of(*at_the_end(first))]
    assert rule.name not in seen


def test_only_the_lines_of_the_table_are_read_and_odd_ones_are_left_out() -> None:
    text = """\
# HELP botswarm_exchange_health 0 to 1
botswarm_exchange_health{exchange="bin\\"ance"} 0.25
botswarm_exchange_healthy{exchange="x"} 1
botswarm_exchange_health{exchange="kraken"} NaN
botswarm_uptime_seconds 12
botswarm_standing_age_seconds 130
nonsense
"""
    assert [(each.name, each.labels, each.value) for each in parsed(text)] == [
        ("botswarm_exchange_health", {"exchange": 'bin"ance'}, 0.25),
        ("botswarm_standing_age_seconds", {}, 130.0),
    ]


def test_the_words_are_filled_in_as_prometheus_would() -> None:
    says = "{{ $labels.exchange }}: {{ $value | humanizePercentage }} for {{ $value }}"
    assert words(says, {"exchange": "kraken"}, 0.5) == "kraken: 50 % for 0.5"


def test_several_venues_are_several_alerts() -> None:
    samples = [
        Sample("botswarm_connection_success_ratio", {"exchange": name}, 0.5)
        for name in ("binance", "kraken")
    ]
    seen = [each for each in seen_of(samples, "production") if each.severity is Severity.CRITICAL]
    assert {each.subject for each in seen} == {"binance", "kraken"}


def test_a_halted_swarm_is_as_urgent_without_prometheus_as_with_it() -> None:
    states = [
        Sample("botswarm_trading_state", {"state": state}, float(state == "halted"))
        for state in ("active", "reducing", "halted")
    ]
    seen = seen_of(states, "production")
    assert [(each.name, each.severity) for each in seen] == [("TradingHalted", Severity.HIGH)]
