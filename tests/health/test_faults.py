"""What a process needs is really taken away: its health says so with the right code, and clears."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.campaign.alert_faults import rounds
from tests.campaign.health_faults import Stage, tried


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("faults") / "state") as made:
        yield made


@pytest.mark.parametrize(
    ("what", "ready", "health"),
    [
        ("ledger killed", 503, 503),
        ("broker killed", 503, 503),
        ("redis killed", 200, 503),
        ("venue frozen", 200, 503),
        ("venue killed, as the feed sees it", 200, 503),
        ("clock set by an hour", 200, 503),
    ],
)
def test_what_is_away_is_seen_and_what_is_back_is_well(
    stage: Stage, what: str, ready: int, health: int
) -> None:
    (fault,) = [each for each in stage.faults() if each.what == what]
    found = tried(fault, stage.state_dir)
    assert (found.ready, found.health) == (ready, health)


def test_the_right_alert_is_told_of_each_and_so_is_its_end(stage: Stage) -> None:
    """The ledger, in which notices are kept, is the first that is taken away."""
    chosen = ("ledger killed", "broker killed", "venue frozen", "clock set by an hour")
    with rounds(stage) as made:
        told = [made.tried(fault) for fault in stage.faults() if fault.what in chosen]
    assert [each.alert for each in told] == [
        *("DatabaseConnectionFailure", "BrokerDown", "ExchangeApiLost", "ClockWrong"),
    ]
