"""Processes that take turns in a time of their own: they sleep, freeze and die as they are told."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from greenlet import greenlet

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Died(BaseException):
    """kill -9: nothing in the code can catch it."""


@dataclass(slots=True, eq=False)
class Process:
    """One life of a process; the next one has nothing of it but the name."""

    name: str
    track: greenlet
    clock: ProcessClock
    is_dead: bool = False
    within: int = 0
    """Deeper than one the process is inside a transaction: there it can neither rest nor die."""
    frozen_until: float = 0.0


class World:
    """Its time passes only when everybody waits. The same chances make the same history."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now_s = 0.0
        self.steps = 0
        self.clock = WorldClock(self)
        self.on_step: Callable[[Process, str], None] = lambda process, what: None
        """Asked at every point where something may happen to a process."""
        self.on_told: Callable[[str], object] | None = None
        """Hears every step in words; without it none are made."""
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._running: Process | None = None
        self._hub = greenlet.getcurrent()

    # --- time -------------------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._agenda, (self.now_s + seconds, next(self._order), action))

    def run(self, until_s: float, is_done: Callable[[], bool] = lambda: False) -> None:
        while self._agenda and not is_done():
            at, _, action = self._agenda[0]
            if at > until_s:
                break
            heapq.heappop(self._agenda)
            self.now_s = max(self.now_s, at)
            action()
        else:
            return
        self.now_s = until_s

    # --- processes --------------------------------------------------------------------------------

    @property
    def running(self) -> Process:
        assert self._running is not None, "nobody runs"
        return self._running

    def start(self, name: str, main: Callable[[Process], object]) -> Process:
        def live() -> None:
            try:
                main(process)
            except Died:
                process.is_dead = True

        process = Process(name, greenlet(live, self._hub), ProcessClock(self))
        self.after(0, lambda: self._resume(process))
        return process

    def kill(self, process: Process) -> None:
        """Between two of its steps, from outside."""
        if process.is_dead:
            return
        process.is_dead = True
        if process.track:
            self._run(process, lambda: process.track.throw(Died))

    def die(self) -> None:
        """At this very step, from inside."""
        self.running.is_dead = True
        raise Died

    def rest(self, seconds: float) -> None:
        """The process that runs lets the others go on for so long."""
        process = self.running
        self.after(seconds, lambda: self._resume(process))
        self.wait()

    def wait(self) -> None:
        """The process that runs lets the others go on until somebody wakes it."""
        process = self.running
        self._hub.switch()
        if process.is_dead:
            raise Died

    def wake(self, process: Process) -> None:
        self.after(0, lambda: self._resume(process))

    def step(self, what: str) -> None:
        process = self.running
        self.steps += 1
        self.tell(process.name, what)
        self.on_step(process, what)
        late = process.frozen_until - self.now_s
        if late > 0:
            self.rest(late)

    def tell(self, who: str, what: str) -> None:
        if self.on_told is not None:
            self.on_told(f"{self.now_s:10.3f} s  {who:<10} {what}")

    def _resume(self, process: Process) -> None:
        if process.is_dead or process.track.dead:
            return
        late = process.frozen_until - self.now_s
        if late > 0:
            self.after(late, lambda: self._resume(process))
            return
        self._run(process, process.track.switch)

    def _run(self, process: Process, go: Callable[[], object]) -> None:
        before, self._running = self._running, process
        try:
            go()
        finally:
            self._running = before


@dataclass(slots=True)
class WorldClock:
    """True time; nobody in it has it but the venue, more or less."""

    world: World

    def now(self) -> datetime:
        return START + timedelta(seconds=self.world.now_s)

    def monotonic(self) -> float:
        return self.world.now_s


@dataclass(slots=True)
class ProcessClock:
    """A machine's: its wall clock may have been set wrong."""

    world: World
    offset: timedelta = field(default=timedelta(0))

    def now(self) -> datetime:
        return self.world.clock.now() + self.offset

    def monotonic(self) -> float:
        return self.world.now_s
