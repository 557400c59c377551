"""The archive of a SQLite ledger: a copy of all of it, and then the pages that change."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from botswarm.backup import wal
from botswarm.backup.folder import ARCHIVE, Folder
from botswarm.backup.increments import Piece, Pieces, moment_of, spelled
from botswarm.backup.sealing import Damaged
from botswarm.backup.wal import Pages
from botswarm.keys.envelope import MasterKey

_NUMBER = struct.Struct(">I")
FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the archive brought a copy: everything committed until ``at`` is in it."""

    at: datetime
    head: tuple[int, str] | None
    number: int


def pieces_of(folder: Folder, backup_id: str, key: MasterKey | None) -> Pieces:
    name = f"{backup_id}{ARCHIVE}"
    return Pieces(folder.path / name, name, key)


class PageWriter:
    """Adds to the archive of one copy; each piece names the one before it."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._number = 0
        self._before = FIRST
        self.bytes = 0

    def add(self, pages: Pages, at: datetime, head: tuple[int, str] | None) -> None:
        """Returns when it is on the disk. Where nothing changed, only the mark is written anew."""
        if pages.size:
            number = self._number + 1
            about = {
                "number": number,
                "before": self._before,
                "page_size": pages.page_size,
                "size": pages.size,
                "pages": len(pages.found),
            }
            piece = self._pieces.add(
                f"{number:08d}.{spelled(at)}", io.BufferedReader(_Written(about, pages))
            )
            self._number, self._before = number, piece.sha256
            self.bytes += piece.path.stat().st_size
        self._pieces.say({"number": self._number, "last": self._before, "at": at, "head": head})


class _Written(io.RawIOBase):
    """A header line and the pages, one after the other, as a stream."""

    def __init__(self, about: Mapping[str, Any], pages: Pages) -> None:
        self._left = json.dumps(about).encode() + b"\n"
        self._pages: Iterator[tuple[int, bytes]] = iter(pages)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._left) < len(buffer):
            each = next(self._pages, None)
            if each is None:
                break
            self._left += _NUMBER.pack(each[0]) + each[1]
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def apply(pieces: Pieces, copy: Path, until: datetime | None) -> Reached | None:
    """Bring a copy as far as the archive goes, or as far as ``until``; None without an archive.

    Raises Damaged where a piece is missing, was changed, or does not follow.
    """
    said = pieces.said()
    found = pieces.list()
    if said is None:
        if found:
            raise Damaged(f"the archive {pieces.path.name} has lost its mark")
        return None
    _check_row(pieces, found, said)
    number, before, reached = 0, FIRST, None
    for piece in found:
        at = moment_of(piece.stem.partition(".")[2])
        if until is not None and at > until:
            break
        with pieces.open(piece) as content:
            about = _about(piece, content)
            if (about["number"], about["before"]) != (number + 1, before):
                raise Damaged(f"{piece.path.name} does not follow the piece before it")
            wal.put(copy, _pages(about, content), about["page_size"], about["size"])
        number, before, reached = number + 1, piece.sha256, at
    is_all = number == said["number"]
    if is_all:
        reached = datetime.fromisoformat(said["at"])
    if reached is None:
        return None
    head = tuple(said["head"]) if is_all and said["head"] is not None else None
    return Reached(reached, head, number)


def last(pieces: Pieces) -> datetime | None:
    """Up to which moment the archive goes."""
    said = pieces.said()
    return None if said is None else datetime.fromisoformat(said["at"])


def check(pieces: Pieces) -> int:
    """Every byte and every seal; answers how many pieces there are. Raises Damaged."""
    said = pieces.said()
    found = pieces.list()
    if said is None and not found:
        return 0
    if said is None:
        raise Damaged(f"the archive {pieces.path.name} has lost its mark")
    _check_row(pieces, found, said)
    for piece in found:
        with pieces.open(piece) as content:
            while content.read(1 << 20):
                pass
    return len(found)


def _check_row(pieces: Pieces, found: Any, said: Mapping[str, Any]) -> None:
    try:
        number, last_hash = int(said["number"]), str(said["last"])
        datetime.fromisoformat(said["at"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the mark of the archive {pieces.path.name} was changed") from error
    # The mark is written after the piece it speaks of, and more may have come since it was read.
    if len(found) < number:
        raise Damaged(
            f"the archive {pieces.path.name} has {len(found)} pieces, and its mark says {number}"
        )
    if number and found[number - 1].sha256 != last_hash:
        raise Damaged(f"the last piece of the archive {pieces.path.name} is another one")


def _about(piece: Piece, content: IO[bytes]) -> dict[str, Any]:
    try:
        about = json.loads(content.readline(4096))
        return {name: about[name] for name in ("number", "before", "page_size", "size", "pages")}
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{piece.path.name} does not begin as a piece of the archive does") from error


def _pages(about: Mapping[str, Any], content: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for _ in range(about["pages"]):
        number = content.read(_NUMBER.size)
        page = content.read(about["page_size"])
        if len(number) < _NUMBER.size or len(page) < about["page_size"]:
            raise Damaged("a piece of the archive ends too soon")
        yield _NUMBER.unpack(number)[0], page
    if content.read(1):
        raise Damaged("a piece of the archive has more than it says")
