"""What a process answers on its port: the pages of health, and the codes that go with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from botswarm.health.card import ProcessCard
from botswarm.health.check import Check, Status, worst
from botswarm.health.server import Answer

LIVE, READY, HEALTH, DETAILED, METRICS, TARGETS = (
    "/livez", "/readyz", "/health", "/health/detailed", "/metrics", "/targets",
)  # fmt: skip
ALIASES = {
    "/api/health": HEALTH,
    "/api/v1/health": HEALTH,
    "/api/health/detailed": DETAILED,
    "/api/v1/health/detailed": DETAILED,
    "/healthz": HEALTH,
}
WORDS: Mapping[Status, str] = {"ok": "healthy", "warn": "degraded", "fail": "unhealthy"}


class Told(Protocol):
    """What the pages are made of."""

    @property
    def card(self) -> ProcessCard: ...

    def work(self) -> Check:
        """Whether work gets done: what liveness means."""
        ...

    def checks(self) -> Sequence[Check]: ...

    def facts(self) -> Mapping[str, Any]:
        """Redis, exchanges and memory, in the shape that others' dashboards read."""
        ...

    def uptime_s(self) -> float: ...


Page = Callable[[], Answer]
Figures = Callable[[str], Answer]
"""In the form that a header ``Accept`` asks for."""


class Pages:
    def __init__(self, told: Told, figures: Figures, targets: Callable[[], object]) -> None:
        self._told = told
        self._figures = figures
        self._other_names = dict(ALIASES)
        self._pages: dict[str, Page] = {
            LIVE: self._live,
            READY: self._ready,
            HEALTH: self._health,
            DETAILED: self._detailed,
            TARGETS: lambda: Answer(200, _json(targets())),
        }

    def also(self, name: str, wanted: str) -> None:
        """Serve a page under another path, too, as a setting wants it."""
        self._other_names[wanted] = name

    def name_of(self, path: str) -> str:
        """The page's own name, whatever name it was asked for by."""
        path = path.rstrip("/") or HEALTH
        return self._other_names.get(path, path)

    def __call__(self, path: str, accept: str = "") -> Answer | None:
        name = self.name_of(path)
        if name == METRICS:
            return self._figures(accept)
        page = self._pages.get(name)
        return page() if page is not None else None

    def _live(self) -> Answer:
        """Only whether this process does its work: to start it again cures no server."""
        work = self._told.work()
        is_alive = work.status != "fail"
        page = {**work.as_json(), "status": "alive" if is_alive else "stuck"}
        return _answer(is_alive, page)

    def _ready(self) -> Answer:
        """Whether it can take work now: nothing that it needs fails."""
        checks = [self._told.work(), *self._told.checks()]
        missing = [each for each in checks if each.is_needed and each.status == "fail"]
        page = {
            "status": "not ready" if missing else "ready",
            "missing": [each.as_json() for each in missing],
        }
        return _answer(not missing, page)

    def _health(self) -> Answer:
        checks = [self._told.work(), *self._told.checks()]
        status = worst(checks)
        page = {**self._head(status), **self._told.facts()}
        page["checks"] = {each.name: each.status for each in checks}
        page["trouble"] = [each.as_json() for each in checks if each.status != "ok"]
        return _answer(status != "fail", page)

    def _detailed(self) -> Answer:
        checks = [self._told.work(), *self._told.checks()]
        status = worst(checks)
        page = {**self._head(status), **self._told.facts()}
        page["checks"] = [each.as_json() for each in checks]
        return _answer(status != "fail", page)

    def _head(self, status: Status) -> dict[str, Any]:
        card = self._told.card
        return {
            "status": WORDS[status],
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "uptime": round(self._told.uptime_s(), 1),
            "instance": {
                "id": card.instance_id,
                "type": card.role,
                "name": card.name,
                "queues": list(card.queues),
                "pid": card.pid,
                "version": card.version,
            },
        }


def _answer(is_well: bool, page: Mapping[str, Any]) -> Answer:
    return Answer(200 if is_well else 503, _json(page))


def _json(page: object) -> bytes:
    return (json.dumps(page, ensure_ascii=False, default=str) + "\n").encode()
