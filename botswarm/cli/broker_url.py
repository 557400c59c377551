"""Where the broker is, or what to start where none is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botswarm.cli.failures import NoBroker

if TYPE_CHECKING:
    from botswarm.config import Secret, Settings

START_BROKER = "start one: botswarm broker run"
START_SWARM = "start the swarm: botswarm up"


def broker_url_of(settings: Settings, start: str = START_BROKER) -> Secret:
    if settings.broker_url is None:
        raise NoBroker(
            f"no broker is configured, and none was started in {settings.state_dir}",
            cure=f"{start}; or set BOTSWARM_BROKER_URL",
        )
    return settings.broker_url
