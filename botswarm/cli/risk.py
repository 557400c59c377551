"""Risk: what may be risked, what is at stake, and what came of it."""

from __future__ import annotations

import click

from botswarm.cli.command import Group
from botswarm.cli.risk_limits import limits
from botswarm.cli.risk_protections import protections
from botswarm.cli.risk_status import reset_scope, run_sweeps, show_history, show_status


@click.group(cls=Group)
def risk() -> None:
    """See what may be risked and what is, and change the limits."""


for command in (show_status, limits, protections, show_history, run_sweeps, reset_scope):
    risk.add_command(command)
