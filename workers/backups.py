"""What the ``ops`` queue does for the day on which the ledger is lost."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

from botswarm.backup import create as making
from botswarm.backup.drill import drill
from botswarm.backup.place import Place, place_of
from botswarm.backup.prune import prune_place
from botswarm.backup.remote import remote_of
from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.errors import BotswarmError, Refused
from botswarm.ledger.restores import Restores
from botswarm.ledger.session import Database
from botswarm.messages import BackUp, RehearseRestore, ReleaseRestored
from botswarm.queueing import current_settings, task

logger = logging.getLogger(__name__)

# A large ledger takes its time; RabbitMQ takes a message back after half an hour.
SOFT_LIMIT_S, HARD_LIMIT_S = 1500, 1560


@task(BackUp, soft_time_limit=SOFT_LIMIT_S, time_limit=HARD_LIMIT_S)
def back_up() -> str | None:
    """Harmless however often it runs: one is written at a time, and old ones go by the policy.

    Fails, and so is counted and told, where it is not good in the end.
    """
    place = _place()
    try:
        made = making.create(place)
    except Refused as error:
        logger.info("no backup is made: %s", error)
        return None
    done = making.try_out(place, made.backup)
    for words in (*made.left_out, *made.warnings):
        logger.warning("backup %s: %s", done.id, words)
    # Before the bucket is asked: while that is away the disk fills up all the same.
    gone = prune_place(place)
    logger.info("backup %s is good; %d old ones removed", done.id, len(gone.removed))
    if (remote := remote_of(place)) is not None:
        remote.push(done)
    return done.id


@task(RehearseRestore, soft_time_limit=SOFT_LIMIT_S, time_limit=HARD_LIMIT_S)
def rehearse_restore() -> dict[str, object]:
    """Harmless however often it runs: everything is done to the side."""
    done = drill(_place())
    if not done.is_good:
        logger.error("the restore drill went wrong: %s; botswarm backup drill", done.words)
    return {"good": done.is_good, "rto_ms": done.rto_ms, "rpo_ms": done.rpo_ms}


@task(ReleaseRestored)
def release_restored() -> str | None:
    """Harmless however often it runs: what was let go is not let go again."""
    restores = Restores(_database(current_settings().database_url, os.getpid()))
    try:
        backup = restores.release(SystemClock().now())
    except BotswarmError as error:
        logger.error("a restored ledger is not looked after: %s; %s", error, error.cure)
        return None
    if backup is not None:
        logger.warning("the ledger restored from backup %s agrees with its venues", backup)
    return backup


def _place() -> Place:
    return place_of(current_settings(), say=logger.info)


@lru_cache(maxsize=1)
def _database(url: Secret, pid: int) -> Database:
    """One pool for each process: connections do not survive a fork."""
    return Database(url)
