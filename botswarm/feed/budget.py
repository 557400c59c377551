"""How many connections to a venue may be tried: counted for the whole machine, over restarts."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

RESERVE = 0.1
"""This part of what a venue allows is left to the probe: it must be able to find a way back."""
LEISURE = 0.5
"""What is not urgent, such as renewing old connections, leaves this part to everything else."""

DIGITS = 6
"""Of a moment's second: the same in the file and in memory, so that none is counted twice."""


def attempts_file(state_dir: Path, venue: str) -> Path:
    return state_dir / f"feed-attempts-{venue}.txt"


class Budget:
    """Attempts within any period, also those of other feeds on this machine and of earlier runs.

    They stand in a file, a line each: the venue counts by our address, not by our process.
    """

    def __init__(
        self,
        attempts_max: int,
        period_s: float,
        *,
        file: Path | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.attempts_max = attempts_max
        self.period_s = period_s
        self._file = file
        self._wall = wall
        self._made: deque[float] = deque()
        self._lock = threading.Lock()
        self._failing = False

    def take(self, *, keep: float = RESERVE) -> float:
        """0.0 and the attempt is counted, or how long to wait before asking again.

        ``keep`` is the part that must be left afterwards; the probe keeps nothing.
        """
        with self._lock, _Shared(self) as made:
            now = round(self._wall(), DIGITS)
            allowed = max(1, int(self.attempts_max * (1 - keep)))
            is_room = len(made) < allowed
            wait_s = 0.0 if is_room else max(0.05, self.period_s - (now - made[-allowed]))
            if is_room:
                made.append(now)
            self._made = deque(made)
            return wait_s

    @property
    def left(self) -> int:
        """As of the last attempt; those that have become old by now count no more."""
        since = self._wall() - self.period_s
        with self._lock:
            return self.attempts_max - sum(moment > since for moment in self._made)


class _Shared:
    """The attempts of the period, oldest first, held against other processes while in use."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._descriptor = -1
        self._made: list[float] = []

    def __enter__(self) -> list[float]:
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
        now = round(budget._wall(), DIGITS)
        # Ours are in both, or in memory alone where the disk has been full.
        found = (Counter(_moments(lines)) | Counter(budget._made)).elements()
        # A moment that has not come yet was written before the clock was set back.
        self._made = sorted(min(each, now) for each in found if now - each < budget.period_s)
        return self._made

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        text = "".join(f"{moment:.{DIGITS}f}\n" for moment in self._made).encode()
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


def _moments(lines: list[str]) -> list[float]:
    found = []
    for line in lines:
        try:
            found.append(float(line))
        except ValueError:
            continue  # half a line of a process that was killed
    return [moment for moment in found if moment == moment]
