"""The venues' own doorbells: one listener for each account in each order worker."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import signals

from botswarm.clock import SystemClock
from botswarm.config import Settings
from botswarm.domain.order import Order
from botswarm.errors import BotswarmError
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.base import AccountEvent, AccountStream
from botswarm.keys.ring import KeyRing
from botswarm.ledger.store import Ledger
from botswarm.messages import SettleOrders, send
from botswarm.queueing import App
from workers.desks import configured

logger = logging.getLogger(__name__)

LISTEN_AGAIN_S = 5.0
LOOK_FOR_ACCOUNTS_S = 15.0

Connect = Callable[[], AccountStream | None]


def listen_in_workers() -> None:
    """From when a worker is ready; in its parent process, which books nothing: it only rings."""
    signals.worker_ready.connect(_listen, weak=False)


def _listen(sender: Any, **_: Any) -> None:
    app = sender.app
    if isinstance(app, App) and "orders" in app.amqp.queues.consume_from:
        threading.Thread(target=listen, args=(app, threading.Event()), daemon=True).start()


def listen(app: App, stop: threading.Event) -> None:
    """For ever, also to accounts that are configured later."""
    heard: set[Account] = set()
    # Of the parent process alone, and used by no child: connections are made when first used.
    ledger = Ledger(app.settings.database_url)
    ring = KeyRing(app.settings, ledger.exchange_keys)
    while not stop.is_set():
        for account in _configured(app.settings, ring) - heard:
            heard.add(account)
            connect = functools.partial(_connected, app.settings, ledger, ring, account)
            threading.Thread(
                target=hear, args=(app, account, connect, stop), name=str(account), daemon=True
            ).start()
        stop.wait(LOOK_FOR_ACCOUNTS_S)


def _configured(settings: Settings, ring: KeyRing) -> set[Account]:
    try:
        return set(configured(settings, ring))
    except BotswarmError as error:
        logger.warning("kept accounts are not heard yet: %s", error)
        return set(accounts.accounts(settings))


def _connected(
    settings: Settings, ledger: Ledger, ring: KeyRing, account: Account
) -> AccountStream | None:
    """With the keys as they are kept now: they may have been changed since the last time."""
    keys, was_armed = ring.find(account.venue, account.name), ledger.armings.was_armed
    return accounts.account_stream(settings, SystemClock(), account, keys, was_armed)


def hear(app: App, account: Account, connect: Connect, stop: threading.Event) -> None:
    """One account's, from whenever there is something to listen to."""
    while not stop.is_set():
        try:
            stream = connect()
            if stream is None:
                logger.info("%s has no stream of its own: rounds find out", account)
                return
            stream.run(
                functools.partial(_ring, app, account),
                lambda: _send(app, SettleOrders(venue=account.venue, account=account.name)),
                stop,
            )
        except BotswarmError as error:
            logger.info("no user data of %s yet: %s", account, error)
        except Exception:
            logger.exception("user data of %s: a defect; listening again", account)
        stop.wait(LISTEN_AGAIN_S)


def _ring(app: App, account: Account, event: AccountEvent) -> None:
    order_id = Order.id_of(event.report.client_order_id)
    # What is no news would only ring twice.
    if order_id is None or not event.is_news:
        return
    _send(app, SettleOrders(order_id=order_id, venue=account.venue, account=account.name))


def _send(app: App, message: SettleOrders) -> None:
    try:
        send(app, message)
    except (BotswarmError, OSError) as error:
        # The periodic round comes without being called.
        logger.warning("not rung: %s", error)
