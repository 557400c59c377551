"""Each process's card in the state folder: its name, its role and the port where it answers."""

from __future__ import annotations

import fcntl
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from botswarm import cards, forks

logger = logging.getLogger(__name__)

FOLDER = "processes"
NAMES_MAX = 100
LOOKS = 10
LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCard:
    name: str
    """``feed``, ``orders``, ``orders-2``: unique on this state folder while the process runs."""
    role: str
    """``worker``, ``feed``, ``beat``, ``broker``, ``exchange``, ``paper``, …"""
    queues: Sequence[str] = ()
    """Of a worker."""
    pid: int
    host: str
    port: int
    machine: str
    instance_id: str
    version: str
    started_at: str

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def folder(state_dir: Path) -> Path:
    return state_dir / FOLDER


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


@dataclass(frozen=True, slots=True)
class Found:
    card: ProcessCard
    is_alive: bool
    age_s: float
    """Since the card was written."""


def found(state_dir: Path) -> tuple[Found, ...]:
    """Every process that has not ended in order, in the order of their names."""
    return tuple(_found(folder(state_dir)))


def _found(where: Path) -> Iterator[Found]:
    for path in sorted(where.glob("*.json"), key=lambda path: path.stem):
        card = cards.read(path, ProcessCard)
        if card is None:
            continue
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # it has just ended in order
        yield Found(card, _is_held(where / f"{card.name}.lock"), age_s)


def _is_held(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def forget(state_dir: Path, card: ProcessCard) -> None:
    """No longer miss a process that is gone for good."""
    (folder(state_dir) / f"{card.name}.json").unlink(missing_ok=True)
