"""Three workers, killed and added while a market moves: each move is decided on once."""

from __future__ import annotations

from pathlib import Path

from tests.campaign.kill_evaluation import BOTS, run


def test_workers_that_die_in_the_middle_of_a_pass_lose_and_double_nothing(tmp_path: Path) -> None:
    arena = run(tmp_path, rounds=6, kill_every=3)
    assert arena.kills == 2
    assert arena.doubled() == []
    assert len(arena.decided()) == BOTS * arena.sequence
