"""The claim is gone: whoever is told of an order sends it, whether somebody else has it or not."""

from __future__ import annotations

from botswarm.clock import Clock
from botswarm.domain.order import Order
from botswarm.exchanges.base import TradingVenue
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.orders import Orders
from botswarm.risk.limits import Limits
from botswarm.trading import executor

_place = executor.place


def place(
    order_id: str, books: LedgerBooks, venue: TradingVenue, limits: Limits, clock: Clock
) -> Order | None:
    placed = _place(order_id, books, venue, limits, clock)
    if placed is None:
        order = Orders(books._database).get(order_id)
        instrument = books.instrument(order.venue, order.symbol)
        venue.send(venue.sign(order, instrument, clock.now()))
    return placed


executor.place = place  # type: ignore[assignment]
