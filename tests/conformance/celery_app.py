"""A Celery application as somebody else might write one; the suite runs workers of it."""

# Celery ships no types and kombu half of its own.
# mypy: disable-error-code="attr-defined,name-defined,no-untyped-call,untyped-decorator"

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

app = Celery("conformance")
app.conf.update(
    task_queues=[
        Queue(
            "work",
            Exchange("work", type="topic"),
            routing_key="work",
            queue_arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": 3,
                "x-dead-letter-exchange": "dead",
            },
        ),
    ],
    task_default_queue="work",
    task_default_exchange="work",
    task_default_exchange_type="topic",
    task_default_routing_key="work",
    task_create_missing_queues=False,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure=False,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    broker_native_delayed_delivery_queue_type="quorum",
    result_extended=True,
)


def _note(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(line + "\n")


@app.task
def add(one: int, two: int) -> int:
    return one + two


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def flaky(self: Any, path: str, failures: int) -> int:
    """Succeed after so many retries, a second apart; note when each run began."""
    _note(path, str(time.time()))
    if self.request.retries < failures:
        raise self.retry(countdown=1)
    return int(self.request.retries)


@app.task
def note(path: str) -> None:
    _note(path, str(time.time()))


@app.task
def linger(path: str, seconds: float) -> None:
    _note(path, f"begin {os.getpid()}")
    time.sleep(seconds)
    _note(path, f"end {os.getpid()}")


@app.task
def fail() -> None:
    raise ValueError("as asked")
