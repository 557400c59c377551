"""Reconciliation in the order workers: at their start, every minute, and before an order."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import current_app, signals

from botswarm import metrics, stopping
from botswarm.domain.reconciliation import Reconciliation
from botswarm.errors import BotswarmError, Unreachable
from botswarm.messages import ReconcileAccount, send
from botswarm.queueing import App
from botswarm.trading.reconcile import reconcile
from workers.desks import Desk

logger = logging.getLogger(__name__)


def reconciled(at: Desk) -> Reconciliation | None:
    """Compare the account with its venue; None where another process is about it.

    Raises Unreachable where the venue does not answer; its account is left alone for a while.
    """
    slots = current_app.slots
    slot = slots.take(f"reconcile-{at.account.venue}-{at.account.name}", 1)
    if slot is None:
        return None
    began = at.clock.monotonic()
    outcome = "unreachable"
    try:
        done = reconcile(
            at.ledger.books, at.ledger.reconciliations, at.venue, at.clock, wait=stopping.pause
        )
        outcome = _outcome(done)
        return done
    except Unreachable:
        at.outage.began(at.clock.monotonic() - began)
        raise
    finally:
        slots.give_back(slot)
        metrics.RECONCILIATIONS.labels(at.account.venue, at.account.name, outcome).inc()


def _outcome(done: Reconciliation) -> str:
    if done.raised:
        return "differs"
    return "moving" if done.undecided else "agrees"


def is_awaited(at: Desk) -> bool:
    """Whether orders wait for the account to be compared with its venue."""
    account = at.account
    return at.ledger.reconciliations.is_awaited(account.venue, account.name, at.clock.now())


def begin_in_workers() -> None:
    """As soon as a worker is ready, and before anybody asks for it."""
    signals.worker_ready.connect(_ask, weak=False)


def _ask(sender: Any, **_: Any) -> None:
    app = sender.app
    if isinstance(app, App) and "orders" in app.amqp.queues.consume_from:
        threading.Thread(target=_send, args=(app,), daemon=True).start()


def _send(app: App) -> None:
    try:
        send(app, ReconcileAccount())
    except (BotswarmError, OSError) as error:
        # The first order asks for it again, and so does beat.
        logger.warning("reconciliation was not rung for: %s", error)
