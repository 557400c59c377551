"""A short round of the campaign that sends the embedded broker frames that are wrong."""

from __future__ import annotations

import contextlib

from botswarm.testing.servers import EmbeddedBrokerServer
from tests.campaign.mutate_frames import campaign


def test_mutated_frames_hurt_nobody_but_their_sender() -> None:
    with contextlib.closing(EmbeddedBrokerServer()) as server:
        report = campaign(server, frames=20_000, seed=20)
    assert report.failures == [], str(report)
    assert report.tally.read >= 20_000
