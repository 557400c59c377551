"""Celery's pool of child processes, which outlives a child that dies while the broker is away."""

from __future__ import annotations

from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool


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
