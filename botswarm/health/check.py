"""What a check of health found: one row, the same in the pages, on the terminal and in alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

Status = Literal["ok", "warn", "fail"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""From good to bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    status: Status
    words: str
    cure: str = ""
    value: float | None = None
    """What was judged, where it is a number, in ``unit``."""
    unit: str = ""
    since: datetime
    """When it took this status, aware and in UTC."""
    is_needed: bool = False
    """Without it the process that asked cannot do its work."""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "since": self.since.astimezone(UTC).isoformat(timespec="seconds")}


def read(found: Mapping[str, Any]) -> Check:
    """A check out of a page; raises ValueError, KeyError or TypeError where it is none."""
    known = {field.name: found[field.name] for field in fields(Check)}
    if known["status"] not in STATUSES:
        raise ValueError(f"{known['status']!r} is no status")
    return Check(**{**known, "since": datetime.fromisoformat(known["since"])})


def worst(checks: Iterable[Check]) -> Status:
    return worst_of(check.status for check in checks)


def worst_of(statuses: Iterable[Status]) -> Status:
    return max(statuses, key=STATUSES.index, default="ok")
