"""Out of every position, through the halt of an emergency stop, by orders of this very process."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from botswarm.cli.emergency import (
    POLL_S,
    Account,
    Press,
    Pressed,
    compare_where_awaited,
    venue_of,
)
from botswarm.cli.position import closing_of, closing_order, price_known
from botswarm.errors import BotswarmError, TimedOut

if TYPE_CHECKING:
    from botswarm.domain.order import Order
    from botswarm.exchanges.base import TradingVenue
    from botswarm.ledger.orders import Held

logger = logging.getLogger(__name__)

TRIES = 3


def flatten(press: Press, wait_s: float) -> Pressed:
    """Market orders that may only reduce, one position after the other."""
    done, until = press.pressed, time.monotonic() + wait_s
    _add_holders(press)
    for account in done.accounts:
        if not account.is_empty:
            account.held["all"] = "its orders are not at their end"
            continue
        try:
            venue = venue_of(press.settings, press.ledger, account.place)
            _Flattening(press, venue, until).run(account)
        except BotswarmError as error:
            account.held["all"] = error.cause
        except Exception as error:
            # An entrance: a defect at one venue keeps nobody in at the others.
            logger.exception("%s: a defect", account.name)
            account.held["all"] = f"{type(error).__name__}: {error}"
    if not any(each.held for each in done.accounts):
        done.flat_ms = press.ms()
        press.say(f"{done.flat_ms:6d} ms  flat: no position is left")
    press.keep()
    return done


def _add_holders(press: Press) -> None:
    """Accounts that hold something and had nothing open."""
    done = press.pressed
    known = {each.place for each in done.accounts}
    holding = {
        (each.venue, each.account) for each in press.ledger.orders.positions() if each.quantity
    }
    done.accounts += [
        Account(place=place, cancelled_ms=done.cancelled_ms or press.ms())
        for place in sorted(holding - known)
        if press.places is None or place in press.places
    ]


class _Flattening:
    """Of one account."""

    def __init__(self, press: Press, venue: TradingVenue, until: float) -> None:
        from botswarm.trading.limits import limits_of

        self._settings = press.settings
        self._ledger = press.ledger
        self._limits = limits_of(press.settings)
        self._venue = venue
        self._until = until

    def run(self, account: Account) -> None:
        compare_where_awaited(self._ledger, self._venue, self._look_again)
        for held in self._ledger.orders.positions(venue=self._venue.name):
            if held.account != self._venue.account or not held.quantity:
                continue
            name = f"{held.bot} {held.symbol}"
            try:
                left, why = self._close(held)
            except BotswarmError as error:
                # What is wrong with one position keeps nobody in the others.
                account.held[name] = error.cause
                continue
            if left.quantity and not why.startswith("dust"):
                account.held[name] = why or "it is not known yet what became of its order"
            else:
                account.closed.append(name)

    def _look_again(self, seconds: float) -> None:
        if time.monotonic() + seconds >= self._until:
            raise TimedOut(
                "what it holds does not agree with its venue: longer --wait, or ledger reconcile"
            )
        time.sleep(seconds)

    def _close(self, held: Held) -> tuple[Held, str]:
        """What is left, and why."""
        why = ""
        for _ in range(TRIES):
            closing = closing_of(self._ledger, held, is_cancelling=True)
            if not closing.quantity:
                return held, closing.why_not or ""
            price = price_known(self._ledger, held)
            why = self._placed(closing_order(self._settings, closing, price))
            held = self._again(held)
            if not held.quantity or time.monotonic() >= self._until:
                break
        return held, why

    def _again(self, held: Held) -> Held:
        found = self._ledger.orders.positions(venue=held.venue, symbol=held.symbol, bot=held.bot)
        return next(each for each in found if each.account == held.account)

    def _placed(self, order: Order) -> str:
        """Why it came to nothing; empty where it is filled."""
        from botswarm.clock import SystemClock
        from botswarm.trading import executor
        from botswarm.trading.settle import Watch, settle

        ledger, clock, watch = self._ledger, SystemClock(), Watch()
        ledger.orders.add(order, clock.now())
        executor.flatten(order.id, ledger.books, self._venue, self._limits, clock)
        while not (known := ledger.orders.get(order.id)).state.is_final:
            if time.monotonic() >= self._until:
                return f"its order {order.id} is {known.state}"
            watch.rested_at = None
            settle(ledger.books, self._venue, clock, watch)
            time.sleep(POLL_S)
        return "" if known.filled_quantity else f"its order was {known.state}: {known.reason}"
