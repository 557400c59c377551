"""Lines into compressed files that can be read after any crash, by any reader of .gz."""

from __future__ import annotations

import gzip
import io
import logging
import os
import threading
from pathlib import Path

from botswarm.errors import Unreachable

logger = logging.getLogger(__name__)

BLOCK_BYTES = 256 * 1024
BLOCK_S = 1.0
"""What is more, or waits longer, is written: no more is lost when the process is killed."""
WAITING_MAX_BYTES = 32 * 1024 * 1024
"""A disk slower than the venue costs lines, not memory."""
ROTATE_BYTES = 256 * 1024 * 1024
COMPRESSION = 6
STOP_TIMEOUT_S = 10.0


class BlockFile:
    """Each block is a whole gzip member, compressed and written by a thread of its own.

    Rotated by size: ``name.gz``, then ``name.1.gz``, ``name.2.gz`` and so on, the oldest deleted
    where ``keep_bytes`` says how much may stay. Files that are there are never written over. A
    full disk ends the recording, is told in ``trouble``, and disturbs nobody else.
    """

    def __init__(
        self,
        path: Path,
        *,
        heading: bytes = b"",
        rotate_bytes: int = ROTATE_BYTES,
        keep_bytes: int | None = None,
    ) -> None:
        self._path = path
        self._heading = heading
        self._rotate_bytes = rotate_bytes
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._count = 0
        self._size = 0
        self._kept: list[tuple[Path, int]] = []
        self.lines = 0
        self.lost = 0
        """Lines that were not written: the disk is full, or slower than what comes."""
        self.bytes_written = 0
        self.trouble = ""
        self._file: io.FileIO | None = self._opened()
        self._thread = threading.Thread(
            target=self._run, name=f"recording {path.name}", daemon=True
        )
        self._thread.start()

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self._kept] + [self._numbered(self._count - 1)]

    def write(self, line: bytes) -> None:
        """Takes as long as it takes to remember it."""
        with self._lock:
            if self.trouble or len(self._waiting) + len(line) > WAITING_MAX_BYTES:
                self.lost += 1
                if self.lost == 1 and not self.trouble:
                    logger.warning(
                        "%s is written slower than lines come: some are lost", self._path
                    )
                return
            self._waiting += line
            self.lines += 1
            is_much = len(self._waiting) >= BLOCK_BYTES
        if is_much:
            self._wake.set()

    def close(self) -> None:
        """Write what waits."""
        self._stop.set()
        self._wake.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.wait(BLOCK_S)
                self._wake.clear()
                self._flush()
            self._flush()
        except (OSError, Unreachable) as error:
            self.trouble = f"{self._path} cannot be written any more: {error}"
            logger.error("%s; nothing more is recorded there", self.trouble)
        finally:
            if self._file is not None:
                self._file.close()

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, bytearray()
        if not waiting or self._file is None:
            return
        self._write(gzip.compress(waiting, COMPRESSION, mtime=0))
        if self._size >= self._rotate_bytes:
            self._rotate()

    def _write(self, block: bytes) -> None:
        if self._file is None:
            return
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._size += len(block)
        self.bytes_written += len(block)

    def _rotate(self) -> None:
        if self._file is not None:
            self._file.close()
        self._kept.append((self._numbered(self._count - 1), self._size))
        self._size = 0
        self._file = self._opened()
        while self._keep_bytes is not None and self._kept:
            if sum(size for _, size in self._kept) + self._rotate_bytes <= self._keep_bytes:
                return
            oldest, _ = self._kept.pop(0)
            oldest.unlink(missing_ok=True)

    def _opened(self) -> io.FileIO:
        path = self._numbered(self._count)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = io.FileIO(os.open(path, flags, 0o644), "wb")
            self._count += 1
            if self._heading:
                self._write(gzip.compress(self._heading + b"\n", mtime=0))
        except FileExistsError as error:
            raise Unreachable(
                f"{path} is there already, and recordings are never written over",
                cure="choose another name, or move it away",
            ) from error
        except OSError as error:
            raise Unreachable(
                f"{path} cannot be written: {error.strerror}", cure="choose a folder that can be"
            ) from error
        return self._file

    def _numbered(self, number: int) -> Path:
        if number == 0:
            return self._path
        stem, dot, ending = self._path.name.partition(".")
        return self._path.with_name(f"{stem}.{number}{dot}{ending}")
