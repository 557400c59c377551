"""What begins, goes on and is over, who is told of it, and who sleeps meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from botswarm.alerts.judging import CLEARS_AFTER, Policy, judge
from botswarm.alerts.quiet import due
from botswarm.config import QuietHours
from botswarm.domain.alert import Episode, Notice, NoticeKind, Seen, Severity, Silence

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
EVERYBODY = ("slack", "pagerduty")
POLICY = Policy(
    routes={Severity.CRITICAL: EVERYBODY, Severity.HIGH: ("slack",), Severity.WARNING: ("slack",)},
    channels=EVERYBODY,
    explained_by={"VenueLost": frozenset({"NetworkLost"})},
)


def seen(name: str = "BrokerDown", subject: str = "", **changes: object) -> Seen:
    first = Seen(name=name, subject=subject, severity=Severity.CRITICAL, words="it is down")
    return replace(first, **changes)  # type: ignore[arg-type]


class Night:
    """Rounds that follow one another, five seconds apart unless told otherwise."""

    def __init__(self, policy: Policy = POLICY, now: datetime = NOW) -> None:
        self.policy, self.now = policy, now
        self.open: list[Episode] = []
        self.silences: list[Silence] = []
        self.told: list[Notice] = []

    def round(self, *what: Seen, after_s: float = 5) -> Sequence[Notice]:
        self.now += timedelta(seconds=after_s)
        changes = judge(self.open, what, self.silences, self.policy, self.now)
        kept = {each.key: each for each in self.open}
        kept |= {each.key: each for each in changes.episodes}
        for gone in changes.passed:
            del kept[gone.key]
        self.open = [each for each in kept.values() if each.ended_at is None]
        self.told += changes.notices
        return changes.notices

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(each.kind.value, each.channel) for each in self.told]


def test_it_is_told_once_on_every_channel_of_its_severity_however_long_it_lasts() -> None:
    night = Night()
    for _ in range(100):
        night.round(seen())
    assert night.kinds == [("fired", "slack"), ("fired", "pagerduty")]


def test_what_is_not_so_for_long_enough_is_never_told() -> None:
    night = Night()
    for _ in range(5):
        night.round(seen(for_s=30))
    night.round(after_s=CLEARS_AFTER.total_seconds())
    assert night.told == []
    assert night.open == []


def test_what_is_so_for_long_enough_is_told_then() -> None:
    night = Night()
    for _ in range(6):
        assert night.round(seen(for_s=30)) == []
    assert len(night.round(seen(for_s=30))) == 2


def test_its_end_is_told_by_itself_once_nobody_sees_it_any_more() -> None:
    night = Night()
    night.round(seen())
    night.round()  # not seen once is no end: somebody else may see it
    assert night.kinds == [("fired", "slack"), ("fired", "pagerduty")]
    night.round(after_s=CLEARS_AFTER.total_seconds())
    assert night.kinds[2:] == [("ended", "slack"), ("ended", "pagerduty")]
    assert night.open == []


def test_it_may_come_again_after_its_end() -> None:
    night = Night()
    night.round(seen())
    night.round(after_s=40)
    night.round(seen())
    assert [kind for kind, channel in night.kinds if channel == "slack"] == [
        *("fired", "ended", "fired")
    ]


def test_two_subjects_of_one_name_are_two_alerts() -> None:
    night = Night()
    night.round(seen(subject="binance"), seen(subject="kraken"))
    assert {each.subject for each in night.told} == {"binance", "kraken"}


def test_what_is_silenced_is_kept_and_told_when_the_silence_ends() -> None:
    night = Night()
    silence = Silence(
        name="BrokerDown",
        subject="",
        at=NOW,
        until=NOW + timedelta(minutes=1),
        actor="a",
        reason="",
    )
    night.silences = [silence]
    night.round(seen())
    assert night.told == []
    assert [each.name for each in night.open] == ["BrokerDown"]
    night.round(seen(), after_s=60)
    assert night.kinds == [("fired", "slack"), ("fired", "pagerduty")]


def test_what_another_alert_explains_is_told_only_without_it() -> None:
    night = Night()
    lost, network = seen("VenueLost", "binance"), seen("NetworkLost")
    night.round(lost)
    # The one that explains it is seen a round later: checks are made one after the other.
    night.round(lost, network)
    night.round(lost, network)
    assert {each.name for each in night.told} == {"NetworkLost"}
    night.round(lost, after_s=40)
    assert [each.name for each in night.told if each.kind is NoticeKind.FIRED][2:] == [
        *("VenueLost", "VenueLost")
    ]


def test_an_alert_of_one_subject_does_not_explain_that_of_another() -> None:
    night = Night()
    for _ in range(3):
        night.round(seen("VenueLost", "binance"), seen("NetworkLost", "kraken"))
    assert {each.name for each in night.told} == {"NetworkLost", "VenueLost"}


def test_without_anybody_at_it_it_goes_to_everybody_and_comes_again() -> None:
    night = Night()
    high = seen(severity=Severity.HIGH)
    night.round(high)
    assert night.kinds == [("fired", "slack")]
    night.round(high, after_s=15 * 60)
    assert night.kinds[1:] == [("escalated", "slack"), ("escalated", "pagerduty")]
    night.round(high, after_s=4 * 3600)
    assert night.kinds[3:] == [("reminded", "slack")]


def test_its_end_is_told_to_everybody_who_was_told_of_it() -> None:
    night = Night()
    what = seen(severity=Severity.HIGH)
    night.round(what)
    night.round(what, after_s=15 * 60)
    ended = night.round(after_s=CLEARS_AFTER.total_seconds())
    assert [(each.kind.value, each.channel) for each in ended] == [
        ("ended", "slack"),
        ("ended", "pagerduty"),
    ]


def test_who_is_at_it_is_not_told_again() -> None:
    night = Night()
    night.round(seen())
    night.open = [replace(night.open[0], acknowledged_at=night.now, acknowledged_by="ada")]
    for _ in range(10):
        night.round(seen(), after_s=3600)
    assert night.kinds == [("fired", "slack"), ("fired", "pagerduty")]


def test_a_warning_is_told_once_and_never_again() -> None:
    night = Night()
    for _ in range(10):
        night.round(seen(severity=Severity.WARNING), after_s=3600)
    assert night.kinds == [("fired", "slack")]


def test_it_ends_though_it_was_seen_last_by_a_clock_that_was_a_day_ahead() -> None:
    night = Night()
    night.round(seen("ClockWrong"), after_s=86_400)
    night.round(after_s=-86_400)
    assert [each.ended_at for each in night.open] == [None]
    night.round(after_s=CLEARS_AFTER.total_seconds() + 5)
    assert night.open == []


def test_it_fires_in_time_though_it_began_by_a_clock_that_was_a_day_ahead() -> None:
    night = Night()
    night.round(seen(for_s=60), after_s=86_400)
    assert night.round(seen(for_s=60), after_s=-86_400) == []
    assert len(night.round(seen(for_s=60), after_s=60)) == 2


def test_what_happened_goes_on_for_a_while_though_nobody_sees_it() -> None:
    night = Night()
    night.round(seen(lasts_s=900))
    night.round(after_s=800)
    assert len(night.open) == 1
    night.round(seen(lasts_s=900))
    assert len(night.kinds) == 2
    night.round(after_s=960)
    assert night.open == []


QUIET = QuietHours(22 * 60, 7 * 60, "Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        # Berlin is an hour ahead of UTC in winter.
        ("2026-01-10T20:59:00+00:00", "2026-01-10T20:59:00+00:00"),
        ("2026-01-10T21:00:00+00:00", "2026-01-11T06:00:00+00:00"),
        ("2026-01-11T03:00:00+00:00", "2026-01-11T06:00:00+00:00"),
        ("2026-01-11T06:00:00+00:00", "2026-01-11T06:00:00+00:00"),
        # The clocks go forward in this night: seven o'clock comes an hour sooner.
        ("2026-03-28T22:00:00+00:00", "2026-03-29T05:00:00+00:00"),
    ],
)
def test_what_is_not_critical_waits_for_the_end_of_the_quiet_hours(now: str, wanted: str) -> None:
    moment = datetime.fromisoformat(now)
    assert due(QUIET, Severity.HIGH, moment) == datetime.fromisoformat(wanted)
    assert due(QUIET, Severity.CRITICAL, moment) == moment


def test_hours_within_a_day_are_quiet_hours_too() -> None:
    noon = QuietHours(12 * 60, 13 * 60, "UTC")
    assert due(noon, Severity.WARNING, NOW) == NOW + timedelta(hours=1)
    assert due(noon, Severity.WARNING, NOW + timedelta(hours=1)) == NOW + timedelta(hours=1)
