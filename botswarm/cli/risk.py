"""Risk: what may be risked, what is at stake, and what came of it."""

from __future__ import annotations

import click

from botswarm.cli.command import Group
from botswarm.cli.risk_limits import limits


@click.group(cls=Group)
def risk() -> None:
    """See what may be risked and what is, and change the limits."""


risk.add_command(limits)
