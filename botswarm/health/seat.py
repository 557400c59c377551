"""A process's name in the state folder, which nobody else has while it runs."""

from __future__ import annotations

import fcntl
import re
import time
from pathlib import Path
from typing import IO

from botswarm import cards, forks
from botswarm.health.card import ProcessCard, folder

NAMES_MAX = 100
LOOKS = 10
LOOK_AGAIN_S = 0.02


class Seat:
    """A process's name, held by a lock that its death gives back, however it dies."""

    def __init__(self, state_dir: Path, wanted: str) -> None:
        """Raises OSError where the state folder cannot be used."""
        self._folder = folder(state_dir)
        for each in (state_dir, self._folder):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.name, self._lock = self._take(re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted))
        self.path = self._folder / f"{self.name}.json"
        self.last = cards.read(self.path, ProcessCard)
        """The card of the process that had the name before."""
        forks.not_for_children(self)

    def _take(self, wanted: str) -> tuple[str, IO[str]]:
        for number in range(1, NAMES_MAX):
            name = wanted if number == 1 else f"{wanted}-{number}"
            lock = (self._folder / f"{name}.lock").open("a")
            if _is_mine(lock):
                return name, lock
            lock.close()
        raise OSError(f"{NAMES_MAX} processes are named {wanted} here")

    def write(self, card: ProcessCard) -> None:
        cards.write(self.path, card)

    def leave(self) -> None:
        """Whoever ends in order is missed by nobody: no card stays."""
        self.path.unlink(missing_ok=True)
        self._lock.close()

    def leave_to_parent(self) -> None:
        # The lock itself belongs to the opening, which is the parent's too: it stays held.
        self._lock.close()


def _is_mine(lock: IO[str]) -> bool:
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            # Somebody who only looks whether it is held, holds it for a moment.
            time.sleep(LOOK_AGAIN_S)
    return False
