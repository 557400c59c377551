"""The bench of what it costs to be watched asks every process, and compares like with like."""

from __future__ import annotations

import json

from botswarm.bench.metrics import Size, main, table

PARTS = {"beat", "broker", "exchange", "feed", "orders", "risk-ops-backtest", "strategy"}


def test_every_process_is_scraped_and_orders_flow_with_and_without() -> None:
    size = Size(bots=30, scrapes=2, settle_s=0, orders=20, drains=2, rounds=1, idle_s=1)
    figures = json.loads(json.dumps(main(size=size)))
    assert set(figures["scrapes"]) >= PARTS
    assert all(each["scrapes"] == 2 for each in figures["scrapes"].values())
    assert all(each["series"] > 20 for each in figures["scrapes"].values())
    assert figures["scrapes"]["risk-ops-backtest"]["unanswered"] == 0
    assert len(figures["cost"]["orders_per_s"]) == 1
    assert len(figures["cost"]["watched_orders_per_s"]) == 1
    assert figures["cost"]["watched_idle_percent_of_core"] > 0
    assert "fewer orders/s" in table(figures)
