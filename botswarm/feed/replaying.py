"""Plays recorded ticks in the rhythm in which they came, or as fast as they are taken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from botswarm.domain.market import Channel, Tick
from botswarm.exchanges.streams import Changed
from botswarm.feed.ndjson import channel_of
from botswarm.feed.recording import Line
from botswarm.market.wire import Batch

TOGETHER_MAX = 500
TOGETHER_S = 0.005


class Rhythm:
    """Lets each line pass when its time has come.

    A pause that the recording has is kept; lines without a time pass with those before them.
    """

    def __init__(
        self,
        speed: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.speed = speed
        self.sleep = sleep
        self._monotonic = monotonic
        self._begun: tuple[float, int] | None = None
        self.is_timed = False
        """Whether any line said when it came."""

    def wait_s(self, line: Line) -> float:
        """How long until this line is due; 0 or less when it is."""
        if line.received_ms is None or self.speed <= 0:
            return 0.0
        self.is_timed = True
        now = self._monotonic()
        if self._begun is None:
            self._begun = now, line.received_ms
        began, first_ms = self._begun
        return began + (line.received_ms - first_ms) / 1000 / self.speed - now

    def pace(self, lines: Iterable[Line], before_pause: Callable[[], None]) -> Iterator[Line]:
        """``before_pause`` sends what was gathered: nothing waits over a pause."""
        for line in lines:
            if self.wait_s(line) > TOGETHER_S:
                before_pause()
                self.sleep(max(0.0, self.wait_s(line)))
            yield line


class Gathering:
    """Ticks of one moment in the batches that the feed would send, under another venue's name.

    ``send`` gets them with the venue's name already changed. Changes of a book that was never
    whole are no ticks of the feed, and counted instead.
    """

    def __init__(self, venue: str, send: Callable[[Batch], None]) -> None:
        self._venue = venue
        self._send = send
        self._waiting: dict[tuple[str, Channel], list[Tick]] = {}
        self._count = 0
        self.counts: Counter[str] = Counter()
        self.changes = 0

    def add(self, tick: Tick | Changed) -> None:
        if isinstance(tick, Changed):
            self.changes += 1
            return
        channel = channel_of(tick)
        self.counts[channel] += 1
        renamed = replace(tick, venue=self._venue)
        self._waiting.setdefault((tick.symbol, channel), []).append(renamed)
        self._count += 1
        if self._count >= TOGETHER_MAX:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for (symbol, channel), ticks in waiting.items():
            self._send(Batch(venue=self._venue, symbol=symbol, kind=channel, ticks=tuple(ticks)))


def replay_name(venue: str) -> str:
    """Never a live venue's: what is played never mixes with what happens."""
    return f"replay-{venue}"
