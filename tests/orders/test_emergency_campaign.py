"""The campaign of the emergency stop in short: two presses while orders flow."""

from __future__ import annotations

from tests.campaign import emergency_stop


def test_nothing_is_taken_after_the_stop_whatever_was_taken_away_from_it() -> None:
    without = ["workers", "rabbitmq"]
    report = emergency_stop.run(2, without=without, rate=25, is_embedded=True, flowing=12)
    assert report.failures == []
    assert len(report.cancelled_ms) == 2
    assert report.cancelled > 0, "there was something to cancel"
