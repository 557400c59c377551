"""The campaigns against feeds, shortened: all goes wrong for moments, and nothing is lost."""

from __future__ import annotations

from tests.campaign import kill_leader, soak_feed


def test_feeds_that_everything_happens_to_publish_each_trade_once_and_count_right() -> None:
    report = soak_feed.run(0.25, seed=1, broker="embedded")
    assert report.failures == [], str(report)
    assert len(report.verdicts) == 12
    assert sum(report.faults.values()) > 30


def test_killing_the_feed_that_leads_loses_no_trade_and_repeats_none() -> None:
    report = kill_leader.run(3, seed=1, broker="embedded")
    assert report.failures == [], str(report)
    assert len(report.silences_s) == 3
