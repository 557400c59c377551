"""The supervisor's notes in the state folder: who runs, for ``ps``, ``down`` and ``status``."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from botswarm import cards
from botswarm.errors import Unreachable

FILE = "up.json"
LOCK = "up.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessNote:
    name: str
    state: str
    pid: int | None
    restarts: int
    started_at: str | None
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    pid: int
    started_at: str
    processes: tuple[ProcessNote, ...]


def write(state_dir: Path, notes: Notes) -> None:
    cards.write(state_dir / FILE, notes)


def read(state_dir: Path) -> Notes | None:
    """The notes of a supervisor that runs now; None where none does."""
    if not cards.is_held(state_dir / LOCK):
        return None
    try:
        raw = json.loads((state_dir / FILE).read_text())
        processes = tuple(ProcessNote(**note) for note in raw.pop("processes"))
        return Notes(processes=processes, **raw)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _lock(lock: IO[str], state_dir: Path) -> None:
    for patience in range(10, -1, -1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            # Somebody who only looks whether it is held, holds it for a moment.
            if not patience:
                raise Unreachable(
                    f"a swarm already runs on {state_dir}",
                    cure="look at it with botswarm ps, or stop it with botswarm down",
                ) from error
        time.sleep(0.02)


@contextlib.contextmanager
def sole_supervisor(state_dir: Path) -> Iterator[None]:
    """One per state folder: two would start everything twice."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (state_dir / LOCK).open("a")
    except OSError as error:
        raise Unreachable(
            f"the state folder {state_dir} cannot be used: {error.strerror}",
            cure="choose another with BOTSWARM_STATE_DIR, or mend its permissions",
        ) from error
    with lock:
        _lock(lock, state_dir)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                (state_dir / FILE).unlink()
