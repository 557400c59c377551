"""Files of frames as they came in: one frame a line, compressed, readable after any crash."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from botswarm.errors import Unreachable

LINE_MAX_BYTES = 64 * 1024 * 1024
"""Longer than any frame a venue sends; a longer line is passed over and counted."""
BLOCK_BYTES = 256 * 1024
BLOCK_S = 1.0
"""What waits longer, or is more, is written: at most so much is lost when the process is killed."""
ROTATE_BYTES = 256 * 1024 * 1024
COMPRESSION = 6
_GZIP = b"\x1f\x8b"
_BASE64 = b"base64:"
# The time, and in recordings of ours the connection; a frame begins with neither.
_STAMP = re.compile(rb"(\d{1,12})(?:\.(\d{1,9}))?(?: ([A-Za-z0-9_.-]{1,40}))?: ?")


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    received_ms: int | None
    connection: str
    frame: bytes
    """As it came, without the stamp."""
    is_too_long: bool = False
    """Then the frame is only its beginning."""


class Truncated(Unreachable):
    """The compressed file ends in the middle of a block: what came before it was read."""


# --- reading ----------------------------------------------------------------------------------


def opened(path: str, stdin: io.BufferedReader) -> IO[bytes]:
    """``-`` is standard input; whether it is compressed is seen, whatever its name."""
    try:
        raw = stdin if path == "-" else Path(path).open("rb")  # noqa: SIM115 - the caller closes it
        is_compressed = raw.peek(2)[:2] == _GZIP
    except OSError as error:
        raise Unreachable(
            f"{path} cannot be read: {error.strerror}",
            cure="name a file of frames, or - for standard input",
        ) from error
    return cast("IO[bytes]", gzip.open(raw)) if is_compressed else raw


def lines(file: IO[bytes], *, line_max: int = LINE_MAX_BYTES) -> Iterator[Line]:
    """Each in turn, never more than one in memory. Raises Truncated at the end of a torn file."""
    for number in itertools.count(1):
        text = _readline(file, line_max + 1)
        if not text:
            return
        is_too_long = len(text) > line_max and not text.endswith(b"\n")
        if is_too_long:
            text = text[:200]
            while (rest := _readline(file, line_max)) and not rest.endswith(b"\n"):
                pass
        yield _line(number, text.rstrip(b"\r\n"), is_too_long)


def _readline(file: IO[bytes], limit: int) -> bytes:
    try:
        return file.readline(limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Truncated(
            f"the compressed file is torn: {error}",
            cure="its writer was killed, or the copy is not whole; what came before was read",
        ) from error


def _line(number: int, text: bytes, is_too_long: bool) -> Line:
    stamp = _STAMP.match(text)
    if stamp is None:
        return Line(number, None, "", text, is_too_long)
    seconds, fraction, connection = stamp.groups()
    received_ms = int(seconds) * 1000 + int((fraction or b"").ljust(3, b"0")[:3])
    frame = text[stamp.end() :]
    if connection and frame.startswith(_BASE64):
        # What cannot be decoded is no frame, and the session says so.
        with contextlib.suppress(ValueError):
            frame = base64.b64decode(frame[len(_BASE64) :], validate=True)
    return Line(number, received_ms, (connection or b"").decode(), frame, is_too_long)


# --- writing ----------------------------------------------------------------------------------


def stamped(received_ms: int, connection: str, frame: bytes) -> bytes:
    """One line; a frame that would not fit into one is written in base64."""
    if b"\n" in frame or b"\r" in frame or frame.startswith(_BASE64):
        frame = _BASE64 + base64.b64encode(frame)
    stamp = f"{received_ms // 1000}.{received_ms % 1000:03d} {connection}: "
    return stamp.encode() + frame + b"\n"


class BlockFile:
    """Lines in compressed blocks, each a whole gzip member: any reader of .gz takes the file.

    It is rotated by size: ``name.gz``, then ``name.1.gz``, ``name.2.gz`` and so on. Existing
    files are never written over. Threads share it; a full disk stops the recording, says so
    once, and disturbs nobody else.
    """

    def __init__(
        self,
        path: Path,
        *,
        monotonic: Callable[[], float],
        heading: bytes = b"",
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._heading = heading
        self._rotate_bytes = rotate_bytes
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._since = monotonic()
        self._size = 0
        self._count = 0
        self._file: io.FileIO | None = None
        self.lines = 0
        self.bytes_written = 0
        self.trouble = ""
        """Why it stopped."""
        self._open()

    @property
    def paths(self) -> list[Path]:
        return [self._numbered(number) for number in range(self._count)]

    def write(self, line: bytes) -> None:
        with self._lock:
            self._waiting += line
            self.lines += 1
            if len(self._waiting) >= BLOCK_BYTES or self._is_due():
                self._flush()

    def tick(self) -> None:
        """Write what has waited long enough, also when nothing more comes."""
        with self._lock:
            if self._waiting and self._is_due():
                self._flush()

    def close(self) -> None:
        with self._lock:
            self._flush()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _is_due(self) -> bool:
        return self._monotonic() - self._since >= BLOCK_S

    def _flush(self) -> None:
        self._since = self._monotonic()
        waiting, self._waiting = bytes(self._waiting), bytearray()
        if not waiting or self._file is None:
            return
        block = gzip.compress(waiting, COMPRESSION, mtime=0)
        try:
            self._file.write(block)
            self._size += len(block)
            self.bytes_written += len(block)
            if self._size >= self._rotate_bytes:
                self._file.close()
                self._open()
        except (OSError, Unreachable) as error:
            self.trouble = f"{self._path} cannot be written any more: {error}"
            self._file = None

    def _open(self) -> None:
        path = self._numbered(self._count)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = io.FileIO(os.open(path, flags, 0o644), "wb")
        except FileExistsError as error:
            raise Unreachable(
                f"{path} is there already, and recordings are never written over",
                cure="choose another name, or move it away",
            ) from error
        except OSError as error:
            raise Unreachable(
                f"{path} cannot be written: {error.strerror}", cure="choose a folder that can be"
            ) from error
        self._count += 1
        self._size = self._file.write(gzip.compress(self._heading, mtime=0)) if self._heading else 0

    def _numbered(self, number: int) -> Path:
        if number == 0:
            return self._path
        stem, dot, ending = self._path.name.partition(".")
        return self._path.with_name(f"{stem}.{number}{dot}{ending}")
