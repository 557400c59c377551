"""Limits, bans and clocks of venues for whoever scrapes metrics, read from the shared boards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from botswarm import metrics
from botswarm.exchanges.allowances import boards
from botswarm.exchanges.board import Board


class VenueMeters:
    """Of every venue that a process of this state folder has asked."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def collect(self) -> Iterator[metrics.Samples]:
        found = boards(self._state_dir)
        yield metrics.samples(
            metrics.LIMIT_USED_RATIO,
            [
                ((server, each.name), each.used / each.most)
                for server, board in found.items()
                for each in board.used()
                if each.most
            ],
        )
        yield metrics.samples(
            metrics.BAN_SECONDS,
            [((server,), board.ban_left_s()) for server, board in found.items()],
        )
        yield metrics.samples(metrics.CLOCK_OFFSET_SECONDS, list(_offsets(found)))


def _offsets(found: dict[str, Board]) -> Iterator[tuple[tuple[str], float]]:
    for server, board in found.items():
        if (known := board.offset()) is not None:
            yield (server,), known[0]
