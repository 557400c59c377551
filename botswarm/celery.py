"""The Celery app, found by ``celery -A botswarm``; an entrance, so it reads the environment."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from celery import signals

from botswarm.broker.record import addresses
from botswarm.config import load
from botswarm.errors import BotswarmError, Misconfigured
from botswarm.health import celery_app as health
from botswarm.ledger import slow
from botswarm.ledger.presence import Presence
from botswarm.queueing import App, make_app
from botswarm.queueing.table import TABLE

STRATEGISTS = {"strategy", "backtest"}
"""Queues whose workers run strategies."""


def _app() -> App:
    try:
        return make_app(load(environ=os.environ, embedded_broker=addresses).settings)
    except BotswarmError as error:
        problems = error.problems if isinstance(error, Misconfigured) else [error]
        for problem in problems:
            print(f"Error: {problem.cause}; {problem.cure}", file=sys.stderr)
        # Celery would print any other exception with a traceback.
        raise SystemExit(error.exit_code) from None


app = _app()


# --- that this process is there, and what it is made of ------------------------------------------


def _sign_worker(sender: Any, **_: Any) -> None:
    """Of the parent process: its children are made of the same."""
    queues = set(sender.app.amqp.queues.consume_from)
    is_strategist = bool(queues & STRATEGISTS)
    _present(Presence(app.settings, "worker", str(sender.hostname), is_strategist))


def _sign_beat(**_: Any) -> None:
    _present(Presence(app.settings, "beat", "beat"))


def _present(presence: Presence) -> None:
    presence.begin()
    atexit.register(presence.end)


signals.worker_ready.connect(_sign_worker, weak=False)
signals.beat_init.connect(_sign_beat, weak=False)

# --- what it has to wait for ----------------------------------------------------------------------


def _watch_the_ledger(**_: Any) -> None:
    slow.watch(app.settings.ledger_slow_ms)


# As soon as there is a log to say it in, and before anything is forked.
signals.setup_logging.connect(_watch_the_ledger, weak=False)

# --- how it is, for whoever asks ------------------------------------------------------------------

health.tell(app, {row.name: float(row.hard_limit_s) for row in TABLE})
