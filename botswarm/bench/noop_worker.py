"""A real Celery worker that does nothing, very often; run as a process of its own.

The broker's URL comes by standard input: it carries a password, and arguments can be read by
every user of the machine.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from kombu import Exchange, Queue  # type: ignore[attr-defined]  # exported lazily

QUEUE = "bench.tasks"
NOOP, ECHO = "bench.noop", "bench.echo"


def make_app(url: str) -> Any:
    """One app for both ends: a durable classic queue, persistent messages, late acks."""
    app = Celery("bench", broker=url, backend="rpc://", set_as_current=False)
    app.conf.update(
        task_queues=[Queue(QUEUE, Exchange(QUEUE, "direct"), QUEUE)],  # type: ignore[no-untyped-call]
        task_default_queue=QUEUE,
        task_default_exchange=QUEUE,
        task_default_routing_key=QUEUE,
        task_acks_late=True,
        broker_connection_retry_on_startup=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=4,
    )
    app.task(name=NOOP, ignore_result=True)(_noop)
    app.task(name=ECHO)(_echo)
    return app


def _noop() -> None:
    return None


def _echo(value: Any) -> Any:
    return value


if __name__ == "__main__":
    # Gossip, mingle and heartbeats are chatter between workers; there is only one here.
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    make_app(sys.stdin.readline().strip()).worker_main(
        ["worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "ERROR", *quiet]
    )
