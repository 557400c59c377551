"""Puts one market's trades in the venue's order: each once, and gaps found by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from botswarm.domain.market import Trade
from botswarm.feed.counts import Counts

HOLD_S = 0.2
"""A gap may close by itself within this time: two connections, one a little behind the other."""
HELD_MAX = 1000
RENUMBERED_AFTER_MS = 5000
"""An old number this much later is no repetition: the venue has begun to count anew."""


class Next(NamedTuple):
    """A trade whose turn it is."""

    trade: Trade
    after_gap: bool


class TradeOrder:
    """Pure: it is told the time, and gives out what may go on."""

    __slots__ = (
        "_after_gap",
        "_announced",
        "_counts",
        "_held",
        "due_at",
        "gaps",
        "gone",
        "last",
        "last_id",
        "lost",
        "said_id",
        "said_ms",
        "settled_ms",
    )

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.last: Trade | None = None
        self.last_id: int | None = None
        """Of the last trade that is known of, also where it was missed."""
        self.lost: list[range] = []
        """Ids that no connection brought in time, and nobody else has brought yet."""
        self.due_at: float | None = None
        """When ``overdue`` has something to say."""
        self.gaps = 0
        self.gone = 0
        """Lost, and nobody can tell them any more."""
        self._held: dict[int, Trade] = {}
        self._announced = 0
        self.said_id = 0
        """Another feed has said all up to it."""
        self.said_ms: int | None = None
        """When its last trade was, where none of ours is known."""
        self.settled_ms = 0
        """Another feed has said all that happened before, and nobody knows which ids those are."""
        self._after_gap = False

    def add(self, trade: Trade, now: float) -> Sequence[Next]:
        """What may go on now: this one, and those that waited for it; or nothing yet."""
        last_id = self.last_id
        if last_id is None or trade.trade_id == last_id + 1:
            self.last_id, self.last = trade.trade_id, trade
            after_gap, self._after_gap = self._after_gap, False
            if self.due_at is None:
                return (Next(trade, after_gap),)
            return [Next(trade, after_gap), *self._release()]
        if trade.trade_id <= last_id:
            return self._old(trade)
        if trade.trade_id in self._held:
            self._counts.duplicates += 1
            return ()
        self._held[trade.trade_id] = trade
        if len(self._held) >= HELD_MAX:
            return self._give_up()
        if self.due_at is None:
            self.due_at = now + HOLD_S
        return ()

    def skip_to(self, said_id: int) -> None:
        """Another feed has said all up to this one: what we miss of it is nobody's gap.

        It is still waited for a moment: it makes our candles.
        """
        self.said_id = said_id

    def announce(self, last_id: int, now: float) -> None:
        """The venue says which trade was its last: it should be here, or come in a moment."""
        if self.last_id is not None and last_id > self.last_id:
            self._announced = max(self._announced, last_id)
            if self.due_at is None:
                self.due_at = now + HOLD_S

    def overdue(self, now: float) -> Sequence[Next]:
        """What waited long enough: the gaps before it are real."""
        if self.due_at is None or now < self.due_at:
            return ()
        return self._give_up()

    @property
    def is_waiting(self) -> bool:
        return bool(self._held)

    def found(self, trades: Iterable[Trade]) -> list[Trade]:
        """Those of them that were lost, which they are no longer, and that nobody has said."""
        found = [trade for trade in trades if any(trade.trade_id in ids for ids in self.lost)]
        for trade in found:
            self.lost = without(self.lost, trade.trade_id)
            if self.last is None or trade.trade_id > self.last.trade_id:
                self.last = trade
        self._counts.recovered_trades += len(found)
        return [trade for trade in found if trade.exchange_ms >= self.settled_ms]

    def leave(self, numbers: Iterable[int]) -> None:
        """Another feed has said these: they are not ours to ask for."""
        for number in numbers:
            self.lost = without(self.lost, number)

    def forget(self, ids: range) -> int:
        """Nobody can tell these any more; answers how many of them were lost until now."""
        kept, forgotten = list[range](), 0
        for lost in self.lost:
            common = range(max(lost.start, ids.start), min(lost.stop, ids.stop))
            if not common:
                kept.append(lost)
                continue
            forgotten += len(common)
            kept += [
                part
                for part in (range(lost.start, common.start), range(common.stop, lost.stop))
                if part
            ]
        self.lost = kept
        self.gone += forgotten
        self._counts.gone_trades += forgotten
        return forgotten

    def _old(self, trade: Trade) -> Sequence[Next]:
        last_ms = self.said_ms if self.last is None else self.last.exchange_ms
        if last_ms is None or trade.exchange_ms <= last_ms + RENUMBERED_AFTER_MS:
            self._counts.duplicates += 1
            return ()
        # How many were missed in between nobody can say.
        self._held, self.due_at, self._announced, self.lost = {}, None, 0, []
        self._after_gap, self.said_id = False, 0
        self.gaps += 1
        self.last_id, self.last = trade.trade_id, trade
        self._counts.gaps += 1
        self._counts.missed_trades += 1
        return (Next(trade, True),)

    def _release(self) -> list[Next]:
        """Those that follow without a gap."""
        released = []
        while self.last_id is not None and self.last_id + 1 in self._held:
            self.last = self._held.pop(self.last_id + 1)
            self.last_id += 1
            self._counts.reordered += 1
            released.append(Next(self.last, False))
        if not self._held and self.last_id is not None and self.last_id >= self._announced:
            self.due_at = None
        return released

    def _give_up(self) -> list[Next]:
        released = []
        for trade_id in sorted(self._held):
            after_gap = self._lose_until(trade_id) or self._after_gap
            self._after_gap = False
            self.last, self.last_id = self._held[trade_id], trade_id
            released.append(Next(self.last, after_gap))
        self._held = {}
        if self._lose_until(self._announced + 1):
            self.last_id, self._after_gap = self._announced, True
        self.due_at = None
        return released

    def _lose_until(self, trade_id: int) -> bool:
        assert self.last_id is not None
        missed = range(self.last_id + 1, trade_id)
        ids = range(max(missed.start, self.said_id + 1), trade_id)
        if ids:
            self.lost.append(ids)
            self.gaps += 1
            self._counts.gaps += 1
            self._counts.missed_trades += len(ids)
        return bool(missed)


def without(ranges: Iterable[range], number: int) -> list[range]:
    return [
        part
        for ids in ranges
        for part in (
            (range(ids.start, number), range(number + 1, ids.stop)) if number in ids else (ids,)
        )
        if part
    ]
