"""The command line: the entrance that reads the environment, and the one place errors are shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from botswarm.errors import BotswarmError


@click.group()
def botswarm() -> None:
    """A swarm of crypto trading bots on Celery and RabbitMQ."""


@botswarm.group()
def broker() -> None:
    """The embedded AMQP broker: one machine, nothing to install."""


@broker.command("run")
def run() -> None:
    """Run the embedded broker until it is told to stop."""
    from botswarm.broker.options import BrokerOptions
    from botswarm.broker.server import serve

    serve(BrokerOptions(state_dir=Path(os.environ.get("BOTSWARM_STATE_DIR", ".botswarm"))))


def main() -> None:
    try:
        botswarm.main()
    except BotswarmError as error:
        click.echo(f"Error: {error.cause}. {error.cure}", err=True)
        sys.exit(error.exit_code)
