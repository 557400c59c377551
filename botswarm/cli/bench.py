"""Measure how fast this machine runs the engine."""

from __future__ import annotations

import json

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session


@click.group(cls=Group)
def bench() -> None:
    """Measure how fast this machine runs the engine."""


@bench.command("broker")
@click.option("--quick", is_flag=True, help="A smaller load: seconds instead of minutes.")
@click.option(
    "--rabbitmq-url", metavar="URL", help="Measure this RabbitMQ beside the embedded one."
)
@click.pass_obj
def broker(session: Session, quick: bool, rabbitmq_url: str | None) -> Answer:
    """Measure the embedded broker, side by side with RabbitMQ where there is one."""
    from botswarm.bench.broker import main

    figures = main(json=session.json, quick=quick, rabbitmq_url=rabbitmq_url)
    return Answer(data=figures, text=json.dumps(figures, indent=2))
