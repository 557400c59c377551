"""The bench of tasks measures both apps on both brokers."""

from __future__ import annotations

import json
import math

from botswarm.bench.tasks import MEASURES, Size, main, table


def test_both_apps_are_measured_on_both_brokers() -> None:
    figures = json.loads(json.dumps(main(size=Size(rounds=1, tasks=300, trips=5))))
    measured = [(row["broker"], row["measure"]) for row in figures["rows"]]
    keys = [measure[0] for measure in MEASURES]
    assert measured == [(broker, key) for broker in ("embedded", "rabbitmq") for key in keys]
    for row in figures["rows"]:
        for side in ("bare", "ours"):
            assert math.isfinite(row[side]["median"]), row
            assert row[side]["median"] > 0, row
        assert row["within"] == (row["cost"] <= 1.25) or round(row["cost"], 3) == 1.25
    assert all(measure[3] in table(figures) for measure in MEASURES)
