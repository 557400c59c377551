"""The settings of risk sweeps: when the trading day begins, and what counts as old or stuck."""

from __future__ import annotations

import re

from botswarm.config.kinds import Kind, Setting, switch, whole_number
from botswarm.errors import Problem


def _time_of_day(text: str) -> object:
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text)
    if match is not None and int(match[1]) < 24 and int(match[2]) < 60:
        return f"{int(match[1]):02d}:{match[2]}"
    return Problem(f"is {text!r}, not a time of day", "write a time in UTC such as 00:00 or 22:00")


SWEEPING: tuple[Setting, ...] = (
    Setting(
        name="risk_day_begins",
        kind=Kind(
            read=_time_of_day,
            schema={"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}$"},
            words="a time of day in UTC, such as 22:00",
        ),
        help="When a trading day begins: daily losses, realised and not, are counted from then on.",
        default="00:00",
    ),
    Setting(
        name="risk_mark_age_max_s",
        kind=whole_number(5, 86_400, "seconds"),
        help="A price older than this, by the exchange's own clock, values no position: what rests "
        "on it is unknown, and a limit that needs it refuses what would grow.",
        default=60,
    ),
    Setting(
        name="risk_order_stuck_after_s",
        kind=whole_number(5, 86_400, "seconds"),
        help="An order that should have moved on and has not for so long is reported as stuck.",
        default=60,
    ),
    Setting(
        name="risk_close_on_breach",
        kind=switch(),
        help="Whether a limit of losses that is broken also closes the positions of its scope, by "
        "market orders; off only lets nothing grow any more.",
        default=False,
    ),
)
