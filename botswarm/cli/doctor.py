"""Check this machine and every server that is configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from botswarm.cli import checks
from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed, ServerUnreachable
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError, Misconfigured


@click.command(cls=Command)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    type=click.Choice(list(checks.CHECKS)),
    help=f"Only this check; may be repeated: {', '.join(checks.CHECKS)}.",
)
@click.pass_obj
def doctor(session: Session, only: tuple[str, ...]) -> Answer:
    """Check this machine and every server that is configured, all at once.

    Exit 0 when nothing failed (warnings do not count), 5 when a configured server cannot be
    used, 3 when another check failed.
    """
    chosen = {name: check for name, check in checks.CHECKS.items() if not only or name in only}
    try:
        subject = checks.Subject(session.configuration())
        # The configuration's own row says them.
        session.warnings.clear()
    except Misconfigured as error:
        subject = checks.Subject(None, error)
    rows = checks.run(chosen, subject)
    marks = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skip": "-"}
    lines = [(marks[row.status], row.name, _sentence(row)) for row in rows]
    counts = {status: sum(row.status == status for row in rows) for status in marks}
    return Answer(
        data={"checks": [asdict(row) for row in rows], "counts": counts},
        text=in_columns(["", "CHECK", "FOUND"], lines),
        failure=_failure(rows),
    )


def _sentence(row: checks.Row) -> str:
    return f"{row.detail}; {row.cure}" if row.cure else row.detail


def _failure(rows: Sequence[checks.Row]) -> BotswarmError | None:
    failed = [row.name for row in rows if row.status == "fail"]
    if not failed:
        return None
    cause = f"{len(failed)} of {len(rows)} checks failed: {', '.join(failed)}"
    cure = "each row says what to do"
    if checks.SERVERS & set(failed):
        return ServerUnreachable(cause, cure=cure)
    return CheckFailed(cause, cure=cure)
