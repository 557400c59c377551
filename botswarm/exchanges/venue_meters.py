"""Limits, bans and clocks of venues for whoever scrapes metrics, read from the shared boards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from botswarm import metrics
from botswarm.exchanges.allowances import boards
from botswarm.exchanges.board import Board


class VenueMeters(Collector):
    """Of every venue that a process of this state folder has asked."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        yield from ()

    def collect(self) -> Iterator[Metric]:
        found = boards(self._state_dir)
        yield metrics.gauge(
            metrics.LIMIT_USED_RATIO,
            [
                ((server, each.name), each.used / each.most)
                for server, board in found.items()
                for each in board.used()
                if each.most
            ],
        )
        yield metrics.gauge(
            metrics.BAN_SECONDS,
            [((server,), board.ban_left_s()) for server, board in found.items()],
        )
        yield metrics.gauge(metrics.CLOCK_OFFSET_SECONDS, list(_offsets(found)))


def _offsets(found: dict[str, Board]) -> Iterator[tuple[tuple[str], float]]:
    for server, board in found.items():
        if (known := board.offset()) is not None:
            yield (server,), known[0]
