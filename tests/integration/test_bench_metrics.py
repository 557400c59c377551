"""The bench of what it costs to be watched asks every process, and compares like with like."""

from __future__ import annotations

import json

from botswarm.bench.metrics import Size, main, table

PARTS = {"beat", "broker", "exchange", "feed", "orders", "risk-ops-backtest", "strategy"}


def test_every_process_is_scraped_and_orders_flow_with_and_without() -> None:
    size = Size(
        bots=30,
        scrapes=2,
        settle_s=0,
        orders=20,
        pairs=1,
        drained=30,
        rounds=1,
        start_s=1,
        idle_s=1,
    )
    figures = json.loads(json.dumps(main(size=size)))
    assert set(figures["scrapes"]) >= PARTS
    assert all(each["scrapes"] == 2 for each in figures["scrapes"].values())
    assert all(each["series"] > 20 for each in figures["scrapes"].values())
    assert figures["scrapes"]["risk-ops-backtest"]["unanswered"] == 0
    cost = figures["cost"]
    assert cost["pairs"] == cost["rounds"] == 1
    assert cost["orders_per_s"] > 0
    assert cost["watched_orders_per_s"] > 0
    # What is known to be watching is something, and a part of the whole.
    assert 0 < cost["taken"] < 1
    assert 0 < cost["watching_percent_of_core"] < cost["watched_idle_percent_of_core"]
    assert "fewer orders/s" in table(figures)
