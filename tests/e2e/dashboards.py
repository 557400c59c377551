"""A real Prometheus beside a running swarm: what it finds, and what no panel shows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from botswarm.alerts import boards
from botswarm.alerts.board import Line
from botswarm.testing.prometheus import PrometheusServer

RULES = sorted((Path(__file__).parents[2] / "docker/prometheus/rules").glob("*.yml"))
PATIENCE_S = 150.0


def targets_url(state_dir: Path) -> str:
    """Of any process: each knows all the others."""
    card = json.loads((state_dir / "processes/feed.json").read_text())
    return f"http://{card['host']}:{card['port']}/targets"


def without_data(state_dir: Path, *, with_servers: bool) -> list[str]:
    """Panels that show nothing, once all that can be there has been measured twice."""
    with PrometheusServer(targets_url=targets_url(state_dir), rules=RULES) as prometheus:
        deadline = time.monotonic() + PATIENCE_S
        while (empty := _empty(prometheus, with_servers)) and time.monotonic() < deadline:
            time.sleep(1)
        wrong = prometheus.wrong_rules()
        return [*empty, *wrong]


def _empty(prometheus: PrometheusServer, with_servers: bool) -> list[str]:
    return [
        f"{board.uid}: {panel.title}: {line.expression}"
        for board in boards.BOARDS
        for panel in board.panels
        for line in panel.lines
        if not _has_data(prometheus.ask(_asked(line, with_servers)))
    ]


def _asked(line: Line, with_servers: bool) -> str:
    """Of servers that are there more is expected than the nought which stands for them."""
    if with_servers and line.server in ("postgresql", "redis") and not line.rare:
        return line.expression
    return line.shown.replace("$environment", ".*")


def _has_data(found: list[dict[str, Any]]) -> bool:
    return any(each["value"][1] != "NaN" for each in found)
