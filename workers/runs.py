"""What every worker writes down of the tasks that beat sends: when they ran and how they ended."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from celery import signals, states

from botswarm.clock import SystemClock
from botswarm.config import Secret, SecretMask
from botswarm.errors import BotswarmError
from botswarm.ledger.schedules import Ended, Schedules
from botswarm.ledger.session import Database
from botswarm.queueing import current_settings
from botswarm.queueing.leadership import SLOT_HEADER, Slot, slot_of
from workers.beat import sent_of

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 30.0
OUTCOMES = {states.SUCCESS: "done", states.FAILURE: "failed"}


@dataclass(slots=True)
class Counted:
    """Of entries that come every few seconds, this process writes what was last, and how many."""

    ended: dict[str, Ended] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, ended: Ended) -> Ended | None:
        """What is to be written now; an entry's failure always is."""
        with self.lock:
            before = self.ended.pop(ended.entry, None)
            if before is not None:
                runs, failures = before.runs + ended.runs, before.failures + ended.failures
                ended = replace(ended, runs=runs, failures=failures)
            now = time.monotonic()
            is_due = now - self.written.get(ended.entry, -WRITE_EVERY_S) >= WRITE_EVERY_S
            if not is_due and ended.outcome != "failed":
                self.ended[ended.entry] = ended
                return None
            self.written[ended.entry] = now
            return ended


_counted = Counted()
_began: dict[str, datetime] = {}


def _note_begin(task_id: str, task: Any, **_: Any) -> None:
    slot = slot_of(task.request.get(SLOT_HEADER))
    if slot is None:
        return
    now = SystemClock().now()
    _began[task_id] = now
    if slot.is_kept:
        _write(lambda: _schedules().began(sent_of(task_id, slot), now), slot)


def _note_end(task_id: str, task: Any, retval: Any, state: str | None, **_: Any) -> None:
    slot = slot_of(task.request.get(SLOT_HEADER))
    outcome = OUTCOMES.get(state or "")
    began = _began.pop(task_id, None)
    if slot is None or outcome is None or began is None:
        return  # a retry has not ended
    ended = Ended(
        entry=slot.entry,
        started_at=began,
        ended_at=SystemClock().now(),
        outcome=outcome,
        result=_in_words(retval),
        failures=int(outcome == "failed"),
    )
    if slot.is_kept:
        _write(lambda: _schedules().ended(ended, task_id), slot)
    elif (now_due := _counted.add(ended)) is not None:
        _write(lambda: _schedules().ended(now_due), slot)


def _in_words(value: Any) -> str:
    if value is None:
        return ""
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return SecretMask(current_settings().secrets)(text)


def _write(work: Callable[[], None], slot: Slot) -> None:
    """The task itself goes on whatever becomes of its line in the book."""
    try:
        work()
    except BotswarmError as error:
        logger.warning("the run of %s is not written down: %s", slot.entry, error)


def _schedules() -> Schedules:
    return _opened(current_settings().database_url, os.getpid())


@lru_cache(maxsize=1)
def _opened(url: Secret, _: int) -> Schedules:
    """Of one process: connections do not survive a fork."""
    return Schedules(Database(url))


signals.task_prerun.connect(_note_begin, weak=False)
signals.task_postrun.connect(_note_end, weak=False)
