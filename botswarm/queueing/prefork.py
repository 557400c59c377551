"""Celery's pool of child processes: what befalls a child ends no worker, and holds none up."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from celery import signals
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool
from celery.worker import state

IDLE_END_S = 5.0
"""A child that has nothing to do ends within a second, unless something is wrong with it."""
SAY_S = 0.5

logger = logging.getLogger(__name__)


class Children(AsynPool):  # type: ignore[misc]
    def _track_child_process(self, proc: Any, hub: Any) -> None:
        """Called for every child whenever the broker is back.

        Of one whose end was noticed, and which is not replaced yet, there is nothing left to
        listen to. Celery tries, kombu answers with a ValueError, and the whole worker ends.
        """
        if getattr(proc, "_sentinel_poll", hub) is not None:
            super()._track_child_process(proc, hub)


class Pool(TaskPool):  # type: ignore[misc]
    Pool = Children

    def did_start_ok(self) -> bool:
        """A child that died before the broker was there is replaced, as any other: Celery would
        end the whole worker.
        """
        return True

    def on_stop(self) -> None:
        """Waits for the children's ends, for as long as that takes, and most of all for those of
        children that wait themselves: for half a minute, where the parent has missed a result.
        """
        is_done = threading.Event()
        watch = threading.Thread(target=_end_the_idle, args=(self._pool, is_done), daemon=True)
        watch.start()
        try:
            super().on_stop()
        finally:
            is_done.set()


def _end_the_idle(pool: Any, is_done: threading.Event) -> None:
    """By force, as with any other death of a child: what it had begun is begun again."""
    worked_at = time.monotonic()
    while not is_done.wait(SAY_S):
        if state.active_requests:
            worked_at = time.monotonic()
        elif time.monotonic() - worked_at > IDLE_END_S:
            break
    if is_done.is_set():
        return
    pids = [process.pid for process in list(pool._pool) if process._is_alive()]
    logger.warning(
        "no task runs, and these children do not end; they write where they are, and are ended: %s",
        ", ".join(map(str, pids)),
    )
    for number in (signal.SIGUSR2, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        is_done.wait(SAY_S)


@signals.worker_process_init.connect(weak=False)
def _say_where_at_usr2(**_: Any) -> None:
    # Not sys.stderr, which may be Celery's own and have no file.
    if sys.__stderr__ is not None:
        faulthandler.register(signal.SIGUSR2, file=sys.__stderr__, all_threads=True)
