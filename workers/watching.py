"""Cancel on disconnect in the workers: each order worker by itself, and the ops worker for all."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from celery import signals

from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.domain.permission import TradingState
from botswarm.errors import BotswarmError
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.base import TradingVenue
from botswarm.keys.ring import KeyRing
from botswarm.ledger.halts import SWARM, Cause, Halt
from botswarm.ledger.heartbeats import Place, Watched
from botswarm.ledger.store import Ledger
from botswarm.queueing import App
from botswarm.trading.stop_file import Brake, Pulled, StopFile
from botswarm.trading.watchdog import Charge, Watchdog, cancelled, watch

logger = logging.getLogger(__name__)

ORDERS, GUARD = "orders", "guard"
LOOKS_PER_LIMIT = 5
LOOK_EVERY_MAX_S = 5.0
BROKER_TIMEOUT_S = 3.0
GUARD_AGAIN = timedelta(minutes=1)


def guard_in_workers() -> None:
    """From when a worker is ready; in its parent process, which outlives its children."""
    signals.worker_ready.connect(_guard, weak=False)


def _guard(sender: Any, **_: Any) -> None:
    app = sender.app
    if not isinstance(app, App) or ORDERS not in app.amqp.queues.consume_from:
        return
    # Without a limit it still looks for an emergency stop.
    limit_s, clock = app.settings.cancel_on_disconnect_s or math.inf, SystemClock()
    dog, stop = Watchdog(limit_s, clock), threading.Event()
    every_s = min(LOOK_EVERY_MAX_S, limit_s / LOOKS_PER_LIMIT)
    probe = Probe(app, clock)
    threading.Thread(
        target=watch,
        args=(dog, probe, stop),
        kwargs={"every_s": every_s, "brake": Brake(probe.stop_file, probe.name).look},
        name="cancel on disconnect",
        daemon=True,
    ).start()


class Probe:
    """Whether ledger and broker answer, and what there is to watch over."""

    def __init__(self, app: App, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._ledger = Ledger(app.settings.database_url)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.stop_file = StopFile.of(app.settings.state_dir)
        self._venues = Venues(app.settings, self._ledger, clock)

    def __call__(self) -> Sequence[Charge]:
        """Raises Unreachable or OSError where one of them does not answer."""
        obey(self.stop_file, self._ledger, self._clock.now())
        watched = self._ledger.heartbeats.watched()
        with self._app.connection_for_write(connect_timeout=BROKER_TIMEOUT_S) as connection:
            connection.connect()
        charges = self._venues.charges(watched)
        # Last of all: it says that this process knows what it would have to cancel.
        self._ledger.heartbeats.beat(self.name, ORDERS, self._clock.now())
        return charges


def obey(file: StopFile, ledger: Ledger, now: datetime) -> None:
    """A stop that the ledger could not be told of is told now, unless a person resumed since."""
    pulled = file.read()
    if pulled is None:
        return
    said = next((each for each in ledger.halts.all() if each.scope == SWARM), None)
    if said is not None and _needs_a_person(said):
        return
    if said is not None and _has_decided(said, pulled):
        logger.warning("%s resumed trading: the stop of %s is lifted", said.actor, pulled.at)
        file.lift()
        return
    reason = f"{pulled.reason} (pulled {pulled.at:%Y-%m-%d %H:%M:%S} without the ledger)"
    ledger.halts.set(
        SWARM, TradingState.HALTED, reason=reason, actor=pulled.actor, now=now, is_human=True
    )


def _needs_a_person(said: Halt) -> bool:
    """Halted as an emergency stop halts: what ends by itself, or has ended, is less than that."""
    is_lasting = said.until is None and said.cause is not Cause.SYSTEM
    return said.state is TradingState.HALTED and is_lasting


def _has_decided(said: Halt, pulled: Pulled) -> bool:
    is_later = said.cause is Cause.PERSON and said.at > pulled.at
    return is_later and said.state is not TradingState.HALTED


class Venues:
    """Those of the accounts that are watched, made while their keys can be read."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self._settings = settings
        self._ring = KeyRing(settings, ledger.exchange_keys)
        self._was_armed = ledger.armings.was_armed
        self._clock = clock
        self._made: dict[Place, TradingVenue] = {}

    def charges(self, watched: Mapping[Place, Watched]) -> list[Charge]:
        found = ((self._of(place), each) for place, each in sorted(watched.items()))
        return [
            Charge(venue, each.markets, each.has_open) for venue, each in found if venue is not None
        ]

    def _of(self, place: Place) -> TradingVenue | None:
        if place not in self._made:
            account = Account(*place)
            try:
                keys = self._ring.find(account.venue, account.name)
                made = accounts.trading_venue(
                    self._settings, self._clock, account, keys, self._was_armed
                )
            except BotswarmError as error:
                logger.warning("%s is not watched over: %s", account, error)
                return None
            self._made[place] = made
        return self._made[place]


def guard(ledger: Ledger, venues: Venues, limit_s: float, clock: Clock) -> int | None:
    """Cancel everything open when no order worker has been well for so long.

    Answers how many markets were told so; None where there was nothing to do. Harmless however
    often it runs.
    """
    now = clock.now()
    last, told = ledger.heartbeats.last(ORDERS), ledger.heartbeats.last(GUARD)
    if last is None or now - last < timedelta(seconds=limit_s):
        return None
    if told is not None and told > last and now - told < GUARD_AGAIN:
        return None
    charges = [each for each in venues.charges(ledger.heartbeats.watched()) if each.has_open]
    if not charges:
        return None
    logger.critical("no order worker has been well since %s: cancelling what is open", last)
    done = sum(cancelled(each, symbol) for each in charges for symbol in sorted(each.markets))
    ledger.heartbeats.beat("guard", GUARD, now)
    return done
