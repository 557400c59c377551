"""How entries of the schedule, their runs and what they missed are put into words."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botswarm.ledger.schedules import Known, Missed, Pause, Run
    from botswarm.schedule import Entry

RESULT_SHOWN = 40


def entry_words(entry: Entry) -> str:
    """``every 5 s``, ``daily 02:00``, ``hourly :10``."""
    from botswarm.schedule import DAY_S, HOUR_S

    if entry.at_s is None:
        return f"every {seconds_words(entry.every_s)}"
    at = timedelta(seconds=entry.at_s)
    clock = f"{at // timedelta(hours=1):02}:{at // timedelta(minutes=1) % 60:02}"
    if entry.every_s == DAY_S:
        return f"daily {clock}"
    if entry.every_s == HOUR_S:
        return f"hourly :{clock[3:]}"
    return f"every {seconds_words(entry.every_s)} from {clock}"


def seconds_words(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def state_of(known: Known, pause: Pause | None) -> str:
    if pause is not None:
        return pause.words
    if known.held is not None:
        return f"held back: {known.held}"
    return "on" if known.noted_at is not None else "not seen yet"


def moment_words(at: datetime | None, now: datetime) -> str | None:
    """The time alone where that is of today."""
    if at is None:
        return None
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def took_words(run: Known | Run) -> str | None:
    if run.started_at is None or run.ended_at is None or run.ended_at < run.started_at:
        return None
    seconds = (run.ended_at - run.started_at).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def result_words(known: Known) -> str | None:
    if known.outcome is None:
        return None
    said = _short(known.result or "")
    return f"{known.outcome}: {said}" if said else known.outcome


def run_words(run: Run, now: datetime) -> tuple[str, str | None, str]:
    """What it is, how long it took, and what came of it."""
    state = run.state(now)
    what = state if run.actor is None else f"{state}, by {run.actor}"
    return what, took_words(run), run.result or ""


def missed_words(missed: Missed) -> tuple[str, str | None, str]:
    since = f" since {missed.from_at:%Y-%m-%d %H:%M:%S}" if missed.slots > 1 else ""
    return f"missed {missed.slots}", None, f"{missed.reason}{since}"


def data_of(value: Any) -> dict[str, Any]:
    return {
        name: each.isoformat() if isinstance(each, datetime) else each
        for name, each in asdict(value).items()
    }


def _short(text: str) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= RESULT_SHOWN else line[: RESULT_SHOWN - 1] + "…"
