"""A short round of the campaign that sends every venue's session frames that are wrong."""

from __future__ import annotations

from tests.campaign.mutate_feed import campaign, read_corpora


def test_mutated_frames_are_counted_by_reason_and_hurt_no_good_one() -> None:
    report = campaign(frames=20_000, seed=20)
    assert report.failures == [], str(report)
    assert report.outcomes.total() == 20_000
    told = {name.partition(" ")[0] for name in report.outcomes if name.endswith(" ticks")}
    assert told == set(read_corpora())
