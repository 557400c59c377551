"""The exchange's own record: what it accepted, filled, ended and refused, one JSON line each.

It is written before anybody is told, and it is all there is: a restart rebuilds the exchange
from it, and an auditor compares the ledger with it. See docs/simulated-exchange.md.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from botswarm.errors import Unreachable

KIND: Final = "journal.jsonl"
FILE: Final = f"exchange-{KIND}"
Entry = dict[str, Any]


def path_of(state_dir: Path, part: str) -> Path:
    return state_dir / f"{part}-{KIND}"


class JournalFailed(Unreachable):
    """What happened could not be written down: the process must end before anybody is told."""


class Journal:
    """Open for writing by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise Unreachable(
                f"cannot write {path}: {error.strerror}",
                cure="make the folder writable, or name another with --state-dir",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise Unreachable(
                f"another simulated exchange is running on {path}",
                cure="stop it, or name another folder with --state-dir",
            ) from error
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A power cut can leave half a line; nobody was told of what it was about to say."""
        size = os.fstat(self._fd).st_size
        keep = size
        while keep:
            start = max(0, keep - 65_536)
            block = os.pread(self._fd, keep - start, start)
            if (end := block.rfind(b"\n")) >= 0:
                keep = start + end + 1
                break
            keep = start
        if keep != size:
            os.ftruncate(self._fd, keep)

    def write(self, entries: Sequence[Entry]) -> None:
        """In the hands of the operating system when it returns: a killed process loses none."""
        if not entries:
            return
        data = "".join(json.dumps(each, default=_plain) + "\n" for each in entries).encode()
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise JournalFailed(
                f"cannot write {self.path}: {error.strerror}",
                cure="make room on the disk, then start the exchange again: it goes on from there",
            ) from error

    def close(self) -> None:
        os.close(self._fd)


def last_start(path: Path) -> Entry | None:
    """How the last exchange was started, without reading everything that came of it."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        return None
    found = None
    with file:
        for line in file:
            if line.startswith('{"type": "start"') and line.endswith("\n"):
                found = line
    entry: Entry | None = json.loads(found) if found else None
    return entry


def read(path: Path) -> Iterator[Entry]:
    """Every whole line, oldest first."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise Unreachable(
                    f"line {number} of {path} is not JSON",
                    cure="restore the file from a backup, or move it away to start anew",
                ) from error
            yield entry


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)
