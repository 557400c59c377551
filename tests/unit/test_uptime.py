"""What nobody saw well was down, however long nobody looked, and nothing is counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from botswarm.alerts import figures, rules
from botswarm.alerts.figures import Sample
from botswarm.domain.uptime import DAY, GAP, Span, Uptime, uptime

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def span(began: timedelta, ended: timedelta = timedelta(0)) -> Span:
    """By how long ago."""
    return Span(NOW - began, NOW - ended)


def of(*spans: Span) -> Uptime:
    found = uptime(spans, NOW)
    assert found is not None
    return found


def test_a_swarm_that_was_never_seen_well_has_no_uptime() -> None:
    assert uptime([], NOW) is None


def test_what_lies_between_two_spans_was_down() -> None:
    found = of(span(60 * DAY, 10 * HOUR), span(7 * HOUR))
    assert found.down_s["1d"] == pytest.approx(3 * 3600)
    assert found.shares["1d"] == pytest.approx(21 / 24)
    assert found.shares["30d"] == pytest.approx(1 - 3 / 720)


def test_a_swarm_that_is_wholly_dead_is_down_from_when_it_was_seen_last() -> None:
    assert of(span(60 * DAY, 6 * HOUR)).shares["1d"] == pytest.approx(0.75)
    assert of(span(60 * DAY, 40 * DAY)).shares == {"1d": 0, "7d": 0, "30d": 0}


def test_the_look_that_is_not_due_yet_is_no_outage_and_the_one_that_is_late_is() -> None:
    assert of(span(60 * DAY, GAP)).shares["1d"] == 1
    late = GAP + timedelta(seconds=1)
    assert of(span(60 * DAY, late)).down_s["1d"] == late.total_seconds()


def test_two_machines_that_see_the_same_do_not_count_twice() -> None:
    seen = of(span(40 * DAY, 12 * HOUR), span(20 * HOUR, 6 * HOUR), span(18 * HOUR, 15 * HOUR))
    assert seen.shares["1d"] == pytest.approx(18 / 24)


def test_before_the_swarm_was_there_it_was_not_down() -> None:
    found = of(span(4 * HOUR, 3 * HOUR), span(2 * HOUR))
    assert found.shares == {name: pytest.approx(3 / 4) for name in ("1d", "7d", "30d")}
    assert not found.is_judged(NOW)
    assert of(span(DAY)).is_judged(NOW)


def test_a_clock_that_was_ahead_makes_no_uptime_of_the_future() -> None:
    assert of(span(2 * HOUR, HOUR), span(-HOUR, -2 * HOUR)).shares["1d"] == pytest.approx(0.5)
    assert of(span(2 * HOUR, -HOUR)).shares["1d"] == 1


@pytest.mark.parametrize(
    ("environment", "share", "is_told"),
    [("production", 0.9989, True), ("production", 0.9991, False), ("development", 0.2, False)],
)
def test_less_than_is_promised_of_a_month_is_an_alert_where_it_is_promised(
    environment: str, share: float, is_told: bool
) -> None:
    samples = [
        Sample("botswarm_swarm_up_ratio", {"window": "30d"}, share),
        Sample("botswarm_swarm_up_ratio", {"window": "1d"}, 0.5),
    ]
    told = [each.name for each in figures.seen_of(samples, environment)]
    assert told == (["UptimeLow"] if is_told else [])


def test_a_limit_that_stops_trading_is_no_outage_and_a_broker_that_is_away_is_one() -> None:
    assert {"BrokerDown", "ApplicationDown", "QueueStuck", "AllConnectionsFailed"} < rules.DOWN
    assert not {"TradingLossesExceedLimit", "AccountDiffers", "DatabaseSlow"} & rules.DOWN
