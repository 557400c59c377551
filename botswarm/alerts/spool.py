"""What is known of alerts on this machine, for when the ledger cannot be asked or told."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from botswarm.domain.alert import Episode, Notice, Silence

logger = logging.getLogger(__name__)

FILE = "alerts.json"
LOCK = "alerts.lock"


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

    def _write(self, kept: Kept) -> None:
        temporary = self._path.with_name(f"{FILE}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            if kept.is_owed:
                os.fsync(file.fileno())
        temporary.replace(self._path)
