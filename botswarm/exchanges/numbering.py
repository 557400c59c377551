"""Numbers for what a venue does not number itself: made from its clock."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from hashlib import sha256
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


HASH_BITS = 21


def named_trades(trades: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Numbers for ever of trades that their venue names: by the millisecond, then by the name.

    Two names of one millisecond get the same number once in two million times; those that stand
    in one answer are told apart, the same way whenever they do.
    """
    numbers: dict[str, int] = {}
    taken = set[int]()
    for at_ms, name in sorted(set(trades)):
        digest = int.from_bytes(sha256(name.encode()).digest()[:4], "big")
        number = at_ms << HASH_BITS | digest >> 32 - HASH_BITS
        while number in taken:
            number += 1
        taken.add(number)
        numbers[name] = number
    return numbers


def moment_of(named_trade: int) -> int:
    """The millisecond that such a number begins with."""
    return named_trade >> HASH_BITS
