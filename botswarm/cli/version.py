"""Print the version."""

from __future__ import annotations

import platform

import click

import botswarm
from botswarm.cli.command import Command
from botswarm.cli.session import Answer


@click.command(cls=Command)
def version() -> Answer:
    """Print the version of botswarm and of Python."""
    facts = {"botswarm": botswarm.__version__, "python": platform.python_version()}
    return Answer(data=facts, text=f"botswarm {facts['botswarm']} (Python {facts['python']})")
