"""Moments as people type them: a date and time, a time of today, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


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
        return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        hour, _, rest = text.partition(":")
        text = f"{now:%Y-%m-%d}T{hour:0>2}:{rest}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


MOMENT = Moment()
