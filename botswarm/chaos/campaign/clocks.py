"""Run a module with a wall clock that can be set wrong: ``python -m … FILE MODULE [WORDS…]``.

Only what the wall clock says is wrong; sleeps and durations are right, as after a jump of a real
clock. (libfaketime cannot do that for Python: with the other clocks left alone, every sleep fails.)
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botswarm.clock import SystemClock

FORMAT = struct.Struct("=d")


def tell(path: Path, seconds: float) -> None:
    """So far off is the clock of whoever runs with this file, from now on."""
    if not path.exists():
        path.write_bytes(FORMAT.pack(0.0))
    with path.open("r+b") as file:
        file.write(FORMAT.pack(seconds))


def install(path: Path) -> None:
    with path.open("r+b") as file:
        told = mmap.mmap(file.fileno(), FORMAT.size, access=mmap.ACCESS_READ)
    real = time.time

    def offset() -> float:
        return float(FORMAT.unpack_from(told)[0])

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=offset())

    time.time = lambda: real() + offset()
    SystemClock.now = now  # type: ignore[method-assign, assignment]


def main() -> None:
    path, module, *words = sys.argv[1:]
    install(Path(path))
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
