"""What the queues are found to be: dead letters and long waits, neither hiding the other."""

from __future__ import annotations

from typing import Any

import pytest

from botswarm.health.check import Status
from botswarm.health.queues import Queues, Stand
from botswarm.health.table import BY_NAME


def stand(*, dead: int, oldest_s: float) -> Stand:
    return Stand(
        waiting=int(oldest_s > 0),
        running=0,
        consumers=1,
        dead=dead,
        published=None,
        done=None,
        oldest_s=oldest_s,
    )


@pytest.mark.parametrize(
    ("dead", "oldest_s", "status"),
    [
        (0, 0.0, "ok"),
        (0, 10.0, "ok"),
        (1, 0.0, "warn"),
        (1, 10.0, "warn"),
        (1, 31.0, "warn"),
        (1, 121.0, "fail"),
    ],
)
def test_dead_letters_are_no_better_however_long_others_wait(
    dead: int, oldest_s: float, status: Status
) -> None:
    nothing: Any = None
    queues = Queues(nothing, nothing)
    queues.stands = {"orders": stand(dead=dead, oldest_s=oldest_s)}
    assert BY_NAME["queues"].judged(queues.finding()) == status
