"""What an order worker trades with: a desk for each account, made when it is first needed."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.errors import BotswarmError, NotFound, Unreachable
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.base import TradingVenue
from botswarm.keys.ring import ApiKeys, KeyRing
from botswarm.ledger.store import Ledger
from botswarm.queueing import current_settings
from botswarm.risk.limits import Limits
from botswarm.trading.limits import limits_of
from botswarm.trading.settle import Watch

logger = logging.getLogger(__name__)

REST_MAX_S = 30.0
REST_PER_WAIT = 4.0
"""A venue that does not answer may hold one child of five at the most, and no other account."""


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

    def ended(self) -> None:
        self.until = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What one process trades one account with."""

    ledger: Ledger
    venue: TradingVenue
    limits: Limits
    clock: Clock
    outage: Outage
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

    def accounts(self) -> Sequence[Account]:
        """All that are configured, whether they can be used or not."""
        return configured(self.settings, self.ring)

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

    def of_order(self, order_id: str) -> Desk:
        order = self.ledger.orders.get(order_id)
        return self.of(Account(order.venue, order.account))

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
        except Unreachable as error:
            if not self.ledger.books.instruments(venue.name):
                raise
            logger.warning("the markets of %s are as the ledger knows them: %s", venue.name, error)

    def _make(self, account: Account) -> Desk:
        keys = opened(self.ring, account)
        venue = accounts.trading_venue(self.settings, self.clock, account, keys)
        self._learn_markets(venue)
        limits = limits_of(self.settings)
        return Desk(self.ledger, venue, limits, self.clock, self.outage(account))


def configured(settings: Settings, ring: KeyRing) -> Sequence[Account]:
    """Those of the settings, and those whose keys are kept in the ledger."""
    return accounts.accounts(settings, [Account(each.venue, each.account) for each in ring.kept()])


def opened(ring: KeyRing, account: Account) -> ApiKeys | None:
    """Its kept keys; None where only the settings may know some."""
    try:
        return ring.open(account.venue, account.name)
    except NotFound:
        return None


def desks() -> Desks:
    """This process's own."""
    return _desks_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _desks_of(_: int) -> Desks:
    # By process: a forked child must never write into its parent's connections.
    settings = current_settings()
    return Desks(settings, Ledger(settings.database_url), SystemClock())


def desk_for(order_id: str, venue: str | None, account: str | None) -> Desk:
    """The desk of an order, whose account the message may have named."""
    if venue is None or account is None:
        return desks().of_order(order_id)
    return desks().of(Account(venue, account))


def is_for_good(error: BotswarmError) -> bool:
    """Whether the order can never be placed from here, as the settings are."""
    return isinstance(error, NotFound) or error.exit_code == 6
