"""The order book: price-time priority, exact and without I/O, clock or chance."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from botswarm.domain.instrument import step_down
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.orders import ZERO, SelfTrade, VenueOrder

Level = tuple[Decimal, Decimal]
"""Price and the quantity of all orders at it."""


@dataclass(frozen=True, slots=True)
class Match:
    maker: VenueOrder
    price: Decimal
    quantity: Decimal


@dataclass(slots=True)
class Matching:
    """What became of a taker; nothing of it has been applied to orders' fills or accounts."""

    matches: list[Match] = field(default_factory=list)
    prevented: list[VenueOrder] = field(default_factory=list)
    """Resting orders of the same account that self-trade prevention ends."""
    taker_prevented: bool = False

    @property
    def quantity(self) -> Decimal:
        return sum((match.quantity for match in self.matches), ZERO)

    @property
    def quote(self) -> Decimal:
        return sum((match.quantity * match.price for match in self.matches), ZERO)


class HalfBook:
    """One side: levels by price, in each the orders by arrival."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.prices: list[Decimal] = []
        """Ascending; the best is the last bid and the first ask."""
        self.levels: dict[Decimal, dict[int, VenueOrder]] = {}
        self.totals: dict[Decimal, Decimal] = {}
        self.changed: set[Decimal] = set()

    @property
    def best(self) -> Decimal | None:
        if not self.prices:
            return None
        return self.prices[-1] if self.side is Side.BUY else self.prices[0]

    def add(self, order: VenueOrder) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = {}
            self.totals[order.price] = ZERO
            insort(self.prices, order.price)
        level[order.id] = order
        self.totals[order.price] += order.open_quantity
        self.changed.add(order.price)

    def remove(self, order: VenueOrder) -> None:
        level = self.levels[order.price]
        del level[order.id]
        self.totals[order.price] -= order.open_quantity
        self.changed.add(order.price)
        if not level:
            self._drop(order.price)

    def reduce(self, order: VenueOrder, quantity: Decimal) -> None:
        """``quantity`` of a resting order was traded; its ``filled`` already says so."""
        self.totals[order.price] -= quantity
        self.changed.add(order.price)
        if not order.open_quantity:
            level = self.levels[order.price]
            del level[order.id]
            if not level:
                self._drop(order.price)

    def _drop(self, price: Decimal) -> None:
        del self.levels[price], self.totals[price]
        del self.prices[bisect_left(self.prices, price)]

    def best_first(self) -> Iterator[Decimal]:
        return reversed(self.prices) if self.side is Side.BUY else iter(self.prices)

    def depth(self, limit: int) -> list[Level]:
        found: list[Level] = []
        for price in self.best_first():
            if len(found) == limit:
                break
            found.append((price, self.totals[price]))
        return found


class Book:
    def __init__(self, lot_size: Decimal) -> None:
        self.lot_size = lot_size
        self.bids = HalfBook(Side.BUY)
        self.asks = HalfBook(Side.SELL)

    def side(self, side: Side) -> HalfBook:
        return self.bids if side is Side.BUY else self.asks

    def opposite(self, side: Side) -> HalfBook:
        return self.asks if side is Side.BUY else self.bids

    def match(self, taker: VenueOrder) -> Matching:
        """Whom the order would trade with, in which order and for how much.

        Changes nothing: the same walk answers whether it can be paid for, whether it can be
        filled at once and in full, and then what is to be booked.
        """
        outcome = Matching()
        wanted, budget = taker.open_quantity, taker.quote_quantity
        half = self.opposite(taker.side)
        for price in half.best_first():
            if not taker.takes(price):
                break
            for maker in half.levels[price].values():
                if taker.quote_quantity:
                    wanted = step_down(budget / price, self.lot_size)
                if wanted <= 0:
                    return outcome
                if maker.account == taker.account and taker.self_trade is not SelfTrade.NONE:
                    if taker.self_trade.ends_maker:
                        outcome.prevented.append(maker)
                    if taker.self_trade.ends_taker:
                        outcome.taker_prevented = True
                        return outcome
                    continue
                quantity = min(wanted, maker.open_quantity)
                outcome.matches.append(Match(maker, price, quantity))
                wanted -= quantity
                budget -= quantity * price
        return outcome
