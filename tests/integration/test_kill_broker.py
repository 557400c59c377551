"""A short round of the campaign that kills the embedded broker under load."""

from __future__ import annotations

from botswarm.testing.servers import EmbeddedBrokerServer
from tests.campaign.kill_broker import campaign


def test_what_was_confirmed_survives_being_killed_under_load() -> None:
    with EmbeddedBrokerServer() as server:
        report = campaign(server, rounds=8, seed=20)
    assert report.failures == [], str(report)
    assert report.redelivered > 0
