"""Carry log lines to a place that outlives this machine, and fetch them from there."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import LogsDamaged, LogsLost
from botswarm.cli.moments import MOMENT
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.backup.log_carrier import Carrier
    from botswarm.errors import BotswarmError

SHOWN_MAX = 5


@click.command("archive", cls=Command)
@click.option("--dry-run", is_flag=True, help="Say what would be carried, and carry nothing.")
@click.pass_obj
def archive(session: Session, dry_run: bool) -> Answer:
    """Carry what the log files of this machine say to BOTSWARM_LOG_ARCHIVE, each line once.

    botswarm up does so by itself; this is for machines without it, every few minutes. What is
    there is left as it is, and nothing is ever deleted there. Exits with 3 where a file was put
    away before all of it was carried, with 5 or 6 where the place takes nothing.
    """
    from botswarm.backup.log_carrier import carrier_of

    carrier = carrier_of(session.settings())
    if dry_run:
        return _owed(carrier)
    done = carrier.round()
    failure: BotswarmError | None = done.trouble
    if done.lost:
        failure = LogsLost(
            f"{len(done.lost)} files were put away before all of them was carried",
            cure="carry more often, or raise BOTSWARM_LOG_FILES_KEPT",
        )
    warnings = [] if failure is done.trouble or done.trouble is None else [str(done.trouble)]
    return Answer(
        data={
            "place": carrier.place,
            "pieces": done.pieces,
            "bytes": done.bytes,
            "lost": [{"file": str(each.log), "bytes": each.bytes} for each in done.lost],
        },
        text=f"{done.bytes} bytes of log lines were carried to {carrier.place}, "
        f"in {len(done.pieces)} pieces.",
        warnings=warnings,
        failure=failure,
    )


def _owed(carrier: Carrier) -> Answer:
    owed = carrier.owed()
    rows = [(str(log), f"{count}") for log, count in owed.items()]
    return Answer(
        data={
            "place": carrier.place,
            "files": [{"file": str(log), "bytes": count} for log, count in owed.items()],
        },
        text=f"{in_columns(('LOG FILE', 'BYTES TO CARRY'), rows)}\nNothing was carried."
        if rows
        else "No log file is written here.",
    )


@click.command("fetch", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--instance", metavar="NAME", help="Of which machine; default: this one.")
@click.option("--process", metavar="NAME", help="Of this process only, such as feed or orders.")
@click.option("--since", type=MOMENT, default="24h", show_default=True, help="From when on.")
@click.option("--until", type=MOMENT, default="now", show_default=True, help="Up to when.")
@click.pass_obj
def fetch(
    session: Session,
    folder: Path,
    instance: str | None,
    process: str | None,
    since: datetime,
    until: datetime,
) -> Answer:
    """Fetch log lines from BOTSWARM_LOG_ARCHIVE into a new folder, one file for each process.

    Of this machine, or of one that is lost: by its BOTSWARM_INSTANCE_ID, else its host name. Exits
    with 3 where a piece cannot be read; the others are there.
    """
    from botswarm.backup.log_fetch import Wanted, fetcher_of

    settings = session.settings()
    wanted = Wanted(
        instance_id=instance or settings.instance_id, process=process, since=since, until=until
    )
    done = fetcher_of(settings).fetch(wanted, folder)
    failure = None
    if done.damaged:
        failure = LogsDamaged(
            f"{len(done.damaged)} pieces cannot be read: {'; '.join(done.damaged[:SHOWN_MAX])}",
            cure="the others are there; sealed ones need the BOTSWARM_BACKUP_KEY of then",
        )
    return Answer(
        data={
            "folder": str(folder),
            "pieces": done.pieces,
            "bytes": done.bytes,
            "processes": sorted(done.processes),
            "damaged": done.damaged,
        },
        text=f"{done.bytes} bytes of {len(done.processes)} processes are in {folder / 'logs'}.",
        next=[f"BOTSWARM_STATE_DIR={folder} botswarm logs search --since {since:%Y-%m-%dT%H:%M}"],
        failure=failure,
    )
