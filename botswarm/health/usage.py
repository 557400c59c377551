"""What a process and the children it forked take of the machine: memory and processor time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SAMPLE_S = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class Usage:
    """Zeros where the system has no ``/proc``."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid or os.getpid()
        self._at, self._used = time.monotonic(), self._cpu_s()
        self._percent = 0.0
        self._bytes, self._bytes_at = 0, time.monotonic() - SAMPLE_S
        self._lock = threading.Lock()

    def children(self) -> list[int]:
        return list(_children(self._pid))

    def memory_bytes(self) -> int:
        """Resident; of each child what it has for itself. The kernel takes its time to say that,
        so it is asked now and then.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._bytes_at >= SAMPLE_S:
                own = _resident(self._pid)
                self._bytes = own + sum(_private(child) for child in _family(self._pid))
                self._bytes_at = now
            return self._bytes

    def cpu_percent(self) -> float:
        """Of one core, since it was asked for last; at least so many seconds are looked at."""
        with self._lock:
            now = time.monotonic()
            if now - self._at >= SAMPLE_S:
                used = self._cpu_s()
                self._percent = max(0.0, 100 * (used - self._used) / (now - self._at))
                self._at, self._used = now, used
            return self._percent

    def open_files(self) -> int:
        try:
            return len(os.listdir(f"/proc/{self._pid}/fd"))  # noqa: PTH208 - names only, fast
        except OSError:
            return 0

    def _cpu_s(self) -> float:
        return _cpu_s(self._pid) + sum(_cpu_s(child) for child in _family(self._pid))


def _family(pid: int) -> Iterator[int]:
    """All that descend from it."""
    for child in _children(pid):
        yield child
        yield from _family(child)


def _children(pid: int) -> Iterator[int]:
    for thread in _names(PROC / str(pid) / "task"):
        yield from map(int, _read(PROC / str(pid) / "task" / thread / "children").split())


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names only, fast
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended, or this system has no such file


def _resident(pid: int) -> int:
    words = _read(PROC / str(pid) / "statm").split()
    return int(words[1]) * PAGE_BYTES if len(words) > 1 else 0


def _private(pid: int) -> int:
    lines = _read(PROC / str(pid) / "smaps_rollup").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _cpu_s(pid: int) -> float:
    """Its own and that of children which have ended and were waited for."""
    _, _, rest = _read(PROC / str(pid) / "stat").rpartition(")")
    words = rest.split()
    return sum(map(int, words[11:15])) / TICKS_PER_S if len(words) > 14 else 0.0
