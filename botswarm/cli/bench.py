"""Measure how fast this machine runs the engine."""

from __future__ import annotations

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session


@click.group(cls=Group)
def bench() -> None:
    """Measure how fast this machine runs the engine."""


@bench.command("broker")
@click.option("--quick", is_flag=True, help="A smaller load: about a minute instead of many.")
@click.pass_obj
def broker(session: Session, quick: bool) -> Answer:
    """Measure the embedded broker and RabbitMQ side by side, each freshly started.

    Where RabbitMQ is not installed the embedded one is measured alone.
    """
    from botswarm.bench import figures
    from botswarm.bench.broker import main

    def progress(line: str) -> None:
        if not session.quiet and not session.json:
            click.echo(line, err=True)

    measured = main(quick=quick, progress=progress)
    missing = measured["missing"]
    return Answer(
        data=measured, text=figures.table(measured), warnings=[missing] if missing else []
    )
