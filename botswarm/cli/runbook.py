"""Print what to do: a page for each alert and each group of commands."""

from __future__ import annotations

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer
from botswarm.cli.table import in_columns


@click.command(cls=Command)
@click.argument("name", required=False)
def runbook(name: str | None) -> Answer:
    """Print what to do about an alert, or with a command.

    NAME is the name of either; its page says symptom, cause, what to run and what to expect.
    Without a name the pages are listed.
    """
    from botswarm.alerts import pages

    if name is None:
        found = pages.names()
        return Answer(data=found, text=in_columns(["PAGE", "WHEN"], list(found.items())))
    text = pages.page(name)
    return Answer(data={"name": name, "text": text}, text=text.rstrip("\n"))
