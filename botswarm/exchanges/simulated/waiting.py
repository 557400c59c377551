"""Where a resting order stands among those that stood at its price before it: no I/O, no chance."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from botswarm.domain.order import Side
from botswarm.exchanges.simulated.orders import ZERO


@dataclass(slots=True, eq=False, kw_only=True)
class Waiting:
    """What is only seen from outside decides for the others: it never fills too early.

    How much stood there when it came is what the book showed. Trades at its price take that
    first, and where the book shows less than that, some of it was taken back. No trade is
    counted twice, once as itself and once as what is missing from the book.
    """

    side: Side
    price: Decimal
    since_ms: int
    """Trades up to then were before it."""
    ahead: Decimal | None = None
    """What is to be traded at its price before it; None until the book shows that price."""
    seen_ms: int = 0
    """What is ahead was last read from the book of that time: earlier trades are in it."""

    def see(self, shown: Decimal | None, at_ms: int) -> None:
        """So much of others stands at its price now; None where the book does not reach."""
        if shown is None or (self.ahead is not None and self.ahead <= shown):
            return
        self.ahead = shown
        self.seen_ms = max(self.seen_ms, at_ms)

    def fills(self, price: Decimal, quantity: Decimal, at_ms: int) -> Decimal:
        """How much of a trade between others would have been traded with it."""
        if at_ms <= self.since_ms:
            return ZERO
        if price != self.price:
            is_through = price < self.price if self.side is Side.BUY else price > self.price
            return quantity if is_through else ZERO
        if self.ahead is None or at_ms <= self.seen_ms:
            return ZERO
        first = min(self.ahead, quantity)
        self.ahead -= first
        return quantity - first
