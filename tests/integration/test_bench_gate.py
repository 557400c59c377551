"""The bench of the gate measures what an order worker does, whatever limits are set."""

from __future__ import annotations

from botswarm.bench.gate import ALL, SETTINGS, USUAL, Size, main, table


def test_the_gate_is_measured_with_few_limits_and_with_all() -> None:
    figures = main(ledgers=("sqlite",), size=Size(orders=10, bots=5, resting=3, past=20))
    assert [run["limits"] for run in figures["runs"]] == [SETTINGS, USUAL, ALL]
    for run in figures["runs"]:
        assert run["orders"] == 10
        assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["max_ms"]
        assert run["processor_p50_ms"] > 0
    assert "sqlite, every kind at every level: p50" in table(figures)
