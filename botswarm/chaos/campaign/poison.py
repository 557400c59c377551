"""A task that kills whoever runs it; only the workers of a campaign load it."""

from __future__ import annotations

import os
import signal

from celery import shared_task

TASK = "workers.orders.chaos_poison"


@shared_task(name=TASK)  # type: ignore[untyped-decorator]
def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
