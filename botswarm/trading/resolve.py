"""Find out about one order now, and say every question and answer that leads to the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from botswarm.clock import Clock
from botswarm.domain.amount import plain
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, is_fenced
from botswarm.errors import BotswarmError
from botswarm.exchanges.base import Report, TradingVenue
from botswarm.trading.books import Books
from botswarm.trading.settle import ASK_EVERY_S, IN_DOUBT, Round, Watch


@dataclass(frozen=True, slots=True)
class Step:
    at: datetime
    question: str
    answer: str


Tell = Callable[[Step], object]
Said = TypeVar("Said")


class Witness:
    """A venue whose answers about one order are told before they are used."""

    def __init__(self, venue: TradingVenue, order: Order, clock: Clock, tell: Tell) -> None:
        self._venue = venue
        self._order = order
        self._clock = clock
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    def query(self, order: Order) -> Report | None:
        return self._asked(
            f"the order {order.client_order_id}",
            lambda: self._venue.query(order),
            lambda found: "not found" if found is None else _in_words(found),
        )

    def server_time(self) -> datetime:
        return self._asked(
            "its clock", self._venue.server_time, lambda at: f"{at:%H:%M:%S.%f}"[:-3]
        )

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        return self._asked(
            f"the open orders of {symbol or 'all markets'}",
            lambda: self._venue.open_orders(symbol),
            self._among,
        )

    def fills(self, symbol: str, **given: Any) -> Sequence[Fill]:
        after = given.get("after_trade_id")
        which = "of this order" if given.get("venue_order_id") else f"of {symbol}"
        return self._asked(
            f"the fills {which}" + ("" if after is None else f" after trade {after}"),
            lambda: self._venue.fills(symbol, **given),
            self._filled,
        )

    def _asked(self, question: str, ask: Callable[[], Said], words: Callable[[Said], str]) -> Said:
        try:
            found = ask()
        except BotswarmError as error:
            self._tell(Step(self._clock.now(), question, f"no answer: {error.cause}"))
            raise
        self._tell(Step(self._clock.now(), question, words(found)))
        return found

    def _among(self, reports: Sequence[Report]) -> str:
        for report in reports:
            if report.client_order_id == self._order.client_order_id:
                return f"{len(reports)}, and it is one of them: {_in_words(report)}"
        return f"{len(reports)}, and it is none of them"

    def _filled(self, fills: Sequence[Fill]) -> str:
        own = [fill for fill in fills if fill.client_order_id == self._order.client_order_id]
        return f"{len(fills)}, {len(own)} of them of this order"


class _Looking(Round):
    """Whoever looks is no worker: what may be sent again is left to one."""

    def _send(self, order: Order) -> None:
        pass

    def look(self, order: Order, fence: datetime | None) -> None:
        if order.state not in IN_DOUBT or fence is None:
            self.each([order], self.ask_about_known)
        elif self._is_due((order.id, fence), order):
            self.each([order], lambda each: self._ask_about((each.id, fence), each))

    def is_nowhere(self, order: Order, fence: datetime) -> bool:
        """What the venue does not answer is the caller's: without it nothing is known."""
        self._is_past(fence)
        return not self.ask_about_known(order) and not self._is_in(
            self._look_over(order, fence), order
        )


def resolve(
    order_id: str,
    books: Books,
    venue: TradingVenue,
    clock: Clock,
    tell: Tell,
    *,
    wait_s: float,
    pause: Callable[[float], object],
) -> None:
    """Until it is known whether the order is at the venue, or the time is over.

    By the same questions as every round's, and with the same proof. It is told, too, what is
    being waited for.
    """
    watch, deadline = Watch(), clock.monotonic() + wait_s
    is_waiting_told = False
    found = books.unsettled_one(order_id)
    while found is not None:
        order, fence = found
        witness = Witness(venue, order, clock, tell)
        _Looking(books, witness, clock, watch).look(order, fence)
        found = books.unsettled_one(order_id)
        is_known = found is None or found[0].state not in IN_DOUBT
        if is_known or clock.monotonic() >= deadline:
            return
        if not is_waiting_told and fence is not None:
            is_waiting_told = True
            tell(Step(clock.now(), "waiting", _awaited(clock.now(), fence)))
        pause(ASK_EVERY_S)


def _awaited(now: datetime, fence: datetime) -> str:
    if not is_fenced(now, fence):
        return "the venue refuses nothing for being late: only that it names the order ends this"
    words = f"the venue itself refuses its bytes from {fence:%H:%M:%S.%f}"[:-3]
    return f"{words} on; then all is asked again, twice"


def is_nowhere(order_id: str, books: Books, venue: TradingVenue, clock: Clock, tell: Tell) -> bool:
    """Whether the venue, asked once in every way, names an order in doubt nowhere.

    That proves nothing where it may still take what was sent long ago. What it does name is
    written down. Raises Unreachable or Refused where it does not answer.
    """
    found = books.unsettled_one(order_id)
    if found is None or found[0].state not in IN_DOUBT or found[1] is None:
        return False
    order, fence = found[0], found[1]
    return _Looking(books, Witness(venue, order, clock, tell), clock, Watch()).is_nowhere(
        order, fence
    )


def _in_words(report: Report) -> str:
    return f"{report.state}, {plain(report.filled_quantity)} filled"
