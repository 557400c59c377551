"""Log files that many processes append to, that are rotated under their feet, and read again."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 16
DAY_S = 86_400
OWNER_ONLY = 0o600
FOLDER_MODE = 0o700
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """When a file is full, how many full ones there are, and for how long."""

    size_max_bytes: int
    files_max: int
    days_max: int


@dataclass(slots=True)
class AppendingFile:
    """One of maybe many that write to the same path: each line is one write, whole or not at all.

    Whoever finds it full rotates it; the others notice by the next line.
    """

    path: Path
    keeping: Keeping
    lost: int = 0
    """Lines that could not be written; the next one that can says how many."""
    _descriptor: int | None = field(default=None, repr=False)

    def write(self, line: str) -> bool:
        """Whether it was written: a full disk must not end the process that says so."""
        try:
            descriptor = self._opened()
            if self.lost:
                self._append(descriptor, _of_loss(self.lost))
                self.lost = 0
            self._append(descriptor, line)
            return True
        except OSError:
            self.lost += 1
            self.close()
            return False

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _append(self, descriptor: int, line: str) -> None:
        os.write(descriptor, line.encode(errors="replace") + b"\n")

    def _opened(self) -> int:
        if self._descriptor is not None and not self._is_ours():
            self.close()
        if self._descriptor is None:
            self._descriptor = self._open()
        if os.fstat(self._descriptor).st_size >= self.keeping.size_max_bytes:
            self._rotate()
            self._descriptor = self._open()
        return self._descriptor

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, OWNER_ONLY)
        except FileNotFoundError:
            self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            return os.open(self.path, flags, OWNER_ONLY)

    def _is_ours(self) -> bool:
        """Whether the path still leads to what is open: another process may have rotated it."""
        assert self._descriptor is not None
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return there.st_ino == os.fstat(self._descriptor).st_ino

    def _rotate(self) -> None:
        with unrotated(self.path):
            if self._is_ours():
                numbered = [self.path, *(_numbered(self.path, n) for n in self._numbers())]
                for newer, older in reversed(list(pairwise(numbered))):
                    if newer.exists():
                        newer.replace(older)
                self._forget_old()
        self.close()

    def _numbers(self) -> range:
        return range(1, self.keeping.files_max + 1)

    def _forget_old(self) -> None:
        before = time.time() - self.keeping.days_max * DAY_S
        for number, path in _rotated(self.path):
            if number > self.keeping.files_max or path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def unrotated(path: Path) -> Iterator[None]:
    """While this lasts nobody else puts the file aside, or renames those that were."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _of_loss(lines: int) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = f"{lines} lines before this one could not be written"
    return json.dumps({"time": now, "level": "warning", "logger": __name__, "message": said})


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def put_aside(path: Path) -> list[Path]:
    """The full ones, the latest first."""
    return [each for _, each in _rotated(path)]


def _rotated(path: Path) -> list[tuple[int, Path]]:
    """With their numbers."""
    found = []
    for each in path.parent.glob(f"{path.name}.*"):
        number = each.name.removeprefix(f"{path.name}.")
        if number.isdecimal():
            found.append((int(number), each))
    return sorted(found)


# --- reading --------------------------------------------------------------------------------------

Record = Mapping[str, Any]
Wanted = Callable[[bytes], bool]
"""Whether a line is worth parsing, by its bytes."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its moment; one that is no JSON has that of the line before it."""

    at: datetime
    record: Record
    source: str
    """The file's name, without its number."""


def parsed(raw: bytes) -> Record | None:
    """The fields of a line; None for one that is none of ours."""
    try:
        record = json.loads(raw)
        return record if isinstance(record, dict) else None
    except ValueError:
        return None


def moment_of(record: Record) -> datetime | None:
    try:
        return datetime.fromisoformat(str(record["time"])).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def read_backwards(path: Path) -> Iterator[list[bytes]]:
    """Whole lines of the file, the last block first: a hundred megabytes take no longer."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        end, rest = file.seek(0, 2), b""
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            lines = (file.read(end - start) + rest).splitlines(keepends=True)
            rest = lines.pop(0) if start > 0 and lines else b""
            yield lines
            end = start


class Follower:
    """Reads on where a log file was left, also when it was rotated meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity, self._offset = self._end()

    def new(self) -> list[bytes]:
        """Whole lines that came since."""
        identity, end = self._end()
        if identity != self._identity or end < self._offset:
            self._identity, self._offset = identity, 0
        if end == self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            block = file.read(end - self._offset)
        # The last line may not be whole yet.
        whole = block.rfind(b"\n") + 1
        self._offset += whole
        return block[:whole].splitlines()

    def _end(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size


def files_of(folder: Path, *named: Path) -> list[Path]:
    """The log files there are: those named, and all that the folder has."""
    return [*named, *(path for path in sorted(folder.glob("*.log")) if path not in named)]


def last(
    paths: Sequence[Path], count: int, wanted: Wanted, fits: Callable[[Record], bool]
) -> list[Line]:
    """The latest lines of all files together that fit, oldest first."""
    found: list[Line] = []
    for path in paths:
        mine: list[Line] = []
        for each in (path, *put_aside(path)):
            for block in read_backwards(each):
                mine = [*fitting(block, path.stem, wanted, fits), *mine]
                if len(mine) >= count:
                    break
            if len(mine) >= count:
                break
        found += mine[-count:]
    return sorted(found, key=lambda line: line.at)[-count:]


def through(
    paths: Sequence[Path],
    since: datetime,
    until: datetime,
    wanted: Wanted,
    fits: Callable[[Record], bool],
) -> Iterator[Line]:
    """All lines of a time that fit, oldest first, whatever file they are in."""
    streams = [_within(path, since, until, wanted, fits) for path in paths]
    yield from heapq.merge(*streams, key=lambda line: line.at)


def _within(
    path: Path,
    since: datetime,
    until: datetime,
    wanted: Wanted,
    fits: Callable[[Record], bool],
) -> Iterator[Line]:
    for each in (*reversed(put_aside(path)), path):
        try:
            # It was written last before this.
            if each.stat().st_mtime < since.timestamp():
                continue
            file = each.open("rb")
        except OSError:
            continue
        with file:
            for line in fitting(file, path.stem, wanted, fits):
                if line.at > until:
                    return
                if line.at >= since:
                    yield line


def fitting(
    raw: Sequence[bytes] | Iterator[bytes] | Any,
    source: str,
    wanted: Wanted,
    fits: Callable[[Record], bool],
) -> Iterator[Line]:
    at = NEVER
    for each in raw:
        # Most lines are about something else: they are not even parsed.
        if not wanted(each):
            continue
        record = parsed(each)
        if record is None:
            text = each.decode(errors="replace").rstrip("\n")
            record = {"level": "info", "message": text}
        at = moment_of(record) or at
        if fits(record):
            yield Line(at, record, source)
