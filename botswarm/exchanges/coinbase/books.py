"""Coinbase's order books: a whole one first, then absolute quantities at single prices."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

from botswarm.domain.market import Book, Level
from botswarm.exchanges.ladder import Ladder
from botswarm.exchanges.numbering import Numbering
from botswarm.exchanges.reading import number, positive
from botswarm.exchanges.streams import Broken, Changed, Heard, Stream, Unreadable

KEPT_MAX = 10_000
"""Levels of a side; the venue tells all of them, also those nobody will ever reach."""
KEPT_AFTER_CUT = 5000
WHOLE_WITHIN_MS = 5000

Levels = Sequence[Level]
Texts = Sequence[tuple[Any, Any]]
"""Prices and quantities as the venue wrote them."""


def levels_of(told: Texts) -> list[Level]:
    return [(positive(price), number(quantity)) for price, quantity in told]


class Side:
    """The best part of a side, and the price down to which it is known."""

    def __init__(self, levels: Levels, *, highest_first: bool) -> None:
        self.ladder = Ladder(highest_first=highest_first, levels=levels)
        self._edge: Decimal | None = None
        self._cut()

    @classmethod
    def begun(cls, told: Texts, *, highest_first: bool) -> Side:
        """Of a whole book: of the largest, fifty thousand levels, only the best are looked at."""
        is_cut = len(told) > KEPT_MAX
        levels = levels_of(_best(told, highest_first=highest_first) if is_cut else told)
        side = cls(levels, highest_first=highest_first)
        if is_cut:
            side._edge = levels[-1][0]
        return side

    def put(self, levels: Levels) -> None:
        for price, quantity in levels:
            self.ladder.put(price, quantity)
        self._cut()

    def _cut(self) -> None:
        if len(self.ladder) > KEPT_MAX:
            self.ladder.cut(KEPT_AFTER_CUT)
            self._edge = self.ladder.best(KEPT_AFTER_CUT)[-1][0]

    def knows(self, best: Levels, count: int) -> bool:
        """Whether none that was cut off would stand among these."""
        return self.ladder.is_within(best, count, self._edge)


def _best(told: Texts, *, highest_first: bool) -> list[tuple[Any, Any]]:
    """Floats are exact enough to know which these are."""
    try:
        prices = [float(price) for price, _ in told]
    except (ValueError, TypeError) as error:
        raise Unreadable("bad_number", "a level whose price is no number") from error
    if not isfinite(sum(prices)) or min(prices) <= 0:
        raise Unreadable("bad_number", "a level whose price cannot be")
    order = sorted(range(len(prices)), key=prices.__getitem__, reverse=highest_first)
    return [told[place] for place in order[:KEPT_AFTER_CUT]]


def begun(bids: Texts, asks: Texts) -> tuple[Side, Side]:
    """Both sides of a whole book; raises Unreadable."""
    return Side.begun(bids, highest_first=True), Side.begun(asks, highest_first=False)


class ProductBook:
    """One product's; several of our symbols may be the same product to the venue."""

    def __init__(self, venue: str, count: int, numbering: Numbering, tells: bool) -> None:
        self.symbols: Sequence[str] = ()
        self._venue = venue
        self._count = count
        self._numbering = numbering
        self._tells_changes = tells
        self._sides: tuple[Side, Side] | None = None
        self._waits_since_ms: int | None = None
        self._last: list[Heard] = []

    def begin(self, sides: tuple[Side, Side], at_ms: int, received_ms: int) -> list[Heard]:
        self._sides = sides
        self._waits_since_ms = None
        return self._told(sides, at_ms, received_ms)

    def change(self, bids: Levels, asks: Levels, at_ms: int, received_ms: int) -> list[Heard]:
        if self._sides is None:
            return self._without_whole(bids, asks, at_ms, received_ms)
        self._sides[0].put(bids)
        self._sides[1].put(asks)
        return self._told(self._sides, at_ms, received_ms)

    def broken(self, reason: str, words: str) -> list[Heard]:
        """Nothing more is told of it until a whole one has come."""
        if self._sides is None:
            return []
        self._sides, self._last = None, []
        self._waits_since_ms = None
        return self._each_broken(reason, words)

    def again(self) -> list[Heard]:
        return self._last

    def _each_broken(self, reason: str, words: str) -> list[Heard]:
        return [
            Broken(stream=Stream(symbol, "book"), reason=reason, words=words)
            for symbol in self.symbols
        ]

    def _wait(self, received_ms: int) -> list[Heard]:
        """Changes may still be under way; and the frame of the whole book may have been lost."""
        if self._waits_since_ms is None:
            self._waits_since_ms = received_ms
        if received_ms - self._waits_since_ms < WHOLE_WITHIN_MS:
            return []
        self._waits_since_ms = None
        return self._each_broken("sequence", "changes come without a whole book")

    def _without_whole(
        self, bids: Levels, asks: Levels, at_ms: int, received_ms: int
    ) -> list[Heard]:
        if not self._tells_changes:
            return self._wait(received_ms)
        changes = tuple(bids), tuple(asks)
        return [
            Changed(
                venue=self._venue,
                symbol=symbol,
                bids=changes[0],
                asks=changes[1],
                sequence=self._numbering.number(symbol, at_ms, changes),
                exchange_ms=at_ms,
                received_ms=received_ms,
            )
            for symbol in self.symbols
        ]

    def _told(self, sides: tuple[Side, Side], at_ms: int, received_ms: int) -> list[Heard]:
        bids, asks = (side.ladder.best(self._count) for side in sides)
        if bids and asks and bids[0][0] >= asks[0][0]:
            return self.broken("crossed", f"bid {bids[0][0]}, ask {asks[0][0]}")
        if not (sides[0].knows(bids, self._count) and sides[1].knows(asks, self._count)):
            return self.broken("sequence", "prices have left the part of the book that is kept")
        self._last = [
            Book(
                venue=self._venue,
                symbol=symbol,
                sequence=self._numbering.number(symbol, at_ms, (bids, asks)),
                bids=bids,
                asks=asks,
                exchange_ms=at_ms,
                received_ms=received_ms,
            )
            for symbol in self.symbols
        ]
        return self._last


class Books:
    """Those of one connection."""

    def __init__(self, venue: str, count: int, *, tells_changes: bool) -> None:
        self._venue = venue
        self._count = count
        self._tells_changes = tells_changes
        self._numbering = Numbering()
        self._books: dict[str, ProductBook] = {}

    def of(self, product: str, symbols: Sequence[str]) -> ProductBook:
        book = self._books.get(product)
        if book is None:
            book = ProductBook(self._venue, self._count, self._numbering, self._tells_changes)
            self._books[product] = book
        book.symbols = symbols
        return book

    def forget(self, product: str) -> None:
        self._books.pop(product, None)

    def broken(self, words: str) -> list[Heard]:
        return [heard for book in self._books.values() for heard in book.broken("sequence", words)]
