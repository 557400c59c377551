"""Carries what log files say to a place that outlives this machine: each line once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from botswarm import logfiles
from botswarm.backup import log_pieces, sealing
from botswarm.backup.log_marks import BUSY_S, STATE, Mark, Marks, marks_of, sole_carrier
from botswarm.backup.place import place_of
from botswarm.backup.sealing import spoken
from botswarm.backup.shelf import Store, log_store
from botswarm.config import Settings
from botswarm.errors import BotswarmError, Refused
from botswarm.keys.envelope import MasterKey

logger = logging.getLogger(__name__)

OPEN_MAX = 100
"""Files of one name that are carried at once."""
NONE = Mark()


@dataclass(frozen=True, slots=True)
class Lost:
    """A file that was put away before all of it was carried."""

    log: Path
    bytes: int
    """That were known of; it may have grown since it was seen."""


@dataclass(slots=True)
class Round:
    """What became of it, also where it was cut short by ``trouble``."""

    pieces: list[str] = field(default_factory=list)
    """Their keys."""
    bytes: int = 0
    lost: list[Lost] = field(default_factory=list)
    trouble: BotswarmError | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A log file as it lies there."""

    id: str
    size: int
    is_live: bool
    descriptor: int
    """Open while there is something to carry: a moment later its name may be another one's."""

    def is_owed(self, done: Mapping[str, Mark]) -> bool:
        mark = done.get(self.id, NONE)
        return mark.carried < max(self.size, mark.until)


class Carrier:
    def __init__(self, settings: Settings, store: Store, key: MasterKey | None) -> None:
        self._settings = settings
        self._store = store
        self._key = key

    @property
    def place(self) -> str:
        return self._store.url

    def owed(self) -> Mapping[Path, int]:
        """Bytes of each log file that are still to be carried; nothing is written down."""
        marks, found = self._marks(), {}
        for log in self._logs(marks):
            done = marks.of(log)
            with ExitStack() as opened:
                files = _opened(log, done, opened)
            found[log] = sum(each.size - done.get(each.id, NONE).carried for each in files)
        return found

    def round(self, patience_s: float = BUSY_S) -> Round:
        done = Round()
        try:
            with sole_carrier(self._settings.state_dir, patience_s) as folder:
                marks = self._marks()
                for log in self._logs(marks):
                    while self._carry_all(marks, log, folder, done):
                        pass
        except BotswarmError as error:
            done.trouble = error
        return done

    def _marks(self) -> Marks:
        return marks_of(self._settings.state_dir, self._store.url)

    def _logs(self, marks: Marks) -> Sequence[Path]:
        """Also one that nobody writes to any more, until all of it has been carried or is gone."""
        own = [self._settings.log_file] if self._settings.log_file is not None else []
        found = logfiles.files_of(self._settings.state_dir / "logs", *own)
        return list(dict.fromkeys([*(each.absolute() for each in found), *map(Path, marks.files)]))

    def _carry_all(self, marks: Marks, log: Path, folder: Path, done: Round) -> bool:
        """Whether there is more of it than is carried at once."""
        before = marks.of(log)
        with ExitStack() as opened:
            try:
                files = _opened(log, before, opened)
            except BotswarmError as error:
                # One that cannot be read keeps none of the others.
                done.trouble = error
                return False
            self._look(marks, log, files, done)
            chosen = _carried_now(files, before)
            for each in chosen:
                self._carry(marks, log, each, folder, done)
        return len(chosen) == OPEN_MAX

    def _look(self, marks: Marks, log: Path, files: Sequence[Seen], done: Round) -> None:
        """Write down all that is there before any of it is carried: what then goes is missed."""
        before, there = marks.of(log), {each.id for each in files}
        for file, mark in before.items():
            # It has been written to until it was put aside, since it was seen.
            has_grown = mark.is_live and bool(files)
            if file not in there and (mark.carried < mark.size or has_grown):
                done.lost.append(Lost(log, mark.size - mark.carried))
                logger.error(
                    "a file of %s was put away before all of it was carried to the archive of "
                    "logs: %d bytes and what came after them; raise BOTSWARM_LOG_FILES_KEPT, and "
                    "see why it is behind",
                    log,
                    mark.size - mark.carried,
                )
        marks.put(
            log,
            {
                each.id: replace(before.get(each.id, NONE), size=each.size, is_live=each.is_live)
                for each in files
            },
        )

    def _carry(self, marks: Marks, log: Path, seen: Seen, folder: Path, done: Round) -> None:
        while True:
            mark = marks.of(log)[seen.id]
            end = mark.until
            if end <= mark.carried:
                # What is written meanwhile is the next round's, or this one might never end.
                end = log_pieces.end_of(
                    seen.descriptor, mark.carried, seen.size, is_put_aside=not seen.is_live
                )
                if end <= mark.carried:
                    return
            mark = replace(mark, until=end, key=self._key_of(log, seen, mark, end))
            marks.mark(log, seen.id, mark)
            self._put(seen.descriptor, mark, folder)
            done.pieces.append(mark.key)
            done.bytes += end - mark.carried
            marks.mark(log, seen.id, replace(mark, carried=end, size=max(mark.size, end), key=""))

    def _key_of(self, log: Path, seen: Seen, mark: Mark, end: int) -> str:
        """That of before where the piece may have arrived already."""
        if mark.until == end and mark.key.endswith(log_pieces.ending(self._key)):
            return mark.key
        span = log_pieces.span_of(seen.descriptor, mark.carried, end)
        place = log_pieces.folder_of(self._settings.instance_id)
        return f"{place}/{log_pieces.named(log, seen.id, span, mark.carried, self._key)}"

    def _put(self, descriptor: int, mark: Mark, folder: Path) -> None:
        packed = folder / f"piece{sealing.extension(self._key)}"
        packed.unlink(missing_ok=True)
        try:
            with (
                spoken(packed, STATE),
                sealing.writing(packed, mark.key, self._key) as (sink, _),
            ):
                packed.chmod(logfiles.OWNER_ONLY)
                for block in _blocks(descriptor, mark.carried, mark.until):
                    sink.write(block)
            self._store.put(mark.key, packed)
        finally:
            packed.unlink(missing_ok=True)


def carrier_of(settings: Settings) -> Carrier:
    """Sealed where backups are. Raises NotFound where no place is named."""
    return Carrier(settings, log_store(settings), place_of(settings).key)


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    while start < end and (block := os.pread(descriptor, min(sealing.CHUNK, end - start), start)):
        start += len(block)
        yield block


def _opened(log: Path, done: Mapping[str, Mark], opened: ExitStack) -> Sequence[Seen]:
    """All files of that name, the oldest first."""
    found: list[Seen] = []
    if not log.parent.is_dir():
        return found
    with spoken(log, STATE):
        _refuse_foreign(log)
        with logfiles.unrotated(log):
            for path in (*reversed(logfiles.put_aside(log)), log):
                if path.exists():
                    with ExitStack() as kept:
                        seen = _seen(path, path == log, kept)
                        if seen is None:
                            continue
                        found.append(seen)
                        if seen.is_owed(done) and seen in _carried_now(found, done):
                            opened.push(kept.pop_all())
    return found


def _seen(path: Path, is_live: bool, kept: ExitStack) -> Seen | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    kept.callback(os.close, descriptor)
    file = log_pieces.identity(descriptor, is_put_aside=not is_live)
    if file is None:
        return None
    return Seen(file, os.fstat(descriptor).st_size, is_live, descriptor)


def _carried_now(files: Sequence[Seen], done: Mapping[str, Mark]) -> Sequence[Seen]:
    """Those that are open."""
    return [each for each in files if each.is_owed(done)][:OPEN_MAX]


def _refuse_foreign(log: Path) -> None:
    """What this leaves beside a file could not be used by those who write it."""
    if log.exists() and log.stat().st_uid != os.geteuid():
        raise Refused(f"{log} belongs to another user", cure="run this as that user")
