"""What a dashboard is made of, and how Grafana wants it written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from botswarm import metrics

Kind = Literal["timeseries", "stat", "gauge", "table", "bargauge"]
WIDE, HEIGHT = 24, 8
SOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${source}"}
NAME = re.compile(r"\bbotswarm_[a-z0-9_]+")
SELECTOR = re.compile(NAME.pattern + r"\{?")


def _of_environment(found: re.Match[str]) -> str:
    name = found[0].removesuffix("{")
    rest = "," if found[0].endswith("{") else "}"
    return name + '{environment=~"$environment"' + rest


@dataclass(frozen=True, slots=True)
class Line:
    """One question, and what its answer is called."""

    expression: str
    legend: str = "__auto"
    rare: bool = False
    """It may never have happened: nothing is shown as nought then."""
    server: Literal["", "postgresql", "redis", "management"] = ""
    """It is there only where this one is used; elsewhere it is nought."""

    @property
    def shown(self) -> str:
        """Of the environment that is chosen on the dashboard."""
        chosen = SELECTOR.sub(_of_environment, self.expression)
        return f"({chosen}) or vector(0)" if self.rare or self.server else chosen

    @property
    def metrics(self) -> list[str]:
        """As Prometheus knows them."""
        return sorted(set(NAME.findall(self.expression)))


def quantile(share: float, bucket: str, legend: str, by: str = "", over: str = "5m") -> Line:
    """What this share of the values does not exceed, by the buckets they were counted in."""
    names = f"{by}, le" if by else "le"
    counted = f"sum by ({names}) (rate({bucket}[{over}]))"
    return Line(f"histogram_quantile({share}, {counted})", legend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    lines: Sequence[Line]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 8
    steps: Sequence[tuple[float | None, str]] = ()
    """From which number on it has which colour."""

    @property
    def description(self) -> str:
        """What the registry says of everything in it, and what to read when it looks bad."""
        helps = {metrics.NAMES[name].help: None for line in self.lines for name in line.metrics}
        return " ".join(helps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    uid: str
    title: str
    says: str
    """One sentence: for whom it is, and what is seen there."""
    panels: Sequence[Panel] = field(default_factory=tuple)

    def as_json(self, others: Sequence[Board]) -> str:
        return json.dumps(_board(self, others), indent=1, ensure_ascii=False) + "\n"


def _board(board: Board, others: Sequence[Board]) -> dict[str, Any]:
    return {
        "uid": f"botswarm-{board.uid}",
        "title": f"botswarm / {board.title}",
        "description": board.says,
        "tags": ["botswarm"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [_link(other) for other in others if other.uid != board.uid],
        "templating": {"list": [_source(), _environment()]},
        "annotations": {"list": [_alerts()]},
        "panels": _panels(board.panels),
    }


def _link(board: Board) -> dict[str, Any]:
    url = f"/d/botswarm-{board.uid}"
    return {"title": board.title, "type": "link", "url": url, "keepTime": True, "includeVars": True}


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _environment() -> dict[str, Any]:
    return {
        "name": "environment",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(botswarm_build_info, environment)",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname!=""}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}}: botswarm runbook {{alertname}}",
    }


def _panels(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    made, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDE:
            x, y = 0, y + HEIGHT
        made.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHT}))
        x += panel.width
    return made


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.steps:
        steps = [{"value": value, "color": colour} for value, colour in panel.steps]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place_),
                "datasource": SOURCE,
                "expr": line.shown,
                "legendFormat": line.legend,
                **({"instant": True, "format": "table"} if panel.kind == "table" else {}),
            }
            for place_, line in enumerate(panel.lines)
        ],
    }
    if panel.kind in ("stat", "gauge", "bargauge"):
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    return made
