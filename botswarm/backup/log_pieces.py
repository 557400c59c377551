"""A piece of a log file: whole lines, under a key that says whose they are and of when."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from botswarm.backup.sealing import extension
from botswarm.keys.envelope import MasterKey
from botswarm.logfiles import BLOCK_BYTES, moment_of, parsed

PIECE_MAX = 64_000_000
"""Bytes of one: what a file has more than that becomes several."""
FIRST_LINE_MAX = 4096
"""So much of it tells one file from another."""
MOMENT = "%Y%m%dT%H%M%S.%f"
KEY = re.compile(
    r"(?P<instance>[^/]+)/(?P<process>[^/]+)/\d{4}-\d\d-\d\d/"
    r"(?P<first>\d{8}T\d{6}\.\d{6})-(?P<last>\d{8}T\d{6}\.\d{6})"
    r"-(?P<file>[0-9a-f]{16})-(?P<start>\d+)\.log(?P<packing>\.gz(\.aes)?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    key: str
    process: str
    first: datetime
    last: datetime
    file: str
    """Which of the files of that name, wherever it has been put aside meanwhile."""
    start: int
    """The first byte's place in that file."""
    packing: str
    """How it is packed, by the end of its name."""


def piece_of(key: str) -> Piece | None:
    """None for what is no such key."""
    found = KEY.fullmatch(key)
    if found is None:
        return None
    try:
        first, last = (_read(found[name]) for name in ("first", "last"))
    except ValueError:
        return None
    return Piece(
        key=key,
        process=found["process"],
        first=first,
        last=last,
        file=found["file"],
        start=int(found["start"]),
        packing=found["packing"],
    )


def ending(key: MasterKey | None) -> str:
    return f".log{extension(key)}"


def named(
    log: Path, file: str, span: tuple[datetime, datetime], start: int, key: MasterKey | None
) -> str:
    """Without the machine's name."""
    first, last = min(span), max(span)
    place = f"{folder_of(log.stem)}/{first:%Y-%m-%d}"
    return f"{place}/{first:{MOMENT}}-{last:{MOMENT}}-{file}-{start}{ending(key)}"


def folder_of(name: str) -> str:
    """A name as one step of a key, in a bucket and in a folder."""
    plain = re.sub(r"[^A-Za-z0-9_.:@-]", "_", name)
    return plain if plain.strip(".") else "_" * len(plain)


def identity(descriptor: int, *, is_put_aside: bool) -> str | None:
    """The same whatever its name is; None while not even its first line is whole.

    The system gives a file's number to another when it is gone, and lines may be alike.
    """
    line, newline, _ = os.pread(descriptor, FIRST_LINE_MAX, 0).partition(b"\n")
    if not (newline or len(line) == FIRST_LINE_MAX or (is_put_aside and line)):
        return None
    number = os.fstat(descriptor).st_ino
    return hashlib.sha256(b"%d:%s" % (number, line)).hexdigest()[:16]


def end_of(descriptor: int, start: int, size: int, *, is_put_aside: bool) -> int:
    """Up to where the next piece goes: a line that is being written is left for the one after."""
    end = min(size, start + PIECE_MAX)
    if end == size and is_put_aside:
        return end
    newline = _newline_before(descriptor, start, end)
    if newline is not None:
        return newline + 1
    return end if end < size else start


def span_of(descriptor: int, start: int, end: int) -> tuple[datetime, datetime]:
    """Of the first and the last line; that of the file where they do not tell."""
    newline = _newline_before(descriptor, start, end - 1)
    last = start if newline is None else newline + 1
    written = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
    return _moment_at(descriptor, start) or written, _moment_at(descriptor, last) or written


def _moment_at(descriptor: int, place: int) -> datetime | None:
    line = os.pread(descriptor, BLOCK_BYTES, place).partition(b"\n")[0]
    return moment_of(parsed(line) or {})


def _newline_before(descriptor: int, start: int, end: int) -> int | None:
    while end > start:
        begin = max(start, end - BLOCK_BYTES)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found
        end = begin
    return None


def _read(text: str) -> datetime:
    return datetime.strptime(text, MOMENT).replace(tzinfo=UTC)
