"""Loaded into a strategy worker that is measured: writes down when each of its passes ended."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import TextIO

from botswarm.bots import floor
from botswarm.queueing import current_settings


def folder(state_dir: Path) -> Path:
    return state_dir / "passes"


@cache
def _file(_: int) -> TextIO:
    where = folder(current_settings().state_dir)
    where.mkdir(parents=True, exist_ok=True)
    return (where / f"{os.getpid()}").open("a", buffering=1)


def _note(result: floor.Result) -> None:
    ended_ms = time.time() * 1e3
    row = (
        *(result.symbol, f"{ended_ms:.1f}", f"{ended_ms - result.received_ms:.1f}"),
        *(result.bots, result.asked, result.decided, result.orders),
    )
    _file(os.getpid()).write(" ".join(map(str, row)) + "\n")


floor.on_pass.append(_note)
