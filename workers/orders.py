"""What the ``orders`` queue runs: place an order, and find out what became of all of them."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import current_app, signals

from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.domain.order import Order
from botswarm.errors import BotswarmError
from botswarm.exchanges import registry
from botswarm.exchanges.base import AccountEvent, TradingVenue
from botswarm.ledger.store import Ledger
from botswarm.messages import PlaceOrder, SettleOrders, send
from botswarm.queueing import App, current_settings, task
from botswarm.risk.limits import Limits
from botswarm.trading import executor
from botswarm.trading.limits import limits_of
from botswarm.trading.settle import Watch, settle

logger = logging.getLogger(__name__)

LISTEN_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What one process trades with."""

    ledger: Ledger
    venue: TradingVenue
    limits: Limits
    clock: Clock
    watch: Watch = field(default_factory=Watch)


def desk() -> Desk:
    """This process's own; raises Unreachable where venue or ledger cannot be used yet."""
    return _desk_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _desk_of(_: int) -> Desk:
    # By process: a forked child must never write into its parent's connections.
    settings, clock = current_settings(), SystemClock()
    ledger, venue = Ledger(settings.database_url), registry.trading_venue(settings, clock)
    ledger.books.save_instruments(venue.instruments())
    return Desk(ledger, venue, limits_of(settings), clock)


@task(PlaceOrder)
def place(order_id: str) -> str | None:
    """Harmless when it comes twice: the ledger's row decides what is still to be done.

    For the same reason what cannot be done now is said, and is no dead letter: the row rings
    again, and what was sent is settled.
    """
    try:
        at = desk()
        order = executor.place(order_id, at.ledger.books, at.venue, at.limits, at.clock)
    except BotswarmError as error:
        logger.error("order %s is left as it stands: %s; %s", order_id, error, error.cure)
        return None
    return None if order is None else order.state.value


@task(SettleOrders)
def settle_orders(order_id: str | None = None) -> dict[str, Any] | None:
    """Harmless at any time, and in any number at once; the next one is never far."""
    try:
        with the_only_round(order_id) as is_mine:
            if not is_mine:
                return None
            at = desk()
            done = settle(at.ledger.books, at.venue, at.clock, at.watch, order_id)
    except BotswarmError as error:
        logger.error("nothing was settled: %s; %s", error, error.cure)
        return None
    for failure in done.failures:
        logger.warning("not answered: %s", failure)
    return {"open": done.open, "in_doubt": done.in_doubt, "moved": done.moved}


@contextmanager
def the_only_round(order_id: str | None) -> Iterator[bool]:
    """Whether to go on: rounds over everything go one at a time, in the whole swarm.

    A venue that answers slowly makes a round last many times as long as the pause between two;
    without this they would soon hold every child, and no order could be placed.
    """
    slots = current_app.slots
    slot = slots.take("settle-orders", 1) if order_id is None else None
    try:
        yield order_id is not None or slot is not None
    finally:
        if slot is not None:
            slots.give_back(slot)


# --- the venue's own doorbell ---------------------------------------------------------------------


def _listen(sender: Any, **_: Any) -> None:
    """One listener per worker, in its parent process; it books nothing, it only rings."""
    app = sender.app
    if isinstance(app, App) and "orders" in app.amqp.queues.consume_from:
        threading.Thread(
            target=listen, args=(app, app.settings, threading.Event()), daemon=True
        ).start()


signals.worker_ready.connect(_listen, weak=False)


def listen(app: App, settings: Settings, stop: threading.Event) -> None:
    """For ever, from whenever there is something to listen to."""
    while not stop.is_set():
        try:
            stream = registry.user_data(settings, SystemClock())
            stream.run(lambda event: _ring(app, event), lambda: _send(app, SettleOrders()), stop)
        except BotswarmError as error:
            logger.info("no user data yet: %s", error)
        except Exception:
            logger.exception("user data: a defect; listening again")
        stop.wait(LISTEN_AGAIN_S)


def _ring(app: App, event: AccountEvent) -> None:
    order_id = Order.id_of(event.report.client_order_id)
    # What is no news would only ring twice.
    if order_id is None or not event.is_news:
        return
    _send(app, SettleOrders(order_id=order_id))


def _send(app: App, message: SettleOrders) -> None:
    try:
        send(app, message)
    except (BotswarmError, OSError) as error:
        # The periodic round comes without being called.
        logger.warning("not rung: %s", error)
