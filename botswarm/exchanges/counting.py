"""How much of a venue's limit is used up: sliding periods and decaying counters, as numbers."""

from __future__ import annotations

import struct
from mmap import mmap

from botswarm.exchanges.allowance import Limit

PARTS = 64
"""A period is counted in so many parts, and one more: what is within any stretch as long as the
period is always counted, wherever the venue begins its own.
"""
RING = PARTS + 1
HEAD = struct.Struct("=48sddddq")
COUNTS = struct.Struct(f"={RING}d")
CELL = struct.Struct("=d")
SIZE = 640
"""Bytes of one count; they stand side by side in memory that processes share."""
NAME_BYTES = 48


class Count:
    """A view of one limit's bytes; whoever uses it holds their lock.

    Nothing here depends on what was there before being whole: a process may die between any two
    writes, and the sum is made anew whenever time has gone on.
    """

    __slots__ = ("_at", "_bytes", "decay_per_s", "most", "name", "part", "period_s", "used")

    def __init__(self, memory: mmap, at: int) -> None:
        self._bytes, self._at = memory, at
        head: tuple[bytes, float, float, float, float, int] = HEAD.unpack_from(memory, at)
        self.name, self.most, self.period_s, self.decay_per_s, self.used, self.part = head

    def begin(self, name: bytes, limit: Limit) -> None:
        self.name, self.used, self.part = name, 0.0, 0
        self.most, self.period_s, self.decay_per_s = limit.most, limit.period_s, limit.decay_per_s
        COUNTS.pack_into(self._bytes, self._at + HEAD.size, *([0.0] * RING))
        self._write()

    def learn(self, limit: Limit) -> None:
        if (limit.period_s, limit.decay_per_s) != (self.period_s, self.decay_per_s):
            self.begin(self.name, limit)
        self.most = limit.most
        self._write()

    # --- what is used up --------------------------------------------------------------------------

    def come(self, now: float) -> None:
        """Forget what is too old to count. A decaying counter keeps its moment in microseconds."""
        if not self.period_s:
            at = int(now * 1e6)
            if self.part <= at:
                self.used = max(0.0, self.used - (at - self.part) / 1e6 * self.decay_per_s)
            self.part = at
            return
        part = int(now / self.period_s * PARTS)
        if part == self.part:
            return
        # A moment that seems to come only later is of another start of the machine.
        passed = part - self.part if 0 < part - self.part < RING else RING
        for gone in range(part - passed + 1, part + 1):
            self._put(gone, 0.0)
        self.part, self.used = part, sum(self._counts())

    def wait_s(self, amount: float, ceiling: float, now: float) -> float:
        """0.0 where there is room for so much below the ceiling, or how long until there is."""
        # What is dearer than its whole share goes when nothing else does.
        ceiling = max(ceiling, min(amount, self.most))
        missing = self.used + amount - ceiling
        if missing <= 0:
            return 0.0
        if not self.period_s:
            return missing / self.decay_per_s
        if amount > ceiling:
            return self.period_s
        for part in range(self.part - PARTS, self.part + 1):
            missing -= self._get(part)
            if missing <= 0:
                return max(0.001, (part + RING) * self.period_s / PARTS - now)
        return self.period_s

    def add(self, amount: float) -> None:
        self.used += amount
        if self.period_s:
            self._put(self.part, self._get(self.part) + amount)
        self._write()

    def hear(self, used: float, since: float | None) -> None:
        """The venue counts so much. What was spent from ``since`` on may not be in that yet.

        Without ``since`` nobody knows what is in it, so it can only be more than we thought.
        """
        if used > self.used:
            self.add(used - self.used)
        elif since is not None and self.period_s:
            first_new = max(self.part - PARTS, int(since / self.period_s * PARTS))
            too_many = sum(map(self._get, range(self.part - PARTS, first_new))) - used
            # The oldest go: those that are left count for longer than any that the venue means.
            for part in range(self.part - PARTS, first_new):
                if too_many <= 0:
                    break
                taken = min(too_many, self._get(part))
                self._put(part, self._get(part) - taken)
                too_many -= taken
            self.used = sum(self._counts())
            self._write()

    # --- bytes ------------------------------------------------------------------------------------

    def _counts(self) -> tuple[float, ...]:
        return COUNTS.unpack_from(self._bytes, self._at + HEAD.size)

    def _cell(self, part: int) -> int:
        return self._at + HEAD.size + part % RING * CELL.size

    def _get(self, part: int) -> float:
        value: float = CELL.unpack_from(self._bytes, self._cell(part))[0]
        return value

    def _put(self, part: int, value: float) -> None:
        CELL.pack_into(self._bytes, self._cell(part), value)

    def _write(self) -> None:
        HEAD.pack_into(
            self._bytes, self._at, self.name, self.most, self.period_s, self.decay_per_s,
            self.used, self.part,
        )  # fmt: skip
