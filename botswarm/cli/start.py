"""Wait until there is a broker to talk to, and hand this process over to Celery."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from botswarm.config import Secret, Settings
from botswarm.errors import TimedOut

PATIENCE_S = 60.0
PAUSE_S = 0.2
PORTS = {"amqps": 5671}

# Celery warns of root because of pickle, which our app refuses anyway; six lines at each start.
ROOT_IS_FINE = "ignore:You're running the worker with superuser privileges"

Reread = Callable[[], Settings]
"""The settings as they are now: the embedded broker may have started since."""


def celery(words: Sequence[str], reread: Reread) -> NoReturn:
    """Become ``celery -A botswarm …``: signals then reach Celery itself, with nothing between."""
    await_broker(reread)
    program = [sys.executable, "-W", ROOT_IS_FINE, "-m", "botswarm.cli.celery_command"]
    os.execv(sys.executable, [*program, *words])  # noqa: S606 - no shell is wanted


def await_broker(reread: Reread) -> None:
    """Other runners start every line of the Procfile at once, so it may not be there yet."""
    deadline, said = time.monotonic() + PATIENCE_S, False
    while not _answers(url := reread().broker_url):
        if time.monotonic() > deadline:
            where = url.masked if url else "(none has been started)"
            raise TimedOut(
                f"the broker {where} did not answer within {PATIENCE_S:g} s",
                cure="botswarm doctor --only broker",
            )
        if not said:
            print("waiting for the broker", file=sys.stderr, flush=True)
            said = True
        time.sleep(PAUSE_S)


def _answers(url: Secret | None) -> bool:
    if url is None:
        return False
    parts = urlsplit(url.reveal())
    port = parts.port or PORTS.get(parts.scheme, 5672)
    return port_answers(parts.hostname or "localhost", port, timeout_s=2)


def port_answers(host: str, port: int, *, timeout_s: float) -> bool:
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False
