"""The bench of sweeps measures what it says, and nothing of speed is asserted here."""

from __future__ import annotations

from botswarm.bench import sweep


def test_every_position_is_swept_on_a_ledger_of_its_own() -> None:
    size = sweep.Size(positions=60, markets=4, sweeps=2, limited=5)
    figures = sweep.main(ledgers=("sqlite",), size=size)
    (run,) = figures["runs"]
    assert (run["sweeps"], run["ledger"]) == (2, "sqlite")
    assert 0 < run["p50_s"] <= run["max_s"]
    assert "60 positions in 4 markets" in sweep.table(figures)
