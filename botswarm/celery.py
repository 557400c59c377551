"""The Celery app, found by ``celery -A botswarm``; an entrance, so it reads the environment."""

from __future__ import annotations

import os
import sys

from botswarm.broker.record import addresses
from botswarm.config import load
from botswarm.errors import BotswarmError, Misconfigured
from botswarm.queueing import App, make_app


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
