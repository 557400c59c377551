"""A beat whose clock on the wall can be set from outside, with entries that come quickly."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from botswarm.messages import Probe
from botswarm.queueing.timetable import Reading
from botswarm.schedule import DAY_S, HOUR_S, Entry
from workers.beat import LedgerScheduler

OFFSET = Path(os.environ.get("TWO_BEATS_OFFSET", os.devnull))

TABLE = (
    Entry("rapid", Probe(text="rapid"), every_s=0.25),
    Entry("second", Probe(text="second"), every_s=1),
    Entry("minute", Probe(text="minute"), every_s=60),
    Entry("hourly", Probe(text="hourly"), every_s=HOUR_S, at_s=0, late_s=HOUR_S),
    Entry("sixth-hours", Probe(text="sixth-hours"), every_s=600, at_s=0, late_s=120),
    Entry("daily", Probe(text="daily"), every_s=DAY_S, at_s=2 * HOUR_S, late_s=DAY_S / 2),
)


def offset_s() -> float:
    try:
        return float(OFFSET.read_text())
    except (OSError, ValueError):
        return 0.0


class ShiftedScheduler(LedgerScheduler):
    table = TABLE

    def reading(self) -> Reading:
        true = super().reading()
        return replace(true, wall=true.wall + offset_s())
