"""A Binance order book kept from its changes, by the documented U/u rule."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from botswarm.domain.market import Book, Level
from botswarm.exchanges.ladder import Ladder
from botswarm.exchanges.streams import Broken, Heard, NeedsWhole, Stream

SNAPSHOT_LEVELS = 1000
"""Of each side that REST is asked for (weight 50); what lies deeper is unknown until it changes."""
LEVELS_KEPT_MAX = 5000
WAITING_MAX = 100
"""Changes that wait for the whole book: the last ten seconds' worth, for it need only reach back
to the moment at which REST was asked."""
ASKED_AGAIN_AFTER = 600


@dataclass(frozen=True, slots=True)
class Change:
    """One ``depthUpdate``: the book's numbers ``first`` to ``last``."""

    first: int
    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    exchange_ms: int
    received_ms: int


class _Side:
    """A side, and the price down to which it is known."""

    def __init__(self, levels: Sequence[Level], *, highest_first: bool) -> None:
        self.ladder = Ladder(highest_first=highest_first, levels=levels)
        self._edge = levels[-1][0] if len(levels) >= SNAPSHOT_LEVELS else None

    def apply(self, levels: Sequence[Level]) -> None:
        for price, quantity in levels:
            self.ladder.put(price, quantity)
        if len(self.ladder) > LEVELS_KEPT_MAX:
            self.ladder.cut(LEVELS_KEPT_MAX // 2)
            self._edge = self.ladder.best(LEVELS_KEPT_MAX)[-1][0]

    def knows(self, best: Sequence[Level], count: int) -> bool:
        """Whether no level could be missing among these."""
        return self.ladder.is_within(best, count, self._edge)


class DepthBook:
    def __init__(self, stream: Stream, *, venue: str, count: int) -> None:
        self._stream = stream
        self._venue = venue
        self._count = count
        self._sides: tuple[_Side, _Side] | None = None
        self._last = 0
        self._waiting: deque[Change] = deque(maxlen=WAITING_MAX)
        self._waited = 0

    def change(self, change: Change) -> Sequence[Heard]:
        if self._sides is None:
            return self._wait(change)
        if change.last <= self._last:
            return ()  # told before
        if change.first > self._last + 1:
            words = f"the book stands at {self._last}, the next change begins at {change.first}"
            return self._broken("sequence", words, change, after=self._last)
        return self._apply(self._sides, change)

    def whole(self, book: Book) -> Sequence[Heard]:
        """Begin with this book, if the changes that came since connect to it."""
        if self._sides is not None:
            return ()  # it is whole
        while self._waiting and self._waiting[0].last <= book.sequence:
            self._waiting.popleft()
        if self._waiting and self._waiting[0].first > book.sequence + 1:
            return (NeedsWhole(stream=self._stream),)
        self._sides = _Side(book.bids, highest_first=True), _Side(book.asks, highest_first=False)
        self._last = book.sequence
        heard: list[Heard] = list(self._told(self._sides, book.exchange_ms, book.received_ms))
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING_MAX)
        self._waited = 0
        for change in waiting:
            heard += self.change(change)
        return heard

    def _wait(self, change: Change) -> Sequence[Heard]:
        if self._waiting and change.first > self._waiting[-1].last + 1:
            last = self._waiting[-1].last
            words = f"from {last} to {change.first}, before the book was whole"
            return self._broken("sequence", words, change, after=last)
        self._waiting.append(change)
        self._waited += 1
        if self._waited % ASKED_AGAIN_AFTER == 1:
            return (NeedsWhole(stream=self._stream),)
        return ()

    def _broken(
        self, reason: str, words: str, change: Change, *, after: int | None = None
    ) -> Sequence[Heard]:
        self._sides, self._waited = None, 1
        self._waiting = deque([change], maxlen=WAITING_MAX)
        broken = Broken(
            stream=self._stream,
            reason=reason,
            words=words,
            first=None if after is None else after + 1,
            last=None if after is None else change.first - 1,
        )
        return (broken, NeedsWhole(stream=self._stream))

    def _apply(self, sides: tuple[_Side, _Side], change: Change) -> Sequence[Heard]:
        bids, asks = sides
        bids.apply(change.bids)
        asks.apply(change.asks)
        self._last = change.last
        told = self._told(sides, change.exchange_ms, change.received_ms)
        if told and told[0].is_crossed:
            words = f"bid {_best(told[0].bids)}, ask {_best(told[0].asks)} at {change.last}"
            return self._broken("crossed", words, change)
        if not told:
            # The price has left the part of the book that was asked for.
            self._sides = None
            return self._wait(change)
        return told

    def _told(self, sides: tuple[_Side, _Side], exchange_ms: int, received_ms: int) -> list[Book]:
        bids, asks = (side.ladder.best(self._count) for side in sides)
        if not (sides[0].knows(bids, self._count) and sides[1].knows(asks, self._count)):
            return []
        return [
            Book(
                venue=self._venue,
                symbol=self._stream.symbol,
                sequence=self._last,
                bids=bids,
                asks=asks,
                exchange_ms=exchange_ms,
                received_ms=received_ms,
            )
        ]


def _best(levels: Sequence[Level]) -> Decimal | None:
    return levels[0][0] if levels else None
