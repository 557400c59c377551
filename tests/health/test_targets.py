"""Which processes Prometheus is told to ask: also those whose silence is what it should notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from botswarm.config import load
from botswarm.health.process import Health
from botswarm.health.seat import Seat
from tests.health.test_answers import a_card


@pytest.fixture
def health(tmp_path: Path) -> Health:
    settings = load(environ={"BOTSWARM_STATE_DIR": str(tmp_path)}, folder=tmp_path).settings
    return Health(settings, "worker")


def seated(state_dir: Path, name: str, port: int) -> Seat:
    seat = Seat(state_dir, name)
    seat.write(a_card(name, port))
    return seat


def targets(health: Health) -> dict[str, str]:
    found: Any = health.targets()
    return {each["labels"]["process"]: each["targets"][0] for each in found}


def test_a_process_that_was_killed_is_still_a_target_and_one_that_ended_in_order_is_not(
    health: Health, tmp_path: Path
) -> None:
    feed, beat = seated(tmp_path, "feed", 8081), seated(tmp_path, "beat", 8082)
    assert targets(health) == {"feed": "127.0.0.1:8081", "beat": "127.0.0.1:8082"}
    feed.leave_to_parent()
    assert targets(health) == {"feed": "127.0.0.1:8081", "beat": "127.0.0.1:8082"}
    beat.leave()
    assert targets(health) == {"feed": "127.0.0.1:8081"}


def test_who_answers_where_a_killed_process_did_is_no_second_target(
    health: Health, tmp_path: Path
) -> None:
    seated(tmp_path, "feed", 8081).leave_to_parent()
    orders = seated(tmp_path, "orders", 8081)
    assert targets(health) == {"orders": "127.0.0.1:8081"}
    orders.leave()
