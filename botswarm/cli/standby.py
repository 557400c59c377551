"""Stay up and do nothing, where a line of the Procfile has nothing to do."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from botswarm.config import Configuration, Settings

logger = logging.getLogger(__name__)

Callback = Callable[..., Any]


def if_needed(command: Callback) -> Callback:
    help = "Stand by, doing nothing, where the settings name another; for runners that take all "
    help += "processes down when one ends."
    return click.option("--if-needed", is_flag=True, help=help)(command)


def broker_elsewhere(configuration: Configuration) -> str | None:
    """Why no embedded broker is needed; None where one is."""
    url = configuration.settings.broker_url
    if url is None or configuration.origins["broker_url"].startswith("embedded broker"):
        return None
    return f"the broker is {url.masked}"


def exchange_elsewhere(settings: Settings) -> str | None:
    """Why no simulated exchange is needed; None where one is."""
    if settings.binance_api_key is None:
        return None
    return "an exchange account is configured"


def stand_by(settings: Settings, role: str, reason: str) -> None:
    """Until SIGTERM or SIGINT; whoever asks how it is hears that all is well."""
    from botswarm import logs
    from botswarm.health.process import Health

    logs.configure(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logger.info("not needed here: %s; standing by", reason)
    with Health(settings, role):
        stop.wait()
