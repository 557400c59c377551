"""Find out what became of orders: book their fills, and prove it where nothing was placed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.exchanges.base import Accepted, Declined, Report, TradingVenue, Unclear
from botswarm.trading import executor
from botswarm.trading.books import Books

logger = logging.getLogger(__name__)

LATE_AFTER_S = 1.0
"""A sender is given this long to hear its own answer before anybody else asks."""
ASK_EVERY_S = 1.0
ASK_SLOWLY_EVERY_S = 4.0
ASK_SLOWLY_AFTER_S = 8.0
"""Questions cost the account's budget, and the fence is many seconds away anyway."""
CANCEL_TOGETHER_MIN = 10
"""From so many unwanted orders of a market on the venue is asked for the end of all at once."""
TOLD_WITHIN_S = 2.0
"""So long the venue's own word on them is waited for, before each is asked about."""
MARKETS_ONE_BY_ONE_MAX = 12
"""For more than these one question about all markets is the cheaper one."""
RESTING_EVERY_S = 5.0
"""How often orders that simply rest are looked at when the venue's own stream says nothing."""
EMPTY_ROUNDS_APART_S = 15.0
"""Venues answer from stores that follow their engines, on a bad day this much later. The fence is
when the engine has done with it; what it took last must have come to the store by the second."""
FAILURES_MAX = 3
"""Questions without an answer, after which the round is given up: each may take many seconds."""

IN_DOUBT = frozenset({OrderState.SENDING, OrderState.UNKNOWN})
Thing = TypeVar("Thing")
Key = tuple[str, datetime]
"""An attempt: its order and its fence. What is known of one says nothing of the next."""


@dataclass(slots=True)
class Watch:
    """What one process remembers between rounds. To lose it costs time, never an order."""

    late_after_s: float = LATE_AFTER_S
    seen: dict[Key, float] = field(default_factory=dict)
    asked: dict[Key, float] = field(default_factory=dict)
    empty: dict[Key, float] = field(default_factory=dict)
    """When the first full round of questions after the fence came back empty."""
    rested_at: float | None = None
    unwanted: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By order that shall end: when its end was asked for first, and last."""

    def forget_all_but(self, keys: Iterable[Key]) -> None:
        kept = set(keys)
        for memory in (self.seen, self.asked, self.empty):
            for key in memory.keys() - kept:
                del memory[key]

    def forget_unwanted_but(self, ids: Iterable[str]) -> None:
        for order_id in self.unwanted.keys() - set(ids):
            del self.unwanted[order_id]


@dataclass(slots=True)
class Settled:
    """What a round did."""

    open: int = 0
    in_doubt: int = 0
    sent: int = 0
    moved: int = 0
    cancels: int = 0
    """Orders whose end was asked for."""
    freed: Sequence[str] = ()
    """Orders that need wait no longer for the end of what they replace: place them."""
    failures: list[str] = field(default_factory=list)

    @property
    def is_given_up(self) -> bool:
        return len(self.failures) >= FAILURES_MAX


@dataclass(frozen=True, slots=True)
class Heard:
    """The venue's own time, and ours when it was asked for."""

    at: datetime
    asked: float

    def by(self, now: float) -> datetime:
        """What its clock shows by now."""
        return self.at + timedelta(seconds=now - self.asked)


@dataclass(frozen=True, slots=True)
class Look:
    """What a market had when it was asked, at the venue's time and at ours."""

    at: datetime
    began: float
    reports: Sequence[Report]
    fills: Sequence[Fill]


def settle(
    books: Books, venue: TradingVenue, clock: Clock, watch: Watch, order_id: str | None = None
) -> Settled:
    """One round over everything that is open, or over the one order the venue spoke of.

    Any number of rounds may run at once, here and elsewhere.
    """
    round_ = Round(books, venue, clock, watch)
    if order_id is not None:
        found = books.unsettled_one(order_id)
        round_.each([found[0]] if found else [], round_.ask_about_known)
    else:
        round_.end_the_unwanted()
        round_.send_the_approved()
        round_.look_at_the_doubtful()
        round_.look_at_resting()
    return round_.ended()


def cancel(order_id: str, books: Books, venue: TradingVenue, clock: Clock, watch: Watch) -> Settled:
    """Ask for the end of one order that somebody wants ended; rounds go on asking."""
    round_ = Round(books, venue, clock, watch)
    unwanted = books.to_cancel(venue.name, venue.account)
    round_.each([order for order in unwanted if order.id == order_id], round_.cancel)
    return round_.ended()


class Round:
    """One look at an account: what is asked and found goes into the books as it comes."""

    def __init__(self, books: Books, venue: TradingVenue, clock: Clock, watch: Watch) -> None:
        self.books = books
        self.venue = venue
        self.clock = clock
        self.watch = watch
        self.done = Settled()
        self._heard: Heard | None = None
        self._looks: dict[str, Look] = {}

    def ended(self) -> Settled:
        """What it did; and what waited for the end of another order and can go now."""
        venue, account = self.venue.name, self.venue.account
        if self.done.cancels or self.books.to_cancel(venue, account):
            self.books.finish_cancels(venue, account, self.clock.now())
        self.done.freed = self.books.freed(venue, account)
        return self.done

    # --- unwanted -------------------------------------------------------------------------------

    def end_the_unwanted(self) -> None:
        """Before anything is sent: whoever wants an order ended is in more of a hurry."""
        unwanted = self.books.to_cancel(self.venue.name, self.venue.account)
        self.watch.forget_unwanted_but(order.id for order in unwanted)
        due = [order for order in unwanted if self._is_unwanted_due(order)]
        by_market: dict[str, list[Order]] = {}
        for order in due:
            by_market.setdefault(order.symbol, []).append(order)
        self.each(by_market.items(), lambda each: self._end(*each))

    def _is_unwanted_due(self, order: Order) -> bool:
        now = self.clock.monotonic()
        first, last = self.watch.unwanted.get(order.id, (now, None))
        every = ASK_EVERY_S if now - first < ASK_SLOWLY_AFTER_S else ASK_SLOWLY_EVERY_S
        return last is None or now - last >= every

    def _end(self, symbol: str, orders: list[Order]) -> None:
        """Together only where nothing else rests there: neither ours nor somebody's by hand."""
        if len(orders) < CANCEL_TOGETHER_MIN:
            self.each(orders, self.cancel)
            return
        there = {report.client_order_id for report in self.venue.open_orders(symbol)}
        if there & {order.client_order_id for order in orders}:
            if not self._is_all_unwanted(symbol, there):
                self.each(orders, self.cancel)
                return
            self.venue.cancel_all(symbol)
            # The account's stream tells of each; what it does not tell, the next look finds.
            self.watch.rested_at = self.clock.monotonic() - RESTING_EVERY_S + TOLD_WITHIN_S
        self._note_asked(orders)

    def _is_all_unwanted(self, symbol: str, there: Set[str]) -> bool:
        known = self.books.unsettled(self.venue.name, self.venue.account)
        ours = [order for order, _ in known if order.symbol == symbol]
        unwanted = {order.client_order_id for order in ours if order.is_ending}
        approved = self.books.approved(self.venue.name, self.venue.account)
        is_quiet = not any(order.symbol == symbol for order in approved)
        return is_quiet and len(unwanted) == len(ours) and there <= unwanted

    def cancel(self, order: Order) -> None:
        """What the venue answers tells what became of it, or nothing: then it is asked."""
        self._note_asked([order])
        match self.venue.cancel(order):
            case Accepted(report=report):
                self._take(report, order)
            case Declined() | Unclear() if order.state in IN_DOUBT:
                # It may still be on its way there: whoever looks for proof finds out.
                pass
            case Declined() | Unclear():
                self.ask_about_known(order)

    def _note_asked(self, orders: Sequence[Order]) -> None:
        self.done.cancels += len(orders)
        now = self.clock.monotonic()
        for order in orders:
            first, _ = self.watch.unwanted.get(order.id, (now, now))
            self.watch.unwanted[order.id] = (first, now)

    # --- judged and never sent ------------------------------------------------------------------

    def send_the_approved(self) -> None:
        """Their worker died before it sent anything, or could not send."""
        approved = self.books.approved(self.venue.name, self.venue.account)
        self.each(approved, self._send)

    def _send(self, order: Order) -> None:
        if executor.send(order, self.books, self.venue, self.clock) is not None:
            self.done.sent += 1

    # --- sent -------------------------------------------------------------------------------------

    def look_at_the_doubtful(self) -> None:
        doubtful = self.books.in_doubt(self.venue.name, self.venue.account)
        in_doubt = [((order.id, fence), order) for order, fence in doubtful if fence is not None]
        self.done.open = self.done.in_doubt = len(in_doubt)
        self.watch.forget_all_but(key for key, _ in in_doubt)
        due = [(key, order) for key, order in in_doubt if self._is_due(key, order)]
        # Longest unasked first: a few that fail must not keep the others from being asked about.
        due.sort(key=lambda each: self.watch.asked.get(each[0], 0.0))
        self.each(due, lambda each: self._ask_about(*each))

    def _is_due(self, key: Key, order: Order) -> bool:
        now = self.clock.monotonic()
        seen = self.watch.seen.setdefault(key, now)
        if order.state is OrderState.SENDING and now - seen < self.watch.late_after_s:
            return False
        if (empty := self.watch.empty.get(key)) is not None:
            # A look before the second one counts for nothing, and costs as much.
            return now - empty >= EMPTY_ROUNDS_APART_S
        asked = self.watch.asked.get(key)
        every = ASK_EVERY_S if now - seen < ASK_SLOWLY_AFTER_S else ASK_SLOWLY_EVERY_S
        return asked is None or now - asked >= every

    def _ask_about(self, key: Key, order: Order) -> None:
        """What is asked before the fence has passed, by the venue's clock, proves nothing."""
        self.watch.asked[key] = began = self.clock.monotonic()
        _, fence = key
        is_over = self._is_past(fence)
        if not self.ask_about_known(order) and is_over:
            self._look_for_proof(key, order, began)

    def ask_about_known(self, order: Order) -> bool:
        """Ask by client order id; False when the venue does not find it, which proves nothing."""
        report = self.venue.query(order)
        if report is None:
            return False
        self._take(report, order)
        return True

    # --- proof ------------------------------------------------------------------------------------

    def _look_for_proof(self, key: Key, order: Order, began: float) -> None:
        """After the fence, two rounds in which order, open orders and fills are all empty."""
        _, fence = key
        look = self._look_over(order, fence)
        if self._is_in(look, order):
            self.watch.empty.pop(key, None)
            return
        first = self.watch.empty.setdefault(key, self.clock.monotonic())
        if min(began, look.began) - first >= EMPTY_ROUNDS_APART_S:
            self._not_placed(order, fence)

    def _is_past(self, fence: datetime) -> bool:
        """By the venue's own clock, asked again only when it may have come to the fence since."""
        now = self.clock.monotonic()
        if self._heard is None or self._heard.at < fence <= self._heard.by(now):
            self._heard = Heard(self.venue.server_time(), now)
        return self._heard.at >= fence

    def _look_over(self, order: Order, fence: datetime) -> Look:
        """A market's open orders and fills: asked once a round, for all orders past their fence."""
        known = self._looks.get(order.symbol)
        if known is not None and known.at >= fence:
            return known
        assert self._heard is not None, "nobody asked for the venue's time"
        at, began = self._heard.at, self.clock.monotonic()
        reports = self.venue.open_orders(order.symbol)
        after = self.books.last_trade_id(order.venue, order.account, order.symbol)
        fills = self._all_fills(order, after_trade_id=after)
        look = self._looks[order.symbol] = Look(at, began, reports, fills)
        return look

    def _is_in(self, look: Look, order: Order) -> bool:
        for report in look.reports:
            if report.client_order_id == order.client_order_id:
                self._take(report, order)
                return True
        ours = [fill for fill in look.fills if fill.client_order_id == order.client_order_id]
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
            self._send(reopened)

    # --- resting ----------------------------------------------------------------------------------

    def look_at_resting(self) -> None:
        """A few questions for thousands of orders; those that nothing happened to cost nothing."""
        now = self.clock.monotonic()
        last = self.watch.rested_at
        if last is not None and now - last < RESTING_EVERY_S:
            return
        unsettled = self.books.unsettled(self.venue.name, self.venue.account)
        by_market: dict[str, list[Order]] = {}
        for order, _ in unsettled:
            if order.state not in IN_DOUBT:
                by_market.setdefault(order.symbol, []).append(order)
        self.done.open = len(unsettled)
        if by_market:
            self.watch.rested_at = now
        if len(by_market) <= MARKETS_ONE_BY_ONE_MAX:
            self.each(
                sorted(by_market.items()),
                lambda each: self._compare(each[1], self.venue.open_orders(each[0])),
            )
            return
        resting = [order for orders in by_market.values() for order in orders]
        self.each([resting], lambda orders: self._compare(orders, self.venue.open_orders()))

    def _compare(self, orders: Sequence[Order], reports: Sequence[Report]) -> None:
        """What is still there says itself how it is; only what is gone is asked about."""
        there = {report.client_order_id: report for report in reports}
        changed = [
            order for order in orders if not _is_as_known(order, there.get(order.client_order_id))
        ]
        self.each(changed, lambda order: self._follow(order, there.get(order.client_order_id)))

    def _follow(self, order: Order, report: Report | None) -> None:
        if report is None:
            self.ask_about_known(order)
        else:
            self._take(report, order)

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
