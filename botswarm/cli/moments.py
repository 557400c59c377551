"""Moments as people type them: a date and time, a time of today, how long ago; and durations."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 36_500 * 86_400.0
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Moment(click.ParamType[datetime]):
    """In UTC where no zone is said."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        found = read(str(value), datetime.now(UTC))
        if found is None:
            self.fail(
                f"{value!r} is no time: write 2026-03-04T12:00, 12:00 (today, UTC), 10m (ago) "
                "or now",
                param,
                ctx,
            )
        return found


def read(text: str, now: datetime) -> datetime | None:
    text = text.strip()
    if text == "now":
        return now
    if (ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text)) is not None:
        try:
            return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        except OverflowError:
            return None
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        hour, _, rest = text.partition(":")
        text = f"{now:%Y-%m-%d}T{hour:0>2}:{rest}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


MOMENT = Moment()


class Duration(click.ParamType[float]):
    """In seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d)?", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration: write 60s, 5m or 1h", param, ctx)
        seconds = float(found[1]) * UNITS_S[found[2] or ""]
        if seconds > LONGEST_S:
            self.fail(f"{value!r} is longer than any clock goes on: 36500d at most", param, ctx)
        return seconds
