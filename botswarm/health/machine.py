"""What a machine has left: disk, memory, processor, and a clock that can be believed."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from botswarm.health.watch import Finding

DISK_WARN_PERCENT, DISK_FAIL_PERCENT = 80, 85
DISK_FREE_MIN_BYTES = 32_000_000
MEMORY_WARN_MB = 512
MEMORY_WARN_PERCENT, MEMORY_FAIL_PERCENT = 80, 95
CPU_OVER_S = 60.0
CPU_FIRST_S = 5.0
CLOCK_WARN_S, CLOCK_FAIL_S = 0.5, 1.0
"""Beyond a second off, venues refuse our orders."""
OFFSET_FRESH_S = 120.0
STEP_REMEMBERED_S = 600.0
"""From then on a clock that was set is believed: whoever set it meant it."""


def existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def disk_percent(used_bytes: int, free_bytes: int) -> float:
    """As df counts: what is reserved for root is neither used nor free."""
    return 100 * used_bytes / max(used_bytes + free_bytes, 1)


def disk(folder: Path) -> Finding:
    where = existing(folder)
    if not os.access(where, os.W_OK | os.X_OK):
        words = f"{where} cannot be written"
        return Finding(words=words, status="fail", cure="mend its permissions, or its disk")
    usage = shutil.disk_usage(where)
    percent = disk_percent(usage.used, usage.free)
    words = f"{percent:.0f} % used, {usage.free / 1e9:.1f} GB free"
    is_full = usage.free < DISK_FREE_MIN_BYTES
    return Finding(words=words, value=round(percent, 1), status="fail" if is_full else None)


def memory_free_mb() -> int | None:
    """Of the machine, or of the container where that is less."""
    known = memory_bytes()
    return None if known is None else known[1] // 1_048_576


def memory_bytes() -> tuple[int, int] | None:
    """Total and available; of the container where it has a limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        told = {name: int(rest.split()[0]) * 1024 for name, _, rest in
                (line.partition(":") for line in lines)}  # fmt: skip
        total, available = told["MemTotal"], told["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or "max": no limit
        return total, available
    return min(total, limit), min(available, limit - used)


def memory() -> Finding:
    known = memory_bytes()
    if known is None:
        return Finding(words="this system does not tell how much memory is free")
    total, available = known
    percent, free_mb = 100 * (total - available) / max(total, 1), available // 1_048_576
    words = f"{percent:.0f} % used, {free_mb} MB available"
    if percent > MEMORY_FAIL_PERCENT:
        return Finding(words=words, value=round(percent, 1), status="fail")
    is_low = percent > MEMORY_WARN_PERCENT and free_mb < MEMORY_WARN_MB
    return Finding(words=words, value=round(percent, 1), status="warn" if is_low else "ok")


class Processor:
    """How busy all cores were together over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque()

    def percent(self) -> float | None:
        told = _processor_times()
        if told is None:
            return None
        now = time.monotonic()
        self._seen.append((now, *told))
        while len(self._seen) > 2 and now - self._seen[1][0] > CPU_OVER_S:
            self._seen.popleft()
        since, busy, total = self._seen[0]
        if now - since < CPU_FIRST_S:
            return None
        return 100 * (told[0] - busy) / max(told[1] - total, 1e-9)

    def __call__(self) -> Finding:
        percent = self.percent()
        if percent is None:
            return Finding(words="not measured yet")
        load = os.getloadavg()[0]
        words = f"{percent:.0f} % of {os.cpu_count()} cores busy, load {load:.1f}"
        return Finding(words=words, value=round(percent, 1))


def _processor_times() -> tuple[float, float] | None:
    """Busy and all, summed over the cores."""
    try:
        words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    except OSError:
        return None
    ticks = [float(word) for word in words]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def clock_is_synchronised() -> bool | None:
    """Asks the kernel, as ntptime does; a read changes nothing and needs no rights."""
    unsynchronised = 5
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != unsynchronised


class WallClock:
    """Whether the clock was set since it was first looked at, and whether venues agree with it.

    A clock runs beside the one that nobody can set; where the two move apart, it was set.
    """

    def __init__(
        self,
        offsets: Callable[[], dict[str, tuple[float, float]]] = dict,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``offsets`` are how far each venue's clock was from ours, and how long ago it was so."""
        self._offsets, self._wall, self._monotonic = offsets, wall, monotonic
        self._apart = wall() - monotonic()
        self._set_at: float | None = None

    def __call__(self) -> Finding:
        fresh = {
            name: found for name, found in self._offsets().items() if found[1] < OFFSET_FRESH_S
        }
        worst = max(fresh, key=lambda venue: abs(fresh[venue][0]), default=None)
        off_s, age_s = (0.0, 0.0) if worst is None else fresh[worst]
        step_s = self._step_s()
        is_confirmed = worst is not None and abs(off_s) < CLOCK_WARN_S and age_s < self._set_for_s()
        if step_s and (is_confirmed or self._set_for_s() > STEP_REMEMBERED_S):
            self._believe()
            step_s = 0.0
        value = max(abs(step_s), abs(off_s))
        words = [f"the clock was set by {step_s:+.1f} s"] if step_s else []
        if worst is not None:
            words.append(f"{off_s:+.3f} s from {worst}")
        return Finding(
            words=", ".join(words) or _kept_words(),
            value=round(value, 3),
            status="fail" if value > CLOCK_FAIL_S else "warn" if value >= CLOCK_WARN_S else "ok",
        )

    def _step_s(self) -> float:
        step_s = self._wall() - self._monotonic() - self._apart
        if abs(step_s) < CLOCK_WARN_S:
            self._set_at = None
            return 0.0
        self._set_at = self._set_at or self._monotonic()
        return step_s

    def _set_for_s(self) -> float:
        return 0.0 if self._set_at is None else self._monotonic() - self._set_at

    def _believe(self) -> None:
        self._apart, self._set_at = self._wall() - self._monotonic(), None


def _kept_words() -> str:
    kept = clock_is_synchronised()
    if kept is None:
        return "runs evenly"
    return "kept right by NTP" if kept else "runs evenly; nothing keeps it right"
