"""Answers of venues as JSON: numbers as they are written, and words for what cannot be read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from botswarm.errors import Unreachable
from botswarm.exchanges.transport import Response


def said(response: Response) -> Any:
    """Raises ValueError for what is no JSON."""
    try:
        return json.loads(response.body, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unreadable(what: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"the venue's answer about {what} cannot be read ({type(error).__name__}: {error})",
        cure="see whether the venue changed its protocol",
    )
