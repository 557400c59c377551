"""What the whole machine is busy with, told by one of its processes: processor, memory, disks."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from botswarm import forks, metrics
from botswarm.health import card, machine
from botswarm.metrics import Rows, Samples

LOCK = "host.lock"
LOOPBACK = ("lo", "lo0")


class Host:
    """Whoever holds the lock tells; it is free again when that process is gone."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock: IO[str] | None = None
        self._processor = machine.Processor()
        forks.not_for_children(self)

    def leave_to_parent(self) -> None:
        self.release()

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _tells(self) -> bool:
        if self._lock is not None:
            return True
        try:
            lock = (card.folder(self._state_dir) / LOCK).open("a")
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def collect(self) -> Iterable[Samples]:
        if not self._tells():
            return
        percent = self._processor.percent()
        if percent is not None:
            yield Samples(metrics.HOST_CPU_PERCENT, [((), percent)])
        load: Rows = [
            ((over,), value)
            for over, value in zip(("1m", "5m", "15m"), os.getloadavg(), strict=True)
        ]
        yield Samples(metrics.HOST_LOAD, load)
        yield from self._memory()
        yield from self._disk()
        yield from _moved()

    def _memory(self) -> Iterable[Samples]:
        known = machine.memory_bytes()
        if known is not None:
            total, available = map(float, known)
            rows: Rows = [
                (("total",), total),
                (("available",), available),
                (("used",), total - available),
            ]
            yield Samples(metrics.HOST_MEMORY_BYTES, rows)

    def _disk(self) -> Iterable[Samples]:
        usage = shutil.disk_usage(machine.existing(self._state_dir))
        rows: Rows = [
            (("total",), float(usage.total)),
            (("used",), float(usage.used)),
            (("free",), float(usage.free)),
        ]
        yield Samples(metrics.HOST_DISK_BYTES, rows)
        ratio = machine.disk_percent(usage.used, usage.free) / 100
        yield Samples(metrics.HOST_DISK_USED_RATIO, [((), ratio)])


def _moved() -> Iterable[Samples]:
    """Over disks and network, since the machine was started."""
    import psutil  # not on top: one process of a machine needs it

    disks = psutil.disk_io_counters()
    if disks is not None:
        operations: Rows = [(("read",), disks.read_count), (("write",), disks.write_count)]
        yield Samples(metrics.HOST_DISK_OPERATIONS, operations)
        moved: Rows = [(("read",), disks.read_bytes), (("write",), disks.write_bytes)]
        yield Samples(metrics.HOST_DISK_MOVED_BYTES, moved)
    each = psutil.net_io_counters(pernic=True)
    outside = [found for name, found in each.items() if name not in LOOPBACK]
    rows: Rows = [
        (("sent",), float(sum(found.bytes_sent for found in outside))),
        (("received",), float(sum(found.bytes_recv for found in outside))),
    ]
    yield Samples(metrics.HOST_NETWORK_BYTES, rows)
