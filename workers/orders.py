"""What the ``orders`` queue runs: place and cancel orders, and find out what became of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from celery import current_app

from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import Refused as No
from botswarm.errors import BotswarmError, NotFound, Refused
from botswarm.exchanges.accounts import Account
from botswarm.messages import CancelOrder, PlaceOrder, ReconcileAccount, SettleOrders, send
from botswarm.queueing import task
from botswarm.trading import executor
from botswarm.trading.settle import Settled, cancel, settle
from workers import reconciling, streams, watches, watching
from workers.desks import Desk, Resting, account_for, desk_at, desks

logger = logging.getLogger(__name__)

UNHEARD_AFTER = timedelta(seconds=3)
UNHEARD_MAX = 20
"""In one round, which has other things to do as well."""
WAITING_MAX = 100
"""Orders that one reconciliation sets free; rounds find the others."""

streams.listen_in_workers()
reconciling.begin_in_workers()
watching.guard_in_workers()


@task(PlaceOrder)
def place(order_id: str, venue: str | None = None, account: str | None = None) -> str | None:
    """Harmless when it comes twice: the ledger's row decides what is still to be done.

    For the same reason what cannot be done now is said, and is no dead letter: the row rings
    again, and what was sent is settled.
    """
    try:
        with desk_at(account_for(order_id, venue, account)) as at:
            return _placed(order_id, at)
    except (NotFound, Refused) as error:
        return _refuse(order_id, error)
    except Resting as error:
        # The first round that is answered places it, if its signal is still fresh.
        logger.info("order %s waits: %s", order_id, error)
        return None
    except BotswarmError as error:
        logger.error("order %s is left as it stands: %s; %s", order_id, error, error.cure)
        return None


@task(CancelOrder)
def cancel_order(order_id: str) -> str | None:
    """Harmless when it comes twice, or late: the wish is in the ledger, and rounds carry it on."""
    try:
        with desk_at(desks().account_of(order_id)) as at:
            done = cancel(order_id, at.books, at.venue, at.clock, at.watch)
            _go_on(done, at)
            return at.ledger.orders.get(order_id).state.value
    except Resting:
        return None
    except BotswarmError as error:
        logger.error("order %s is not cancelled yet: %s; %s", order_id, error, error.cure)
        return None


@task(SettleOrders)
def settle_orders(
    order_id: str | None = None, venue: str | None = None, account: str | None = None
) -> dict[str, Any] | None:
    """Harmless at any time, and in any number at once; the next one is never far."""
    try:
        if order_id is not None:
            with desk_at(account_for(order_id, venue, account)) as at:
                return _settled(at, order_id)
        if venue is not None and account is not None:
            return _round(Account(venue, account))
        return _rounds(desks().accounts())
    except Resting:
        return None
    except BotswarmError as error:
        logger.error("nothing was settled: %s; %s", error, error.cure)
        return None


@task(ReconcileAccount)
def reconcile_account(
    venue: str | None = None, account: str | None = None
) -> dict[str, Any] | None:
    """Harmless at any time, and in any number at once: what it books is booked once."""
    try:
        if venue is not None and account is not None:
            with desk_at(Account(venue, account)) as at:
                return _reconciled(at)
        return _reconciled_all(desks().accounts())
    except Resting:
        return None
    except BotswarmError as error:
        logger.error("nothing was reconciled: %s; %s", error, error.cure)
        return None


# --- placing --------------------------------------------------------------------------------------


def _placed(order_id: str, at: Desk) -> str | None:
    if at.objection is not None:
        return _refuse(order_id, at.objection)
    began = at.clock.monotonic()
    order = executor.place(order_id, at.books, at.venue, at.limits, at.clock)
    if order is None and reconciling.is_awaited(at):
        _reconciled(at)
        return None
    if order is not None and order.state is OrderState.APPROVED:
        at.outage.began(at.clock.monotonic() - began)
    return None if order is None else order.state.value


def _refuse(order_id: str, error: BotswarmError) -> str | None:
    """Its account is not ours to trade, so no waiting helps."""
    reason = f"{error}: {error.cure}" if error.cure else str(error)
    clock, books = desks().clock, desks().ledger.books

    def no(order: Order, _: object) -> No:
        return No(order, reason)

    verdict = books.judge(order_id, no, clock.now())
    if verdict is None:
        return None
    logger.warning("refused %s: %s", order_id, reason, extra={"order_id": order_id})
    return verdict.order.state.value


# --- reconciliation -------------------------------------------------------------------------------


def _reconciled(at: Desk) -> dict[str, Any] | None:
    if at.outage.is_resting:
        return None
    done = reconciling.reconciled(at)
    if done is None:
        return None
    if done.agrees:
        # Those that waited for it.
        now = at.clock.now()
        _place_all(at.ledger.orders.ready(*done.place, now, WAITING_MAX), at)
    return {"agrees": done.agrees, **done.counts}


def _reconciled_all(accounts: Sequence[Account]) -> dict[str, Any] | None:
    if len(accounts) == 1:
        with desk_at(accounts[0]) as at:
            return _reconciled(at)
    for account in accounts:
        send(current_app, ReconcileAccount(venue=account.venue, account=account.name))
    return {"accounts": len(accounts)}


# --- rounds ---------------------------------------------------------------------------------------


def _rounds(accounts: Sequence[Account]) -> dict[str, Any] | None:
    """One account's round here; of several each on its own, so that none waits for another."""
    if len(accounts) == 1:
        return _round(accounts[0])
    for account in accounts:
        send(current_app, SettleOrders(venue=account.venue, account=account.name))
    return {"accounts": len(accounts)}


def _round(account: Account) -> dict[str, Any] | None:
    with the_only_round(account) as is_mine, ExitStack() as stack:
        if not is_mine:
            return None
        at = stack.enter_context(desk_at(account))
        remembered = watches.path_of(desks().settings.state_dir, account)
        watches.recall(remembered, at.watch, at.clock.monotonic())
        try:
            return _settled(at)
        finally:
            watches.keep(remembered, at.watch)


def _settled(at: Desk, order_id: str | None = None) -> dict[str, Any] | None:
    began = at.clock.monotonic()
    done = settle(at.books, at.venue, at.clock, at.watch, order_id)
    for failure in done.failures:
        logger.warning("%s: not answered: %s", at.account, failure)
    if done.is_given_up:
        at.outage.began(at.clock.monotonic() - began)
    elif order_id is None:
        _place_all(_unheard(at), at)
    _go_on(done, at)
    return {"open": done.open, "in_doubt": done.in_doubt, "moved": done.moved}


def _go_on(done: Settled, at: Desk) -> None:
    """What waited for the end of another order waits no more."""
    _place_all(done.freed, at)


def _unheard(at: Desk) -> Sequence[str]:
    """Orders whose doorbell was not heard, or was while the venue did not answer."""
    before = at.clock.now() - UNHEARD_AFTER
    return at.ledger.orders.ready(at.venue.name, at.venue.account, before, UNHEARD_MAX)


def _place_all(order_ids: Sequence[str], at: Desk) -> None:
    for order_id in order_ids:
        if at.outage.is_resting:
            return
        _placed(order_id, at)


@contextmanager
def the_only_round(account: Account) -> Iterator[bool]:
    """Whether to go on: rounds over an account go one at a time, in the whole swarm.

    A venue that answers slowly makes a round last many times as long as the pause between two;
    without this they would soon hold every child, and no order could be placed.
    """
    slots = current_app.slots
    slot = slots.take(f"settle-orders-{account.venue}-{account.name}", 1)
    try:
        yield slot is not None
    finally:
        if slot is not None:
            slots.give_back(slot)
