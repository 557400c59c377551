"""The bench of orders measures the whole road, and its books are whole afterwards."""

from __future__ import annotations

import json

from botswarm.bench.orders import Size, main, table


def test_the_road_of_an_order_is_measured_with_every_commit_of_it() -> None:
    size = Size(orders=60, rate=20, seconds=1, workers=(1,), noops=200)
    figures = json.loads(json.dumps(main(ledgers=["postgresql"], size=size)))
    (run,) = figures["runs"]
    (drain,) = run["drains"]
    assert drain["orders_per_s"] > 0
    assert set(drain["cpu_ms_per_order"]) == {
        *("broker", "exchange", "postgresql", "workers", "beat"),
    }
    assert run["latency"]["orders"] == 20
    assert run["latency"]["decision_to_accepted"]["p50_ms"] > 0
    assert run["noops_per_order"] > 0
    assert "orders/s" in table(figures)
