"""How amounts are written."""

from __future__ import annotations

from decimal import Decimal


def plain(value: Decimal) -> str:
    """The one way to write an amount: no exponent, no trailing zeros, no minus zero."""
    # Not Decimal.normalize(): that rounds to the context's precision.
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def plain_or_none(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
