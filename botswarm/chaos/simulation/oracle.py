"""What must hold after every step: the venue's own orders held against the ledger's."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import TradingState
from botswarm.exchanges.base import SignedRequest
from botswarm.risk.limits import Limits
from botswarm.testing.books import FakeBooks
from botswarm.testing.venue import Accepting, FakeVenue

NOTHING_THERE = frozenset({OrderState.REFUSED, OrderState.STALE, OrderState.REJECTED})


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    words: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.words}"


class Oracle:
    """It sees both sides at once, which nobody in the world can."""

    def __init__(self, books: FakeBooks, venue: FakeVenue, limits: Limits) -> None:
        self.violations: list[Violation] = []
        self._books = books
        self._venue = venue
        self._limits = limits
        self._events_seen = 0
        self._executed = Counter[str]()
        self._executions_seen = 0
        self._shrinking: set[str] = set()
        """Orders that made a position smaller when they passed: no limit holds those up."""

    # --- while it goes on -------------------------------------------------------------------------

    def arrives(self, request: SignedRequest) -> None:
        """I7: what reaches the venue was committed before, byte for byte."""
        order_id = Order.id_of(json.loads(request.payload)["id"])
        attempts = self._books.attempts.get(order_id or "", [])
        if request.payload not in {attempt.request.payload for attempt in attempts}:
            self._violated("I7", f"order {order_id}: bytes arrived that nobody committed")

    def after_an_execution(self) -> None:
        """I1: one intent, one order; I3: and never one that the ledger has given up."""
        for taken in self._venue.orders[self._executions_seen :]:
            self._executed[taken.client_order_id] += 1
            order = self._order_of(taken)
            if self._executed[taken.client_order_id] > 1:
                self._violated("I1", f"{_named(order, taken)} was executed twice")
            if order is None:
                self._violated("I3", f"{taken.client_order_id} is nobody's order")
            elif order.state in NOTHING_THERE:
                self._violated("I3", f"{_named(order, taken)} is at the venue, but {order.state}")
        self._executions_seen = len(self._venue.orders)

    def after_a_commit(self) -> None:
        new = self._books.events[self._events_seen :]
        self._events_seen += len(new)
        for order_id, before, after in new:
            order = self._books.orders[order_id]
            is_there = bool(self._executed[order.client_order_id])
            if after in NOTHING_THERE and is_there:
                self._violated("I6", f"order {order_id} became {after}, but it is at the venue")
            if (before, after) == (OrderState.UNKNOWN, OrderState.APPROVED) and is_there:
                self._violated("I6", f"order {order_id} was taken for not placed, but it is there")
            if after is OrderState.SENDING and (self._books.trading_state is TradingState.HALTED):
                self._violated("I11", f"order {order_id} was sent while trading was halted")
            if after in (OrderState.APPROVED, OrderState.SENDING) and self._shrinks(order):
                self._shrinking.add(order_id)
        if new:
            self._check_the_limit()

    def _check_the_limit(self) -> None:
        """I10: what may be live never exceeds the account's limit, however many judge at once."""
        orders = [
            order
            for order in self._books.orders.values()
            if order.state.may_be_live and order.id not in self._shrinking
        ]
        sum_ = sum((order.open_quantity * order.price for order in orders), Decimal(0))
        if sum_ > self._limits.open_notional_max:
            self._violated("I10", f"orders worth {sum_} may be live")

    def _shrinks(self, order: Order) -> bool:
        theirs = [each for each in self._books.orders.values() if each.bot == order.bot]
        names = {each.client_order_id for each in theirs}
        position = sum(
            fill.side.sign * fill.quantity
            for fill in self._books.fills.values()
            if fill.client_order_id in names
        )
        same_way = sum(
            each.quantity - each.filled_quantity
            for each in theirs
            if each.side is order.side and (each.state.may_be_live or each.id == order.id)
        )
        return order.side.sign * position + same_way <= 0

    # --- at the end -------------------------------------------------------------------------------

    def check_the_end(self) -> None:
        """When everything works again: nothing is open in doubt, and both sides are the same."""
        for order in self._books.orders.values():
            if not order.state.is_final:
                self._violated("I2", f"order {order.id} is still {order.state}")
            taken = self._taken_for(order)
            if taken is None and order.state not in NOTHING_THERE:
                self._violated("I2", f"order {order.id} is {order.state}, but was never there")
            if taken is not None and order.state is not taken.state:
                self._violated("I3", f"{_named(order, taken)}: {order.state}, not {taken.state}")
            if order.filled_quantity > order.quantity:
                self._violated("I4", f"order {order.id}: {order.filled_quantity} filled of it")
            if taken is not None and order.filled_quantity != taken.filled:
                self._violated(
                    "I4", f"{_named(order, taken)}: {order.filled_quantity}, not {taken.filled}"
                )
        theirs = {_key(fill): fill for taken in self._venue.orders for fill in taken.fills}
        if theirs != self._books.fills:
            odd = sorted(theirs.keys() ^ self._books.fills.keys())
            self._violated("I5", f"fills are booked otherwise than they happened: {odd}")

    def _taken_for(self, order: Order) -> Accepting | None:
        taken = [
            each for each in self._venue.orders if each.client_order_id == order.client_order_id
        ]
        return taken[0] if taken else None

    def _order_of(self, taken: Accepting) -> Order | None:
        return self._books.orders.get(Order.id_of(taken.client_order_id) or "")

    def _violated(self, invariant: str, words: str) -> None:
        self.violations.append(Violation(invariant, words))


def _key(fill: Fill) -> tuple[str, str, int]:
    return fill.venue, fill.symbol, fill.trade_id


def _named(order: Order | None, taken: Accepting) -> str:
    return f"order {taken.client_order_id if order is None else order.id}"
