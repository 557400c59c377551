"""Writes down what a venue sends: the frames as they came, and the ticks they became."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from botswarm.domain.market import Tick
from botswarm.errors import Unreachable
from botswarm.feed.blockfile import ROTATE_BYTES, BlockFile
from botswarm.feed.ndjson import channel_of, line, moment
from botswarm.feed.recording import HEADING, stamped


def ticks_path(path: Path) -> Path:
    """``frames.gz`` has its ticks in ``frames.ticks.gz``."""
    return path.with_name(f"{path.name.removesuffix('.gz')}.ticks.gz")


class Recorder:
    """The thread that listens calls ``tap`` and ``put``; both only remember, another writes.

    Can stand where the pool's ticks go: then nobody else gets them.
    """

    def __init__(
        self,
        path: Path,
        *,
        venue: str,
        begun_ms: int,
        with_ticks: bool = True,
        rotate_bytes: int = ROTATE_BYTES,
        keep_bytes: int | None = None,
    ) -> None:
        heading = HEADING + f"{venue}, begun {moment(begun_ms)}".encode()
        limits = {"rotate_bytes": rotate_bytes, "keep_bytes": keep_bytes}
        self.frames = BlockFile(path, heading=heading, **limits)  # type: ignore[arg-type]
        self.ticks: BlockFile | None = None
        if with_ticks:
            self.ticks = BlockFile(ticks_path(path), **limits)  # type: ignore[arg-type]
        self.counts: Counter[str] = Counter()
        self.interruptions = 0

    @classmethod
    def of_feed(cls, path: Path, *, venue: str, begun_ms: int, keep_bytes: int) -> Self:
        """Frames only, and no more than so much of them: it goes on for as long as the feed."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"{path.parent} cannot be made: {error.strerror}", cure="name another folder"
            ) from error
        return cls(
            path,
            venue=venue,
            begun_ms=begun_ms,
            with_ticks=False,
            rotate_bytes=min(ROTATE_BYTES, keep_bytes // 4),
            keep_bytes=keep_bytes,
        )

    def tap(self, connection: str, received_ms: int, frame: bytes) -> None:
        self.frames.write(stamped(received_ms, connection, frame))

    def put(self, ticks: Sequence[Tick], at: float | None = None) -> None:
        for tick in ticks:
            self.counts[channel_of(tick)] += 1
            if self.ticks is not None:
                self.ticks.write(line(tick))

    def interrupted(self, symbols: Iterable[str]) -> None:
        self.interruptions += 1

    def suspect(self, symbols: Iterable[str]) -> None:
        self.interruptions += 1

    def announce(self, symbol: str, last_trade_id: int) -> None:
        """The frame it comes from is written down; whoever reads it sees the gap."""

    @property
    def files(self) -> list[BlockFile]:
        return [self.frames] if self.ticks is None else [self.frames, self.ticks]

    @property
    def trouble(self) -> str:
        return next((file.trouble for file in self.files if file.trouble), "")

    @property
    def lost(self) -> int:
        return sum(file.lost for file in self.files)

    def close(self) -> None:
        for file in self.files:
            file.close()
