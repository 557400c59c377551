"""Numbers as people type them, held to what can be meant: how long to wait, and which row."""

from __future__ import annotations

import math
from typing import Any

import click

ROW_MAX = 2**31 - 1
"""No database can be asked for a row of a much larger number."""


class Row(click.types.IntParamType):
    """Of a row of the ledger."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = super().convert(value, param, ctx)
        if not 0 < number <= ROW_MAX:
            self.fail(f"{value!r} is the number of no row", param, ctx)
        return number


ROW = Row()


class Seconds(click.FloatRange):
    """How long to wait. Not a number is no end: nothing is ever later than that."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds
