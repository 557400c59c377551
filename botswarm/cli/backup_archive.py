"""Run the process that carries every change of the ledger into the folder of backups."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

import click

from botswarm.cli import standby
from botswarm.cli.command import Command
from botswarm.cli.session import Session
from botswarm.errors import Refused

if TYPE_CHECKING:
    from botswarm.backup.reach import Reach
    from botswarm.health.watch import Finding


@click.command("archive", cls=Command)
@standby.if_needed
@click.pass_obj
def archive(session: Session, /, if_needed: bool) -> None:
    """Carry every change of the ledger into the folder of backups, all the time.

    It makes a copy to go on from, tries it out, and adds what changes every
    BOTSWARM_BACKUP_ARCHIVE_EVERY_S seconds: about what a lost machine then costs. Only with
    BOTSWARM_BACKUP_ARCHIVE=on. One for each ledger.
    """
    settings = session.settings(log_level=("-v", "debug" if session.verbose else None))
    if not settings.backup_archive:
        reason = "BOTSWARM_BACKUP_ARCHIVE is off"
        if if_needed:
            standby.stand_by(settings, "archive", reason)
            return
        raise Refused(f"the ledger is not archived: {reason}", cure="set it to on, then try again")

    from botswarm import logs
    from botswarm.backup import archiving
    from botswarm.backup.place import place_of
    from botswarm.health.process import Health
    from botswarm.ledger import slow

    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    slow.watch(settings.ledger_slow_ms)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    place = place_of(settings)
    progress = archiving.Progress(place)
    health = Health(settings, "archive")
    health.work_of("the archive", progress.age_s)
    if settings.backup_s3_url is not None:
        health.check("bucket", lambda: finding_of(progress.reach))
    with health:
        archiving.run(place, stop, progress)


def finding_of(reach: Reach) -> Finding:
    """Judged by how long nothing has arrived."""
    from botswarm.health.watch import Finding

    failing = reach.failing()
    if failing is None:
        return Finding(words="what is archived reaches the bucket", value=0.0)
    seconds, why = failing
    return Finding(words=f"nothing has arrived for {seconds:.0f} s: {why}", value=round(seconds, 1))
