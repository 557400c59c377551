"""What an order worker trades with: a desk for each account, made when it is first needed."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from celery import current_app, current_task

from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.errors import BotswarmError, Refused, Unreachable
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.allowance import TooSoon
from botswarm.exchanges.base import TradingVenue
from botswarm.exchanges.registry import is_live
from botswarm.keys.ring import KeyRing
from botswarm.ledger.armings import LiveBooks
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.store import Ledger
from botswarm.queueing import current_settings
from botswarm.risk import gate
from botswarm.risk.limits import Limits
from botswarm.trading.limits import limits_of
from botswarm.trading.settle import Watch
from workers.shares import WAIT_S, NoShare, Shares

logger = logging.getLogger(__name__)

REST_MAX_S = 30.0
REST_PER_WAIT = 4.0
"""A venue that does not answer is waited for a fifth of the time at the most."""
ACCOUNTS_KNOWN_S = 10.0
"""So long the accounts there are need not be read again."""


@dataclass(slots=True)
class Outage:
    """An account whose venue did not answer is left alone for a while, the longer the slower."""

    clock: Clock
    until: float | None = None

    @property
    def is_resting(self) -> bool:
        return self.until is not None and self.clock.monotonic() < self.until

    def began(self, waited_s: float) -> None:
        self.until = self.clock.monotonic() + min(REST_MAX_S, waited_s * REST_PER_WAIT)


@dataclass(frozen=True, slots=True)
class Desk:
    """What one process trades one account with."""

    ledger: Ledger
    books: LedgerBooks
    venue: TradingVenue
    limits: Limits
    clock: Clock
    outage: Outage
    objection: Refused | None = None
    """Why no order is placed with this key; what is there already is looked after all the same."""
    watch: Watch = field(default_factory=Watch)

    @property
    def account(self) -> Account:
        return Account(self.venue.name, self.venue.account)


class Resting(Unreachable):
    """The account's venue did not answer a moment ago, and is not asked again yet."""


class Desks:
    """Of one process. An account that cannot be used keeps nobody from the others."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self.settings = settings
        self.ledger = ledger
        self.ring = KeyRing(settings, ledger.exchange_keys)
        self.clock = clock
        self._made: dict[Account, Desk] = {}
        self._outages: dict[Account, Outage] = {}
        self._making: dict[Account, threading.Lock] = {}
        self._lock = threading.Lock()
        self._shares = Shares(settings.state_dir / "slots")
        self._accounts: tuple[float, Sequence[Account]] | None = None

    def accounts(self) -> Sequence[Account]:
        """All that are configured, whether they can be used or not."""
        now = self.clock.monotonic()
        if self._accounts is None or now - self._accounts[0] > ACCOUNTS_KNOWN_S:
            self._accounts = now, configured(self.settings, self.ring)
        return self._accounts[1]

    @contextmanager
    def at(self, account: Account, worker: str, children: int) -> Iterator[Desk]:
        """Its desk, and with it one of the children that the account may have.

        Raises Resting where that is not to be tried now, and what ``of`` raises.
        """
        outage, several = self.outage(account), len(self.accounts())
        if outage.is_resting:
            raise Resting(
                f"{account} did not answer a moment ago", cure="it is tried again by itself"
            )
        if several < 2:
            yield self.of(account)
            return
        try:
            with self._shares.taken(worker, account, max(1, children // several)):
                yield self.of(account)
        except NoShare as error:
            outage.began(WAIT_S)
            raise Resting(error.cause, cure=error.cure) from error

    def of(self, account: Account) -> Desk:
        """Raises NotFound and Refused for accounts that are not ours to trade, Unreachable where
        the venue cannot be used yet.
        """
        with self._lock:
            making = self._making.setdefault(account, threading.Lock())
        with making:
            desk = self._made.get(account)
            if desk is None:
                desk = self._made[account] = self._watched(account, lambda: self._make(account))
            return desk

    def account_of(self, order_id: str) -> Account:
        order = self.ledger.orders.get(order_id)
        return Account(order.venue, order.account)

    def outage(self, account: Account) -> Outage:
        with self._lock:
            return self._outages.setdefault(account, Outage(self.clock))

    def _watched(self, account: Account, make: Callable[[], Desk]) -> Desk:
        outage = self.outage(account)
        if outage.is_resting:
            raise Resting(
                f"{account} did not answer a moment ago", cure="it is tried again by itself"
            )
        began = self.clock.monotonic()
        try:
            return make()
        except Unreachable:
            outage.began(self.clock.monotonic() - began)
            raise

    def _learn_markets(self, venue: TradingVenue) -> None:
        """Once the ledger knows some, another look at them must keep no process from its work."""
        try:
            self.ledger.books.save_instruments(venue.instruments())
        except TooSoon as error:
            if not self.ledger.books.instruments(venue.name):
                raise
            logger.warning("the markets of %s are as the ledger knows them: %s", venue.name, error)

    def _make(self, account: Account) -> Desk:
        keys = self.ring.find(account.venue, account.name)
        was_armed = self.ledger.armings.was_armed
        venue = accounts.trading_venue(self.settings, self.clock, account, keys, was_armed)
        self._learn_markets(venue)
        limits = limits_of(self.settings)
        outage, objection = self.outage(account), _objection_to(venue)
        books = books_of(self.settings, self.ledger, account)
        return Desk(self.ledger, books, venue, limits, self.clock, outage, objection)


def books_of(settings: Settings, ledger: Ledger, account: Account) -> LedgerBooks:
    """Those its orders begin in: of real money only while it is armed."""
    if is_live(settings, account.venue, account.name):
        return LiveBooks(ledger.database, gate.shrinks)
    return ledger.books


def _objection_to(venue: TradingVenue) -> Refused | None:
    try:
        rights = venue.permissions()
    except BotswarmError as error:
        # Not every venue answers this; the others said so when the key was added.
        logger.info("what the key of %s:%s may do: %s", venue.name, venue.account, error)
        return None
    if not rights.can_withdraw:
        return None
    return Refused(
        f"the key of {venue.name}:{venue.account} may withdraw money",
        cure="make one that may not: botswarm account rotate, then restart the order workers",
    )


def configured(settings: Settings, ring: KeyRing) -> Sequence[Account]:
    """Those of the settings, and those whose keys are kept in the ledger."""
    return accounts.accounts(settings, [Account(each.venue, each.account) for each in ring.kept()])


def desks() -> Desks:
    """This process's own."""
    return _desks_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _desks_of(_: int) -> Desks:
    # By process: a forked child must never write into its parent's connections.
    settings = current_settings()
    return Desks(settings, Ledger(settings.database_url), SystemClock())


@contextmanager
def desk_at(account: Account) -> Iterator[Desk]:
    """The desk of an account, for the task that runs now: at most a share of the worker's children
    is ever at one of several accounts.
    """
    request = getattr(current_task, "request", None)
    worker = getattr(request, "hostname", None) or "no worker"
    children = current_app.caps.get("orders", 1)
    with desks().at(account, worker, children) as desk:
        yield desk


def account_for(order_id: str, venue: str | None, account: str | None) -> Account:
    """The account of an order, which the message may have named."""
    if venue is None or account is None:
        return desks().account_of(order_id)
    return Account(venue, account)
