"""What a measurement says: its unit, its spread, and how two brokers compare in it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SIDES = ("embedded", "rabbitmq")


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: docs/bench.md says under its key exactly what is measured."""

    key: str
    unit: str
    more_is_better: bool
    text: str


TASKS = Measure("tasks_per_s", "1/s", True, "Celery no-op tasks, late acks")
TRIP_P50 = Measure("round_trip_p50_ms", "ms", False, "task round trip, p50")
TRIP_P99 = Measure("round_trip_p99_ms", "ms", False, "task round trip, p99")
PUBLISH = Measure("publish_per_s", "1/s", True, "publishes, no confirms")
PUBLISH_CONFIRMED = Measure(
    "publish_confirmed_per_s", "1/s", True, "publishes, each confirmed before the next"
)
PUBLISH_PIPELINED = Measure(
    "publish_pipelined_per_s", "1/s", True, "publishes, 100 confirms in flight"
)
PUBLISH_QUORUM = Measure("publish_quorum_pipelined_per_s", "1/s", True, "same into a quorum queue")
CONSUME_ACK = Measure("consume_ack_per_s", "1/s", True, "consumes, each acknowledged")
CONSUME_NO_ACK = Measure("consume_no_ack_per_s", "1/s", True, "consumes, no acks")
START_UP = Measure("start_up_s", "s", False, "start-up, empty")
MEMORY_EMPTY = Measure("memory_empty_mb", "MB", False, "memory (PSS), empty")
FILL = Measure("fill_per_s", "1/s", True, "filling a queue, confirmed")
MEMORY_FULL = Measure("memory_full_mb", "MB", False, "memory (PSS), queue full")
START_UP_FULL = Measure("start_up_full_s", "s", False, "start-up, queue full")
MEMORY_RESTARTED = Measure("memory_restarted_mb", "MB", False, "memory (PSS), after that start-up")
MEASURES = (
    TASKS,
    TRIP_P50,
    TRIP_P99,
    PUBLISH,
    PUBLISH_CONFIRMED,
    PUBLISH_PIPELINED,
    PUBLISH_QUORUM,
    CONSUME_ACK,
    CONSUME_NO_ACK,
    START_UP,
    MEMORY_EMPTY,
    FILL,
    MEMORY_FULL,
    START_UP_FULL,
    MEMORY_RESTARTED,
)

Runs = Mapping[str, Mapping[str, Sequence[float]]]
"""Side, then key, then one value a round."""


def rows(runs: Runs) -> list[dict[str, Any]]:
    """One row a measure, as plain data; ``ratio`` above 1 means the embedded broker is ahead."""
    return [row for measure in MEASURES if (row := _row(measure, runs))["embedded"] is not None]


def _row(measure: Measure, runs: Runs) -> dict[str, Any]:
    ours, theirs = (_spread(runs.get(side, {}).get(measure.key, ())) for side in SIDES)
    ratio = None
    if ours and theirs and ours["median"] and theirs["median"]:
        ratio = ours["median"] / theirs["median"]
        ratio = round(ratio if measure.more_is_better else 1 / ratio, 2)
    return {
        "measure": measure.key,
        "text": measure.text,
        "unit": measure.unit,
        "better": "more" if measure.more_is_better else "less",
        "embedded": ours,
        "rabbitmq": theirs,
        "ratio": ratio,
    }


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {
        "median": _rounded(statistics.median(values)),
        "low": _rounded(min(values)),
        "high": _rounded(max(values)),
        "runs": [_rounded(value) for value in values],
    }


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 else round(value, 3 if value < 10 else 1)


def table(figures: Mapping[str, Any]) -> str:
    """The same for people: a line a measure, medians with their spread."""
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{figures['command']}, {figures['began_at']}",
        f"{machine['cores']} cores, {machine['processor']}, {versions}",
        f"{figures['rounds']} round(s) in turn, median (lowest to highest); "
        f"a full queue is {figures['messages_full']:,} persistent messages of 200 B; "
        "a ratio above 1 means the embedded broker is ahead",
        "",
        f"{'':42}{'unit':>5}  {'embedded':>28}  {'RabbitMQ':>28}  {'ratio':>6}",
    ]
    lines += [
        f"{row['text']:42}{row['unit']:>5}  {_cell(row['embedded']):>28}  "
        f"{_cell(row['rabbitmq']):>28}  {_ratio(row['ratio']):>6}"
        for row in figures["rows"]
    ]
    return "\n".join([*lines, *([f"\n{figures['missing']}"] if figures["missing"] else [])])


def _cell(spread: Mapping[str, Any] | None) -> str:
    if spread is None:
        return "-"
    if len(spread["runs"]) == 1:
        return f"{spread['median']:,}"
    return f"{spread['median']:,} ({spread['low']:,} to {spread['high']:,})"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
