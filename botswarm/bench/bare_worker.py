"""Plain Celery with the guarantees ours gives, by its settings alone; run as a process of its own.

The broker's URL comes by standard input: it carries a password, and arguments can be read by
every user of the machine.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from kombu import Exchange, Queue  # type: ignore[attr-defined]  # exported lazily

QUEUE = "bench.bare"
NOOP, ECHO = "bench.bare.noop", "bench.bare.echo"


# What a queue of ours promises: bounded, an error when full, dead letters at least once.
ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-max-length": 100_000,
    "x-overflow": "reject-publish",
    "x-delivery-limit": 5,
    "x-dead-letter-exchange": "bench.bare.dead",
    "x-dead-letter-strategy": "at-least-once",
}


def make_bare_app(url: str) -> Any:
    """Late acks, confirmed publishes, time limits, a window of one task for each child."""
    app = Celery("bare", broker=url, backend="rpc://", set_as_current=False)
    app.conf.update(
        task_queues=[
            Queue(  # type: ignore[no-untyped-call]
                QUEUE,
                Exchange("bench.bare", "topic"),  # type: ignore[no-untyped-call]
                QUEUE,
                queue_arguments=ARGUMENTS,
            )
        ],
        task_default_queue=QUEUE,
        task_default_exchange="bench.bare",
        task_default_exchange_type="topic",
        task_default_routing_key=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=False,
        task_acks_on_timeout=False,
        task_soft_time_limit=60,
        task_time_limit=90,
        worker_prefetch_multiplier=1,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    app.task(name=NOOP, ignore_result=True)(_noop)
    app.task(name=ECHO)(_echo)
    return app


def _noop() -> None:
    return None


def _echo(value: Any) -> Any:
    return value


if __name__ == "__main__":
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
    make_bare_app(sys.stdin.readline().strip()).worker_main(
        ["worker", "--pool", "prefork", "--concurrency", "2", *quiet]
    )
