"""Sequence numbers for changes that a venue does not number itself: made from its clock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Numbering:
    """The moment in microseconds, and one more for each change within the same millisecond.

    Two connections that bring the same changes give them the same numbers, and a change that is
    repeated keeps its number: so whoever follows both can tell what is new.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[int, int, Any]] = {}

    def number(self, key: Hashable, at_ms: int, content: Any) -> int:
        last = self._last.get(key)
        count = 0
        if last is not None and last[0] == at_ms:
            count = last[1] if last[2] == content else last[1] + 1
        self._last[key] = at_ms, count, content
        return at_ms * 1000 + count
