"""What the ``ops`` queue runs: the small jobs that keep the swarm well."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from functools import lru_cache

from botswarm.alerts.night import sees_well, watch_of
from botswarm.alerts.watch import Watch
from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.errors import BotswarmError
from botswarm.ledger import uptimes
from botswarm.ledger.alerts import Alerts
from botswarm.ledger.evaluations import Evaluations
from botswarm.ledger.outbox import Outbox
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.messages import (
    GuardOrders,
    Probe,
    PruneAlerts,
    PruneEvaluations,
    StepEnabling,
    SweepOutbox,
    WatchAlerts,
)
from botswarm.queueing import current_settings, ring, task
from workers import backups, enabling, traces, upkeep, watching

# Its tasks are of this queue too.
__all__ = ["backups", "traces", "upkeep"]

logger = logging.getLogger(__name__)

UNHEARD_AFTER_S = 5.0


@task(Probe)
def probe(text: str = "hello") -> dict[str, object]:
    """Harmless however often it runs: it only says who ran it."""
    return {"text": text, "instance_id": current_settings().instance_id, "pid": os.getpid()}


@task(SweepOutbox)
def sweep_outbox() -> int:
    """Harmless however often it runs: a doorbell rung twice finds the order claimed.

    A ledger that cannot be read is said and not a dead letter: the next sweep is 5 s away.
    """
    try:
        outbox = Outbox(_database(current_settings().database_url, os.getpid()))
        rung = outbox.sweep(ring, SystemClock().now(), older_than_s=UNHEARD_AFTER_S)
        outbox.prune(SystemClock().now())
    except BotswarmError as error:
        logger.error("the outbox was not swept: %s; %s", error, error.cure)
        return 0
    if rung:
        logger.warning("%d doorbells had not been heard: rang again", rung)
    return rung


@task(GuardOrders)
def guard_orders() -> int | None:
    """Harmless however often it runs: what is cancelled is cancelled once."""
    settings = current_settings()
    if not settings.cancel_on_disconnect_s:
        return None
    try:
        ledger, venues = _watched_over(os.getpid())
        return watching.guard(ledger, venues, settings.cancel_on_disconnect_s, SystemClock())
    except BotswarmError as error:
        logger.error("open orders are not watched over: %s; %s", error, error.cure)
        return None


@task(StepEnabling)
def step_enabling() -> str | None:
    """Harmless however often it runs: the ledger's row says how far it is."""
    try:
        database = _database(current_settings().database_url, os.getpid())
        done = enabling.look(database, SystemClock().now())
    except BotswarmError as error:
        logger.error("opening trading step by step stands still: %s; %s", error, error.cure)
        return None
    return None if done is None else done.state.value


@task(PruneEvaluations)
def prune_evaluations() -> int:
    """Harmless however often it runs. A ledger that cannot be written is said: the next round is
    minutes away, and until then there are a few evaluations more than wanted.
    """
    settings = current_settings()
    before = SystemClock().now() - timedelta(days=settings.evaluation_days_kept)
    try:
        kept = Evaluations(_database(settings.database_url, os.getpid()))
        gone = kept.prune(before=before, kept_max=settings.evaluations_kept_max)
    except BotswarmError as error:
        logger.error("old evaluations were not deleted: %s; %s", error, error.cure)
        return 0
    if gone:
        logger.info("%d old evaluations deleted", gone)
    return gone


@task(WatchAlerts)
def watch_alerts() -> int:
    """Harmless however often it runs, and on several machines: what is open is begun once, and
    each notice belongs to whoever claims it. Answers how many alerts are open.
    """
    done = _night(os.getpid()).round()
    # Whoever makes the rounds while no worker of ops does, does not write that all is well.
    if sees_well(done):
        database = _database(current_settings().database_url, os.getpid())
        try:
            uptimes.mark(database, SystemClock().now())
        except BotswarmError as error:
            logger.warning("that the swarm is up was not written down: %s", error)
    return done.open


@task(PruneAlerts)
def prune_alerts() -> int:
    """Harmless however often it runs: what is gone is gone."""
    database = _database(current_settings().database_url, os.getpid())
    return Alerts(database).prune(SystemClock().now())


@lru_cache(maxsize=1)
def _night(pid: int) -> Watch:
    settings = current_settings()
    return watch_of(settings, _database(settings.database_url, pid))


@lru_cache(maxsize=1)
def _watched_over(_: int) -> tuple[Ledger, watching.Venues]:
    """Of one process: connections do not survive a fork."""
    ledger = Ledger(current_settings().database_url)
    return ledger, watching.Venues(current_settings(), ledger, SystemClock())


@lru_cache(maxsize=1)
def _database(url: Secret, pid: int) -> Database:
    """One pool for each process: connections do not survive a fork."""
    return Database(url)
