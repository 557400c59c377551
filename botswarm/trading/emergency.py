"""The end of every open order of an account, and soon: asked for, and looked at until it is so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from botswarm.clock import Clock
from botswarm.domain.order import Order
from botswarm.errors import BotswarmError
from botswarm.exchanges.base import TradingVenue
from botswarm.trading.books import Books
from botswarm.trading.settle import IN_DOUBT, Watch, settle

logger = logging.getLogger(__name__)

AT_ONCE_MAX = 4
"""Markets of an account that are asked at once: questions cost the account's budget."""
AGAIN_S = 0.2
DOUBT_S = 3.0
"""So long those of which nobody knows are looked for, once nothing else is open and nothing
can come: what the venue took last may not show yet. Then order workers go on looking.
"""


@dataclass(slots=True, kw_only=True)
class Ended:
    """What became of an account's orders; times are of the clock's monotonic seconds."""

    asked: int = 0
    """Orders that the venue had open, and that are not any more."""
    at: float | None = None
    """When the venue said that it has none of ours open, and no other could come; None before."""
    in_doubt: int = 0
    """Nobody knows whether they are at the venue; where they turn up they are cancelled."""
    left: int = 0
    failures: list[str] = field(default_factory=list)
    """Why some are left, the latest last."""


def end_all(
    books: Books,
    venue: TradingVenue,
    clock: Clock,
    until: float,
    stop: threading.Event,
    is_in_force: Callable[[], bool],
) -> Ended:
    """End what somebody wants ended of this account, and look until the venue has none of it.

    Everybody else's rounds may run meanwhile. Orders that rest there and are not ours stay. Until
    the halt is in force an order may come that was signed before, so it is looked again.
    """
    return _Ending(books, venue, clock, is_in_force).run(until, stop)


class _Ending:
    def __init__(
        self, books: Books, venue: TradingVenue, clock: Clock, is_in_force: Callable[[], bool]
    ) -> None:
        self._books = books
        self._venue = venue
        self._clock = clock
        self._done = Ended()
        self._is_in_force = is_in_force
        # A sender that is frozen tells nobody what became of its order.
        self._watch = Watch(late_after_s=0.0)
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def run(self, until: float, stop: threading.Event) -> Ended:
        with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
            while True:
                is_last = self._is_in_force()
                unwanted = self._books.to_cancel(self._venue.name, self._venue.account)
                # A list: whoever stops listening at the first failure has all others forgotten.
                is_empty = all(list(pool.map(self._try, _by_market(unwanted).items())))
                is_over = is_empty and is_last
                if not is_over:
                    self._done.at = None
                elif self._done.at is None:
                    self._done.at = self._clock.monotonic()
                self._settle()
                left = self._books.to_cancel(self._venue.name, self._venue.account)
                self._done.in_doubt = sum(order.state in IN_DOUBT for order in left)
                self._done.left = len(left) - self._done.in_doubt
                is_done = is_over and not self._done.left and not self._waits_for_doubt()
                if is_done or self._clock.monotonic() >= until or stop.wait(AGAIN_S):
                    break
        self._done.asked = len(self._seen)
        return self._done

    def _waits_for_doubt(self) -> bool:
        at = self._done.at
        return bool(
            self._done.in_doubt and at is not None and self._clock.monotonic() < at + DOUBT_S
        )

    def _try(self, market: tuple[str, Sequence[Order]]) -> bool:
        """Whether the venue says that none of these is open."""
        symbol, orders = market
        try:
            return self._is_empty(symbol, {order.client_order_id: order for order in orders})
        except BotswarmError as error:
            self._failed(f"{symbol}: {error.cause}")
        except Exception as error:
            # An entrance: a defect in one market leaves nothing open in the others.
            logger.exception("%s: a defect", symbol)
            self._failed(f"{symbol}: {type(error).__name__}: {error}")
        return False

    def _is_empty(self, symbol: str, unwanted: dict[str, Order]) -> bool:
        there = self._there(symbol)
        ours = there & unwanted.keys()
        if not ours:
            return True
        with self._lock:
            self._seen |= ours
        if ours == there and len(ours) > 1:
            self._venue.cancel_all(symbol)
        else:
            for name in sorted(ours):
                self._venue.cancel(unwanted[name])
        return not self._there(symbol) & unwanted.keys()

    def _there(self, symbol: str) -> set[str]:
        return {report.client_order_id for report in self._venue.open_orders(symbol)}

    def _settle(self) -> None:
        """Into the books with what became of them, now and not when it would be time again."""
        self._watch.rested_at = None
        try:
            done = settle(self._books, self._venue, self._clock, self._watch)
        except BotswarmError as error:
            self._failed(error.cause)
        else:
            for failure in done.failures:
                self._failed(failure)

    def _failed(self, words: str) -> None:
        logger.error("%s:%s: %s", self._venue.name, self._venue.account, words)
        with self._lock:
            if words not in self._done.failures:
                self._done.failures.append(words)


def _by_market(orders: Sequence[Order]) -> dict[str, list[Order]]:
    found: dict[str, list[Order]] = {}
    for order in orders:
        found.setdefault(order.symbol, []).append(order)
    return found
