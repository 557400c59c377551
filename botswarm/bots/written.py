"""What a decision leaves behind as the text the ledger keeps: made once, checked where it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botswarm.ledger.columns import Written, fast_json

KEPT_BYTES_MAX = 16_384


def memory(values: Mapping[str, Any]) -> Written:
    """A strategy's own. Raises TypeError or ValueError for what cannot be kept, NaN among it."""
    return _checked(values, json.dumps(values, allow_nan=False, ensure_ascii=False))


def record(values: Mapping[str, Any]) -> Written:
    """Of our making, and of plain values; but the words in it may be a strategy's."""
    return _checked(values, fast_json(values))


def inputs(values: Mapping[str, Any]) -> Written:
    return Written(values, fast_json(values))


def _checked(values: Mapping[str, Any], text: str) -> Written:
    """Raises ValueError for what the ledger cannot keep, or not for long."""
    # Half a character raises; the other one that no database keeps is spelled so.
    length = len(text.encode())
    if length > KEPT_BYTES_MAX:
        words = f"what it wants to be kept takes {length} bytes, over {KEPT_BYTES_MAX}"
        raise ValueError(words)
    if "\\u0000" in text:
        raise ValueError("what it wants to be kept holds the character NUL")
    return Written(values, text)
