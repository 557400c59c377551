"""Find out what became of orders: book their fills, and prove it where nothing was placed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.exchanges.base import Report, TradingVenue
from botswarm.trading import executor
from botswarm.trading.books import Books

logger = logging.getLogger(__name__)

LATE_AFTER_S = 1.0
"""A sender is given this long to hear its own answer before anybody else asks."""
ASK_EVERY_S = 1.0
ASK_SLOWLY_EVERY_S = 4.0
ASK_SLOWLY_AFTER_S = 8.0
"""Questions cost the account's budget, and the fence is many seconds away anyway."""
RESTING_EVERY_S = 5.0
"""How often orders that simply rest are looked at when the venue's own stream says nothing."""
EMPTY_ROUNDS_APART_S = 10.0
"""Venues answer from stores that follow their engines, seconds late on a bad day."""
FAILURES_MAX = 3
"""Questions without an answer, after which the round is given up: each may take many seconds."""

Thing = TypeVar("Thing")
Key = tuple[str, datetime]
"""An attempt: its order and its fence. What is known of one says nothing of the next."""


@dataclass(slots=True)
class Watch:
    """What one process remembers between rounds. To lose it costs time, never an order."""

    seen: dict[Key, float] = field(default_factory=dict)
    asked: dict[Key, float] = field(default_factory=dict)
    empty: dict[Key, float] = field(default_factory=dict)
    """When the first full round of questions after the fence came back empty."""
    rested_at: float | None = None

    def forget_all_but(self, keys: Iterable[Key]) -> None:
        kept = set(keys)
        for memory in (self.seen, self.asked, self.empty):
            for key in memory.keys() - kept:
                del memory[key]


@dataclass(slots=True)
class Settled:
    """What a round did."""

    open: int = 0
    in_doubt: int = 0
    sent: int = 0
    moved: int = 0
    not_placed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def is_given_up(self) -> bool:
        return len(self.failures) >= FAILURES_MAX


def settle(
    books: Books, venue: TradingVenue, clock: Clock, watch: Watch, order_id: str | None = None
) -> Settled:
    """One round over everything that is open, or over the one order the venue spoke of.

    Any number of rounds may run at once, here and elsewhere.
    """
    round_ = _Round(books, venue, clock, watch)
    unsettled = books.unsettled(venue.name, venue.account)
    if order_id is not None:
        round_.each(
            [order for order, _ in unsettled if order.id == order_id], round_.ask_about_known
        )
        return round_.done
    round_.send_the_approved()
    round_.look_at(unsettled)
    return round_.done


class _Round:
    def __init__(self, books: Books, venue: TradingVenue, clock: Clock, watch: Watch) -> None:
        self.books = books
        self.venue = venue
        self.clock = clock
        self.watch = watch
        self.done = Settled()

    # --- judged and never sent ------------------------------------------------------------------

    def send_the_approved(self) -> None:
        """Their worker died before it sent anything, or could not send."""
        approved = self.books.approved(self.venue.name, self.venue.account)
        self.each(approved, self._send)

    def _send(self, order: Order) -> None:
        if executor.send(order, self.books, self.venue, self.clock) is not None:
            self.done.sent += 1

    # --- sent -------------------------------------------------------------------------------------

    def look_at(self, unsettled: Iterable[tuple[Order, datetime | None]]) -> None:
        open_ = list(unsettled)
        in_doubt = [
            ((order.id, fence), order)
            for order, fence in open_
            if order.state in (OrderState.SENDING, OrderState.UNKNOWN) and fence is not None
        ]
        self.done.open, self.done.in_doubt = len(open_), len(in_doubt)
        self.watch.forget_all_but(key for key, _ in in_doubt)
        due = [(key, order) for key, order in in_doubt if self._is_due(key, order)]
        # Longest unasked first: a few that fail must not keep the others from being asked about.
        due.sort(key=lambda each: self.watch.asked.get(each[0], 0.0))
        self.each(due, lambda each: self._ask_about(*each))
        self._look_at_resting(
            [
                order
                for order, fence in open_
                if order.state not in (OrderState.SENDING, OrderState.UNKNOWN)
            ]
        )

    def _is_due(self, key: Key, order: Order) -> bool:
        now = self.clock.monotonic()
        seen = self.watch.seen.setdefault(key, now)
        if order.state is OrderState.SENDING and now - seen < LATE_AFTER_S:
            return False
        asked = self.watch.asked.get(key)
        every = ASK_EVERY_S if now - seen < ASK_SLOWLY_AFTER_S else ASK_SLOWLY_EVERY_S
        return asked is None or now - asked >= every

    def _ask_about(self, key: Key, order: Order) -> None:
        self.watch.asked[key] = self.clock.monotonic()
        if not self.ask_about_known(order):
            self._look_for_proof(key, order)

    def ask_about_known(self, order: Order) -> bool:
        """Ask by client order id; False when the venue does not find it, which proves nothing."""
        report = self.venue.query(order)
        if report is None:
            return False
        self._take(report, order)
        return True

    # --- proof ------------------------------------------------------------------------------------

    def _look_for_proof(self, key: Key, order: Order) -> None:
        """After the fence, two rounds in which order, open orders and fills are all empty.

        The fence is by the venue's clock, so that is the clock to ask.
        """
        _, fence = key
        if self.venue.server_time() < fence:
            return
        began = self.clock.monotonic()
        if self._is_found_anywhere(order):
            self.watch.empty.pop(key, None)
            return
        first = self.watch.empty.setdefault(key, self.clock.monotonic())
        if began - first >= EMPTY_ROUNDS_APART_S:
            self._not_placed(order, fence)

    def _is_found_anywhere(self, order: Order) -> bool:
        """Every question anew: what was asked before the fence had passed does not count."""
        if self.ask_about_known(order):
            return True
        for report in self.venue.open_orders(order.symbol):
            if report.client_order_id == order.client_order_id:
                self._take(report, order)
                return True
        after = self.books.last_trade_id(order.venue, order.account, order.symbol)
        fills = self._all_fills(order, after_trade_id=after)
        ours = [fill for fill in fills if fill.client_order_id == order.client_order_id]
        if ours:
            self.books.book(ours, self.clock.now())
        return bool(ours)

    def _not_placed(self, order: Order, fence: datetime) -> None:
        logger.warning("proven: nothing was placed", extra={"order_id": order.id})
        now = self.clock.now()
        if order.state is OrderState.SENDING:
            reason = "its sender never wrote down an answer"
            executor.move(self.books, order, OrderState.UNKNOWN, now, reason=reason)
        reopened = self.books.reopen(order.id, fence, now)
        if reopened is not None:
            self.done.not_placed += 1
            self._send(reopened)

    # --- resting ----------------------------------------------------------------------------------

    def _look_at_resting(self, orders: list[Order]) -> None:
        now = self.clock.monotonic()
        last = self.watch.rested_at
        if not orders or (last is not None and now - last < RESTING_EVERY_S):
            return
        self.watch.rested_at = now
        self.each(
            sorted({order.symbol for order in orders}), lambda s: self._look_at_market(s, orders)
        )

    def _look_at_market(self, symbol: str, orders: list[Order]) -> None:
        """One question for a whole market; only what changed is asked about by itself."""
        there = {report.client_order_id: report for report in self.venue.open_orders(symbol)}
        changed = [
            order
            for order in orders
            if order.symbol == symbol and not _is_as_known(order, there.get(order.client_order_id))
        ]
        self.each(changed, self.ask_about_known)

    # --- what was found -------------------------------------------------------------------------

    def _take(self, report: Report, order: Order) -> None:
        fills: list[Fill] = []
        if report.filled_quantity > order.filled_quantity:
            fills = self._all_fills(order, venue_order_id=report.venue_order_id)
        if executor.record(report, order, fills, self.books, self.clock) is not None:
            self.done.moved += 1

    def _all_fills(
        self,
        order: Order,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> list[Fill]:
        fills: list[Fill] = []
        while page := self.venue.fills(
            order.symbol, after_trade_id=after_trade_id, venue_order_id=venue_order_id
        ):
            fills += page
            after_trade_id = page[-1].trade_id
        return fills

    def each(self, things: Iterable[Thing], do: Callable[[Thing], object]) -> None:
        """Do it for each; what the venue does not answer is written down and left for later."""
        for thing in things:
            if self.done.is_given_up:
                return
            try:
                do(thing)
            except (Unreachable, Refused, NotFound) as error:
                self.done.failures.append(error.cause)


def _is_as_known(order: Order, report: Report | None) -> bool:
    return (
        report is not None
        and report.state is order.state
        and report.filled_quantity == order.filled_quantity
    )
