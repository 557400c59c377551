"""How many connections to a venue may be tried: counted for the whole machine, over restarts."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from botswarm.clock import BOOT, since_boot_s

logger = logging.getLogger(__name__)

RESERVE = 0.1
"""This part of what a venue allows is left to the probe: it must be able to find a way back."""
LEISURE = 0.5
"""What is not urgent, such as renewing old connections, leaves this part to everything else."""

DIGITS = 6
"""Of a moment's second: the same in the file and in memory, so that none is counted twice."""


class Attempt(NamedTuple):
    boot_s: float
    """Since the machine was started: no setting of its clock moves it."""
    wall_s: float
    boot: str
    """Which start of which machine; empty where nobody knows."""

    def age_s(self, now: Attempt) -> float:
        """Never negative: what seems to come only later counts as of now."""
        if self.boot == now.boot:
            return max(0.0, now.boot_s - self.boot_s)
        return max(0.0, now.wall_s - self.wall_s)


def attempts_file(state_dir: Path, venue: str) -> Path:
    return state_dir / f"feed-attempts-{venue}.txt"


class Budget:
    """Attempts within any period, also those of other feeds on this machine and of earlier runs.

    They stand in a file, a line each: the venue counts by our address, not by our process. Their
    age is reckoned by the time since the machine's start; by the wall clock, which may be set,
    only where they are of another start.
    """

    def __init__(
        self,
        attempts_max: int,
        period_s: float,
        *,
        file: Path | None = None,
        clock: Callable[[], float] = since_boot_s,
        wall: Callable[[], float] = time.time,
        boot: str = BOOT,
    ) -> None:
        self.attempts_max = attempts_max
        self.period_s = period_s
        self._file = file
        self._clock, self._wall, self._boot = clock, wall, boot
        self._made: list[Attempt] = []
        self._lock = threading.Lock()
        self._failing = False

    def take(self, *, keep: float = RESERVE) -> float:
        """0.0 and the attempt is counted, or how long to wait before asking again.

        ``keep`` is the part that must be left afterwards; the probe keeps nothing.
        """
        with self._lock, _Shared(self) as made:
            now = self._now()
            allowed = max(1, int(self.attempts_max * (1 - keep)))
            is_room = len(made) < allowed
            wait_s = 0.0 if is_room else max(0.05, self.period_s - made[-allowed].age_s(now))
            if is_room:
                made.append(now)
            self._made = list(made)
            return wait_s

    @property
    def left(self) -> int:
        """As of the last attempt; those that have become old by now count no more."""
        now = self._now()
        with self._lock:
            return self.attempts_max - sum(each.age_s(now) < self.period_s for each in self._made)

    def _now(self) -> Attempt:
        return Attempt(round(self._clock(), DIGITS), round(self._wall(), DIGITS), self._boot)


class _Shared:
    """The attempts of the period, oldest first, held against other processes while in use."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._descriptor = -1
        self._made: list[Attempt] = []

    def __enter__(self) -> list[Attempt]:
        budget = self._budget
        lines: list[str] = []
        if budget._file is not None:
            try:
                budget._file.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(budget._file, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                size = os.fstat(self._descriptor).st_size
                lines = os.pread(self._descriptor, size, 0).decode("ascii", "replace").split("\n")
            except OSError as error:
                self._complain(error)
        now = budget._now()
        # Ours are in both, or in memory alone where the disk has been full.
        found = (Counter(_attempts(lines)) | Counter(budget._made)).elements()
        young = [_come(each, now) for each in found if each.age_s(now) < budget.period_s]
        self._made = sorted(young, key=lambda each: -each.age_s(now))
        return self._made

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        text = "".join(
            f"{each.boot_s:.{DIGITS}f} {each.wall_s:.{DIGITS}f} {each.boot}\n"
            for each in self._made
        ).encode()
        try:
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
            self._budget._failing = False
        except OSError as error:
            self._complain(error)
        finally:
            os.close(self._descriptor)

    def _complain(self, error: OSError) -> None:
        if not self._budget._failing:
            logger.warning(
                "attempts to connect cannot be kept in %s (%s): a restart will not know them",
                self._budget._file,
                error.strerror or error,
            )
        self._budget._failing = True


def _come(attempt: Attempt, now: Attempt) -> Attempt:
    """One that seems to come only later was made before a clock was set back: as of now."""
    is_ours = attempt.boot == now.boot
    is_later = attempt.boot_s > now.boot_s if is_ours else attempt.wall_s > now.wall_s
    return now if is_later else attempt


def _attempts(lines: list[str]) -> list[Attempt]:
    found = []
    for line in lines:
        boot_s, _, rest = line.partition(" ")
        wall_s, _, boot = rest.partition(" ")
        try:
            # A line of an earlier version is the wall clock's time alone.
            attempt = Attempt(float(boot_s), float(wall_s or boot_s), boot)
        except ValueError:
            continue  # half a line of a process that was killed
        if math.isfinite(attempt.boot_s) and math.isfinite(attempt.wall_s):
            found.append(attempt)
    return found
