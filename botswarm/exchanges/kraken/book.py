"""A Kraken order book, held to the venue's own checksum after every change."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from botswarm.domain.market import Book, Level
from botswarm.exchanges.ladder import Ladder
from botswarm.exchanges.numbering import Numbering
from botswarm.exchanges.streams import Broken, Changed, Heard, Stream

DEPTHS = (10, 25, 100, 500, 1000)
CHECKED = 10
"""Levels of each side that the checksum is made of, whatever the depth."""
WHOLE_WITHIN_MS = 5000


@dataclass(frozen=True, slots=True)
class Told:
    """Levels as a frame says them, with the text of each that goes into the checksum."""

    bids: Sequence[tuple[Level, str]]
    asks: Sequence[tuple[Level, str]]
    checksum: int
    exchange_ms: int
    received_ms: int


def digits(text: str) -> str:
    """A number as the checksum takes it: without its point and the zeros it begins with."""
    plain = text if text.isascii() and text.replace(".", "").isdigit() else f"{Decimal(text):f}"
    return plain.replace(".", "").lstrip("0")


def depth_of(levels: int) -> int:
    """The smallest depth that the venue offers for so many levels."""
    return next((depth for depth in DEPTHS if depth >= levels), DEPTHS[-1])


class _Side:
    def __init__(self, levels: Sequence[tuple[Level, str]], *, highest_first: bool) -> None:
        self.ladder = Ladder(highest_first=highest_first, levels=(level for level, _ in levels))
        self._texts = {level[0]: text for level, text in levels}

    def put(self, levels: Sequence[tuple[Level, str]], depth: int) -> None:
        for (price, quantity), text in levels:
            self.ladder.put(price, quantity)
            self._texts[price] = text
        # The venue does not say when a level falls out of the depth that was asked for.
        self.ladder.cut(depth)
        if len(self._texts) > 4 * depth:
            kept = self.ladder.best(depth)
            self._texts = {price: self._texts[price] for price, _ in kept}

    def text(self) -> str:
        return "".join([self._texts[price] for price, _ in self.ladder.best(CHECKED)])


class PairBook:
    def __init__(self, stream: Stream, venue: str, count: int, *, tells_changes: bool) -> None:
        self.depth: int | None = None
        """Of the subscription; where nobody said it, the first book shows it."""
        self._stream = stream
        self._venue = venue
        self._count = count
        self._tells_changes = tells_changes
        self._numbering = Numbering()
        self._sides: tuple[_Side, _Side] | None = None
        self._cut_to = DEPTHS[0]
        self._waits_since_ms: int | None = None

    def begin(self, told: Told) -> list[Heard]:
        self._waits_since_ms = None
        self._cut_to = self.depth or depth_of(max(len(told.bids), len(told.asks)))
        self._sides = _Side(told.bids, highest_first=True), _Side(told.asks, highest_first=False)
        return self._checked(self._sides, told)

    def change(self, told: Told) -> list[Heard]:
        """All of a frame's changes first, then the cut, then the checksum: so it is documented."""
        if self._sides is None:
            return self._without_whole(told)
        self._sides[0].put(told.bids, self._cut_to)
        self._sides[1].put(told.asks, self._cut_to)
        return self._checked(self._sides, told)

    def _checked(self, sides: tuple[_Side, _Side], told: Told) -> list[Heard]:
        ours = zlib.crc32((sides[1].text() + sides[0].text()).encode())
        if ours != told.checksum:
            return self._broken("checksum", f"the book's is {ours}, the venue's {told.checksum}")
        bids, asks = (side.ladder.best(self._count) for side in sides)
        if bids and asks and bids[0][0] >= asks[0][0]:
            return self._broken("crossed", f"bid {bids[0][0]}, ask {asks[0][0]}")
        return [
            Book(
                venue=self._venue,
                symbol=self._stream.symbol,
                sequence=self._numbering.number("", told.exchange_ms, (bids, asks)),
                bids=bids,
                asks=asks,
                exchange_ms=told.exchange_ms,
                received_ms=told.received_ms,
                checksum=told.checksum,
            )
        ]

    def _broken(self, reason: str, words: str) -> list[Heard]:
        """Nothing more is told of it until a whole one has come."""
        self._sides = self._waits_since_ms = None
        return [Broken(stream=self._stream, reason=reason, words=words)]

    def _wait(self, received_ms: int) -> list[Heard]:
        """Changes may still be under way; and the frame of the whole book may have been lost."""
        if self._waits_since_ms is None:
            self._waits_since_ms = received_ms
        if received_ms - self._waits_since_ms < WHOLE_WITHIN_MS:
            return []
        return self._broken("sequence", "changes come without a whole book")

    def _without_whole(self, told: Told) -> list[Heard]:
        if not self._tells_changes:
            return self._wait(told.received_ms)
        bids, asks = (tuple(level for level, _ in side) for side in (told.bids, told.asks))
        changed = Changed(
            venue=self._venue,
            symbol=self._stream.symbol,
            bids=bids,
            asks=asks,
            sequence=self._numbering.number("", told.exchange_ms, (bids, asks)),
            exchange_ms=told.exchange_ms,
            received_ms=told.received_ms,
        )
        return [changed]
