"""A short round of the campaign that kills the processes of a running swarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.kill_swarm import campaign
from tests.e2e.swarm import Swarm


@pytest.mark.timeout(300)
def test_no_order_is_lost_or_doubled_when_processes_are_killed(tmp_path: Path) -> None:
    report = campaign(Swarm(tmp_path), rounds=3, seed=11)
    assert report.failures == [], str(report)
    assert report.rounds == 3
