"""Measure how fast this machine runs the engine."""

from __future__ import annotations

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session


@click.group(cls=Group)
def bench() -> None:
    """Measure how fast this machine runs the engine."""


@bench.command("broker")
@click.option("--quick", is_flag=True, help="A smaller load: one minute instead of six.")
@click.pass_obj
def broker(session: Session, quick: bool) -> Answer:
    """Measure the embedded broker and RabbitMQ, side by side in one run.

    Each runs as a process of its own with fresh data. Where RabbitMQ is not installed the
    embedded broker is measured alone. docs/bench.md defines every figure.
    """
    from botswarm.bench.broker import main
    from botswarm.bench.figures import table

    def progress(line: str) -> None:
        if not session.json and not session.quiet:
            click.echo(line, err=True)

    figures = main(quick=quick, progress=progress)
    return Answer(data=figures, text=table(figures))


@bench.command("tasks")
@click.option("--quick", is_flag=True, help="Smaller loads, fewer rounds.")
@click.pass_obj
def tasks(session: Session, quick: bool) -> Answer:
    """Measure our Celery app beside bare Celery with the same guarantees, on both brokers.

    Both: quorum queue, late acks, confirmed publishes, two children with a task each. Ours also
    caps, logs, counts and checks routes. docs/bench.md defines every figure.
    """
    from botswarm.bench.tasks import main, table

    def progress(line: str) -> None:
        if not session.json and not session.quiet:
            click.echo(line, err=True)

    figures = main(quick=quick, progress=progress)
    return Answer(data=figures, text=table(figures))
