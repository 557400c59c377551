"""Candles made of ticks are the venue's own, whatever restarts and is lost in between."""

from __future__ import annotations

from tests.campaign.day_of_candles import run


def test_candles_of_ticks_are_the_venues_own_through_restarts_gaps_and_late_trades() -> None:
    found = run(1, start_s=21 * 3600, seconds=5 * 3600)  # over midnight, so every timeframe closes
    assert (found.wrong[:3], found.missing[:3]) == ([], [])
    assert min(found.outages, found.feeds, found.workers, found.lost, found.overtaken) > 1
    assert found.views > 100
    assert found.candles > 5 * 3600
