"""The press of the emergency stop, step by step, with a stopwatch running from its first moment."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botswarm.errors import BotswarmError, Unreachable

if TYPE_CHECKING:
    from botswarm.cli.in_force import Force
    from botswarm.config import Settings
    from botswarm.exchanges.base import TradingVenue
    from botswarm.ledger.halting import Halting, OnTheWay
    from botswarm.ledger.stops import Stop, Stops
    from botswarm.ledger.store import Ledger
    from botswarm.trading.emergency import Ended

logger = logging.getLogger(__name__)

Place = tuple[str, str]
Say = Callable[[str], None]

LEDGER_PATIENCE_S = 2.0
"""While a ledger has not answered for so long the stop file is pulled."""
GIVEN_UP_AFTER_S = 30.0
POLL_S = 0.02
ACCOUNTS_AT_ONCE_MAX = 8


class LedgerAway(Unreachable):
    """The halt could not be committed; that is what the stop file is for."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of one account's orders and positions."""

    place: Place
    ended: Ended | None = None
    cancelled_ms: int | None = None
    failure: str | None = None
    closed: list[str] = field(default_factory=list)
    """Positions that are flat now, as BOT SYMBOL."""
    held: dict[str, str] = field(default_factory=dict)
    """Those that are not, and why."""

    @property
    def name(self) -> str:
        return ":".join(self.place)

    @property
    def is_empty(self) -> bool:
        """No order of ours is open at the venue, by its own word."""
        return self.cancelled_ms is not None

    @property
    def is_clean(self) -> bool:
        return self.is_empty and not self.held and not (self.ended and self.ended.in_doubt)

    def data(self) -> dict[str, Any]:
        ended = self.ended
        return {
            "cancelled_ms": self.cancelled_ms,
            "cancelled": ended.asked if ended else 0,
            "in_doubt": ended.in_doubt if ended else 0,
            "left": ended.left if ended else None,
            "failures": [self.failure] if self.failure else ended.failures if ended else [],
            "closed": self.closed,
            "held": self.held,
        }


@dataclass(slots=True, kw_only=True)
class Pressed:
    """How long each step took, in milliseconds since the button was pressed."""

    at: datetime
    said_ms: int
    in_force_ms: int | None = None
    """None while a venue may still take an order that was signed before the halt."""
    on_the_way: int = 0
    """Orders whose answer was not known soon after the halt."""
    may_arrive: int = 0
    """Those of them whose venues refuse nothing for being late."""
    accounts: list[Account] = field(default_factory=list)
    cancelled_ms: int | None = None
    flat_ms: int | None = None
    number: int | None = None
    resting: int = 0
    unprotected: int = 0
    """Orders that protected positions and were ended, too."""

    def data(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "said_ms": self.said_ms,
            "in_force_ms": self.in_force_ms,
            "cancelled_ms": self.cancelled_ms,
            "flat_ms": self.flat_ms,
            "on_the_way": self.on_the_way,
            "may_arrive": self.may_arrive,
            "resting": self.resting,
            "unprotected": self.unprotected,
            "accounts": {each.name: each.data() for each in self.accounts},
            "stop": self.number,
        }


class Press:
    """One emergency stop, of all accounts or of some."""

    def __init__(
        self,
        settings: Settings,
        *,
        kind: str,
        scopes: Collection[str],
        places: Collection[Place] | None,
        actor: str,
        reason: str,
        began: float,
        say: Say,
    ) -> None:
        """``began`` is when the button was pressed, by the monotonic clock."""
        from botswarm.ledger.halting import Halting

        self.settings = settings
        self.kind, self.scopes, self.places = kind, scopes, places
        self.actor, self.reason = actor, reason
        self.began = began
        self.pressed_at = datetime.now(UTC) - timedelta(seconds=time.monotonic() - began)
        self.say = say
        self.halting: Halting = Halting(settings.database_url)
        self.done: Pressed | None = None

    def ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    # --- the halt -------------------------------------------------------------------------------

    def halt(self, pull: Callable[[], None] = lambda: None) -> Pressed:
        """Calls ``pull`` while the ledger lets us wait, and raises LedgerAway where it is lost."""
        self._within_patience(self._commit, pull)
        self.done = done = Pressed(at=self.pressed_at, said_ms=self.ms())
        self.say(f"{done.said_ms:6d} ms  halted: nothing more is judged")
        self.force.begin()
        if left := self.force.left:
            done.on_the_way = len(left)
            self.say(
                f"{self.ms():6d} ms  {len(left)} orders that were signed before are on their way: "
                f"their venues refuse them within {self.force.left_s():.1f} s"
            )
        self.keep()
        return done

    @functools.cached_property
    def force(self) -> Force:
        from botswarm.cli.in_force import Force

        return Force(self.halting, self.places, self._taken_within, self._put_in_force)

    def wait_until_in_force(self, wait_s: float) -> bool:
        """Whether no venue takes an order any more; so long at most."""
        return self.force.wait(wait_s)

    def _taken_within(self, place: Place) -> float | None:
        from botswarm.exchanges import accounts

        return accounts.taken_within_s(accounts.Account(*place))

    def _put_in_force(self, may_arrive: Sequence[OnTheWay]) -> None:
        done, now = self.pressed, datetime.now(UTC)
        self.halting.put_in_force(
            self.scopes,
            reason=self.reason,
            actor=self.actor,
            now=now,
            may_arrive=len(may_arrive),
        )
        done.in_force_ms, done.may_arrive = self.ms(), len(may_arrive)
        words = "in force: no venue takes another order"
        if may_arrive:
            words += f", but {len(may_arrive)} may arrive where nothing is refused for being late"
        self.say(f"{done.in_force_ms:6d} ms  {words}")

    def _commit(self) -> None:
        now = datetime.now(UTC)
        self.halting.halt(self.scopes, reason=self.reason, actor=self.actor, now=now)

    def _within_patience(self, work: Callable[[], None], pull: Callable[[], None]) -> None:
        """While a ledger does not answer, the file is pulled, and the ledger waited for."""
        failures: list[BotswarmError] = []

        def try_it() -> None:
            try:
                work()
            except BotswarmError as error:
                failures.append(error)

        thread = threading.Thread(target=try_it, name="halt", daemon=True)
        thread.start()
        thread.join(LEDGER_PATIENCE_S)
        if thread.is_alive():
            try:
                pull()
            except BotswarmError as error:
                self.say(f"{self.ms():6d} ms  no stop file: {error.cause}; waiting for the ledger")
            thread.join(GIVEN_UP_AFTER_S - LEDGER_PATIENCE_S)
        if failures:
            raise LedgerAway(failures[0].cause, cure=failures[0].cure) from failures[0]
        if thread.is_alive():
            raise LedgerAway(
                f"the ledger has not answered within {GIVEN_UP_AFTER_S:g} s",
                cure="see: botswarm doctor",
            )

    # --- the end of what is open ----------------------------------------------------------------

    def cancel(self, wait_s: float) -> Pressed:
        done, ledger = self.pressed, self.ledger
        wished = self._wish(ledger)
        self.say(f"{self.ms():6d} ms  {len(wished)} orders are to end")
        places = self.places if self.places is not None else self.stops.places()
        until, stop = time.monotonic() + wait_s, threading.Event()

        def end(place: Place) -> Account:
            return self._end(ledger, place, until, stop)

        try:
            with ThreadPoolExecutor(ACCOUNTS_AT_ONCE_MAX) as pool:
                done.accounts = list(pool.map(end, sorted(places)))
            self.wait_until_in_force(until - time.monotonic())
        except KeyboardInterrupt:
            stop.set()
            raise
        if all(each.is_empty for each in done.accounts):
            ends = [each.cancelled_ms for each in done.accounts if each.cancelled_ms is not None]
            done.cancelled_ms = max(ends, default=self.ms())
            self.say(f"{done.cancelled_ms:6d} ms  cancelled: no venue has an open order of ours")
        self.keep()
        return done

    def _wish(self, ledger: Ledger) -> Sequence[str]:
        """Of everything, also what was judged and not sent; it ends at once."""
        self.halting.throw_out_sleepers()
        orders = [
            order
            for order in ledger.orders.under_way()
            if self.places is None or (order.venue, order.account) in self.places
        ]
        guards = [each for each in orders if each.kind.has_stop and each.is_reduce_only]
        self.pressed.unprotected = len(guards)
        ids, words = [order.id for order in orders], f"{self.kind} stop: {self.reason}"
        ledger.cancels.wish(ids, datetime.now(UTC), actor=self.actor, reason=words)
        return ids

    def _end(self, ledger: Ledger, place: Place, until: float, stop: threading.Event) -> Account:
        from botswarm.clock import SystemClock
        from botswarm.trading.emergency import end_all

        account = Account(place=place)
        try:
            venue = venue_of(self.settings, ledger, place)
            is_in_force = self.force.is_reached.is_set
            account.ended = end_all(ledger.books, venue, SystemClock(), until, stop, is_in_force)
        except BotswarmError as error:
            account.failure = f"{error.cause}; {error.cure}" if error.cure else error.cause
        except Exception as error:
            # An entrance: a defect at one venue leaves nothing open at the others.
            logger.exception("%s: a defect", account.name)
            account.failure = f"{type(error).__name__}: {error}"
        else:
            if account.ended.at is not None:
                account.cancelled_ms = round((account.ended.at - self.began) * 1000)
        return account

    # --- what is kept ---------------------------------------------------------------------------

    @functools.cached_property
    def stops(self) -> Stops:
        from botswarm.ledger.stops import Stops

        return Stops(self.ledger.database)

    def keep(self) -> None:
        """What is known by now."""
        self.pressed.number = self.stops.keep(self._stop())

    def finish(self) -> Stop:
        """Write down how it ended."""
        stop = replace(self._stop(), finished_at=datetime.now(UTC), is_clean=self.is_clean)
        self.stops.keep(stop)
        return stop

    @property
    def is_clean(self) -> bool:
        done = self.pressed
        return done.in_force_ms is not None and all(each.is_clean for each in done.accounts)

    def _stop(self) -> Stop:
        from botswarm.ledger.stops import Stop

        done = self.pressed
        return Stop(
            id=done.number,
            at=done.at,
            kind=self.kind,
            actor=self.actor,
            reason=self.reason,
            said_ms=done.said_ms,
            in_force_ms=done.in_force_ms,
            cancelled_ms=done.cancelled_ms,
            flat_ms=done.flat_ms,
            numbers={
                "on_the_way": done.on_the_way,
                "may_arrive": done.may_arrive,
                "accounts": {each.name: each.data() for each in done.accounts},
            },
        )

    @property
    def pressed(self) -> Pressed:
        assert self.done is not None, "it was not said yet"
        return self.done

    @functools.cached_property
    def ledger(self) -> Ledger:
        """Made after the halt: it takes a while to be imported."""
        from botswarm.ledger.store import Ledger

        return Ledger(self.settings.database_url)


def venue_of(settings: Settings, ledger: Ledger, place: Place) -> TradingVenue:
    """What trades an account from this very process."""
    from botswarm.cli.account_choice import opened
    from botswarm.clock import SystemClock
    from botswarm.exchanges import accounts

    account = accounts.Account(*place)
    keys = opened(settings, ledger, account)
    # It cancels and shrinks positions; whether anything else passes is asked where orders begin.
    return accounts.trading_venue(settings, SystemClock(), account, keys, accounts.anybody)


def compare_where_awaited(
    ledger: Ledger, venue: TradingVenue, wait: Callable[[float], None] = time.sleep
) -> None:
    """Nothing is sent for an account that was not held against its venue lately, and where no
    order worker runs nobody else does it.
    """
    from botswarm.clock import SystemClock
    from botswarm.trading.reconcile import reconcile

    clock = SystemClock()
    if ledger.reconciliations.is_awaited(venue.name, venue.account, clock.now()):
        reconcile(ledger.books, ledger.reconciliations, venue, clock, wait)
