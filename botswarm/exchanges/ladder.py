"""One side of an order book: levels in order of price, changed one at a time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from decimal import Decimal

from botswarm.domain.market import Level


class Ladder:
    """Bids begin with the highest price, asks with the lowest."""

    def __init__(self, *, highest_first: bool, levels: Iterable[Level] = ()) -> None:
        self._highest_first = highest_first
        self._levels = {price: (price, quantity) for price, quantity in levels if quantity}
        self._prices = sorted(self._levels)

    def __len__(self) -> int:
        return len(self._prices)

    def put(self, price: Decimal, quantity: Decimal) -> None:
        """``quantity`` is what waits there from now on; none removes the level."""
        if quantity:
            if price not in self._levels:
                insort(self._prices, price)
            self._levels[price] = (price, quantity)
        elif self._levels.pop(price, None) is not None:
            del self._prices[bisect_left(self._prices, price)]

    def best(self, count: int) -> tuple[Level, ...]:
        if self._highest_first:
            return tuple(map(self._levels.__getitem__, self._prices[: -count - 1 : -1]))
        return tuple(map(self._levels.__getitem__, self._prices[:count]))

    def is_within(self, best: Sequence[Level], count: int, edge: Decimal | None) -> bool:
        """Whether these are ``count`` levels up to ``edge``, behind which not all are known."""
        if edge is None:
            return True
        if len(best) < count:
            return False
        return best[-1][0] >= edge if self._highest_first else best[-1][0] <= edge

    def cut(self, depth: int) -> None:
        """Keep only so many of the best."""
        excess = len(self._prices) - depth
        if excess <= 0:
            return
        gone = slice(0, excess) if self._highest_first else slice(depth, None)
        for price in self._prices[gone]:
            del self._levels[price]
        del self._prices[gone]
