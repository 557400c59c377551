"""Counters that a process and its forked children keep together, in memory that they share.

Each process has a page of its own, held by a lock that its death gives back; so nobody waits for
anybody, a child that dies takes no count with it, and its page goes on with the next child. There
are no files: the memory ends with the last process that has it.
"""

from __future__ import annotations

import bisect
import fcntl
import logging
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Final

logger = logging.getLogger(__name__)

PAGES: Final = 256
FLAGS_BYTES: Final = 4096
"""Before the pages: which of them were ever taken, one byte each."""
PAGE_BYTES: Final = 128 * 1024
"""About a thousand counts; what is never written costs nothing."""
HEAD: Final = struct.Struct("=QQ")
"""How many bytes are written, this head included; and how many counts found no room."""
RECORD: Final = struct.Struct("=HH4x")
"""Bytes of the key, and values that follow it."""
BETWEEN: Final = "\x1f"

Key = tuple[str, ...]
"""The family's name and the values of its labels."""


def _shared() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("botswarm-tally")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _filled(length: int) -> int:
    """Up to the next eighth byte: where values stand straight, they are written in one step."""
    return -(-length // 8) * 8


class Tally:
    """The pages of one family of processes; what is forked from this process joins it."""

    def __init__(self) -> None:
        self._file = _shared()
        size = FLAGS_BYTES + PAGES * PAGE_BYTES
        os.ftruncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self._values = memoryview(self._memory).cast("d")
        self.lock = threading.Lock()
        self.generation = 0
        """Another one in every process: what was found out about the page before is void."""
        self._places: dict[Key, int] = {}
        self._page: int | None = None

    def place(self, key: Key, values: int) -> int | None:
        """Where the values of a key stand on our page, from now on; None where there is no room.

        To be called with the lock held.
        """
        if self._page is None:
            self._claim()
        if (known := self._places.get(key)) is not None:
            return known
        name = BETWEEN.join(key).encode()
        assert self._page is not None
        start = _start(self._page)
        used, left_out = HEAD.unpack_from(self._memory, start)
        used = used or HEAD.size  # a page that nobody has written on
        size = RECORD.size + _filled(len(name)) + 8 * values
        if used + size > PAGE_BYTES or len(name) > 65_535:
            HEAD.pack_into(self._memory, start, used, left_out + 1)
            return None
        at = start + used
        RECORD.pack_into(self._memory, at, len(name), values)
        at += RECORD.size
        self._memory[at : at + len(name)] = name
        place = self._places[key] = (at + _filled(len(name))) // 8
        # Last: who reads meanwhile sees a whole record or none.
        HEAD.pack_into(self._memory, start, used + size, left_out)
        return place

    def add(self, place: int, amount: float) -> None:
        """With the lock held."""
        self._values[place] += amount

    def _claim(self) -> None:
        """Take a page that nobody has: a new one, or that of a process which is gone."""
        for page in range(PAGES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, page)
            except OSError:
                continue
            break
        else:
            # The last one is shared then: what is lost by that is a count now and then.
            logger.warning("%d processes count already: this one shares a page", PAGES)
        self._memory[page] = 1
        self._page = page
        self._places = {key: place for key, place, _ in self._records(page)}

    def _taken(self) -> list[int]:
        return [page for page in range(PAGES) if self._memory[page]]

    def _records(self, page: int) -> Iterator[tuple[Key, int, int]]:
        """Key, place and number of values of each record."""
        start = _start(page)
        used, _ = HEAD.unpack_from(self._memory, start)
        at, end = start + HEAD.size, start + min(used, PAGE_BYTES)
        while at < end:
            length, values = RECORD.unpack_from(self._memory, at)
            at += RECORD.size
            name = self._memory[at : at + length].decode()
            at += _filled(length)
            yield tuple(name.split(BETWEEN)), at // 8, values
            at += 8 * values

    def totals(self) -> dict[Key, list[float]]:
        """The counts of all processes together, also of those that are gone."""
        found: dict[Key, list[float]] = {}
        for page in self._taken():
            for key, place, values in self._records(page):
                counted = [float(value) for value in self._values[place : place + values]]
                before = found.get(key)
                found[key] = counted if before is None else _sum(before, counted)
        return found

    @property
    def left_out(self) -> int:
        """Counts that found no room on a page: their labels have too many values."""
        heads = (HEAD.unpack_from(self._memory, _start(page)) for page in self._taken())
        return sum(left_out for _, left_out in heads)

    def leave_to_parent(self) -> None:
        # The parent's page is the parent's; we take another when we have something to count.
        self.lock = threading.Lock()
        self.generation += 1
        self._page, self._places = None, {}


def _start(page: int) -> int:
    return FLAGS_BYTES + page * PAGE_BYTES


def _sum(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [mine + theirs for mine, theirs in zip(one, other, strict=True)]


TALLY: Final = Tally()
"""This process's and its children's."""


def _in_child() -> None:
    TALLY.leave_to_parent()


os.register_at_fork(after_in_child=_in_child)


class _Counted:
    """One family of counts: what is told of it, and one place for each set of labels."""

    kind = "counter"
    buckets: tuple[float, ...] = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.label_names = name, help, tuple(labels)

    def _key(self, labels: Sequence[str]) -> Key:
        if len(labels) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {', '.join(self.label_names)}")
        return (self.name, *(str(each).replace(BETWEEN, " ") for each in labels))


class _Place:
    """Where one set of labels is counted; found again after a fork."""

    __slots__ = ("_generation", "_key", "_place", "_values")

    def __init__(self, key: Key, values: int) -> None:
        self._key, self._values = key, values
        self._generation = -1
        self._place: int | None = None

    def find(self) -> int | None:
        if self._generation != TALLY.generation:
            self._place = TALLY.place(self._key, self._values)
            self._generation = TALLY.generation
        return self._place


class Counter(_Counted):
    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help, labels)
        self._children: dict[tuple[str, ...], CounterOf] = {}

    def labels(self, *values: str) -> CounterOf:
        if (known := self._children.get(values)) is None:
            known = self._children[values] = CounterOf(self._key(values))
        return known

    def inc(self, amount: float = 1.0) -> None:
        self.labels().inc(amount)


class CounterOf(_Place):
    __slots__ = ()

    def __init__(self, key: Key) -> None:
        super().__init__(key, 1)

    def inc(self, amount: float = 1.0) -> None:
        with TALLY.lock:
            if (place := self.find()) is not None:
                TALLY.add(place, amount)


class Histogram(_Counted):
    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> None:
        super().__init__(name, help, labels)
        self.buckets = tuple(sorted(buckets))
        self._children: dict[tuple[str, ...], HistogramOf] = {}

    def labels(self, *values: str) -> HistogramOf:
        if (known := self._children.get(values)) is None:
            known = self._children[values] = HistogramOf(self._key(values), self.buckets)
        return known

    def observe(self, value: float) -> None:
        self.labels().observe(value)


class HistogramOf(_Place):
    """The sum of what was observed, then how many fell into each bucket and above the last."""

    __slots__ = ("_buckets",)

    def __init__(self, key: Key, buckets: Sequence[float]) -> None:
        super().__init__(key, len(buckets) + 2)
        self._buckets = buckets

    def observe(self, value: float) -> None:
        bucket = bisect.bisect_left(self._buckets, value)
        with TALLY.lock:
            if (place := self.find()) is not None:
                TALLY.add(place, value)
                TALLY.add(place + 1 + bucket, 1)
