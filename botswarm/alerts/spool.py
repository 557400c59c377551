"""What is known of alerts on this machine, for when the ledger cannot be asked or told."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import msgspec

from botswarm.domain.alert import Episode, Notice, Silence
from botswarm.errors import NotFound, TimedOut

logger = logging.getLogger(__name__)

FILE = "alerts.json"
LOCK = "alerts.lock"
ROUND_MAX_S = 15.0
"""A round without the ledger waits for it for a while, and for whoever is told."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    episodes: list[Episode] = field(default_factory=list)
    """Those that are open; while the ledger is away, also those that ended meanwhile."""
    silences: list[Silence] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    """Written while the ledger was away, told or not."""
    is_owed: bool = False
    """The ledger knows nothing of it yet."""


class Spool:
    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir
        self._path = state_dir / FILE
        self._unwritten: Kept | None = None
        """What no disk takes at the moment: known to this process alone."""

    @contextmanager
    def sole_judge(self) -> Iterator[bool]:
        """Yields whether we are the one who judges on this machine now."""
        try:
            lock = (self._folder / LOCK).open("a")
        except OSError as error:
            # Told twice is better than not at all.
            logger.warning("who judges alerts here cannot be settled: %s", error)
            yield True
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def age_s(self, now: float) -> float | None:
        """How long ago somebody judged, by the wall clock; None where nobody has."""
        try:
            return max(0.0, now - (self._folder / LOCK).stat().st_mtime)
        except FileNotFoundError:
            return None

    def mark(self) -> None:
        """Judged just now."""
        with contextlib.suppress(OSError):
            (self._folder / LOCK).touch()

    def read(self) -> Kept:
        if self._unwritten is not None:
            return self._unwritten
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except OSError:
            return Kept()
        except msgspec.DecodeError as error:
            kept = self._path.with_suffix(".unreadable")
            self._path.replace(kept)
            logger.error("what was known of alerts cannot be read (%s); moved to %s", error, kept)
            return Kept()

    def write(self, kept: Kept) -> None:
        """In one step, and on the disk when it returns: a notice in it is nowhere else.

        A disk that takes nothing is one of the things to tell people of, so it ends nothing.
        """
        try:
            self._write(kept)
            self._unwritten = None
        except OSError as error:
            logger.error("alerts are kept in memory only: %s", error)
            self._unwritten = kept

    def acknowledge(
        self, name: str, subject: str | None, *, actor: str, now: datetime
    ) -> Sequence[Episode]:
        """Somebody is at it, and the ledger cannot be told: it is, with the rest, when it is back.

        Raises NotFound where it does not hold, TimedOut where a round goes on and on.
        """

        def is_meant(each: Episode) -> bool:
            return each.name == name and each.ended_at is None and subject in (None, each.subject)

        deadline = time.monotonic() + ROUND_MAX_S
        while any(map(is_meant, self.read().episodes)):
            with self.sole_judge() as is_ours:
                if is_ours:
                    return self._take(is_meant, actor, now)
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"this machine's watch was busy for {ROUND_MAX_S:g} s", cure="say it again"
                )
            time.sleep(POLL_S)
        raise NotFound(f"no alert {name} is open", cure="see: botswarm alert list")

    def _take(
        self, is_meant: Callable[[Episode], bool], actor: str, now: datetime
    ) -> Sequence[Episode]:
        kept = self.read()
        taken = {
            each.key: replace(each, acknowledged_at=now, acknowledged_by=actor)
            for each in kept.episodes
            if is_meant(each)
        }
        episodes = [taken.get(each.key, each) for each in kept.episodes]
        self.write(replace(kept, episodes=episodes, is_owed=True))
        return list(taken.values())

    def _write(self, kept: Kept) -> None:
        temporary = self._path.with_name(f"{FILE}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            if kept.is_owed:
                os.fsync(file.fileno())
        temporary.replace(self._path)
