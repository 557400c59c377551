"""Bring a backup back, and rehearse it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.backup_place import from_folder, place_of
from botswarm.cli.command import Command
from botswarm.cli.failures import DrillFailed, NotConfirmed
from botswarm.cli.moments import MOMENT
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.trading import person

if TYPE_CHECKING:
    from botswarm.ledger.backups import Drill

DRILL_COLUMNS = ("AT", "BACKUP", "", "BACK AFTER", "WOULD BE LOST", "WHAT")


@click.command("restore", cls=Command)
@click.argument("name", metavar="BACKUP")
@from_folder
@click.option("--at", "until", type=MOMENT, help="As it was then, where the archive reaches there.")
@click.option("--no-archive", is_flag=True, help="The backup alone, not what the archive adds.")
@click.pass_obj
def restore(
    session: Session, name: str, folder: Path | None, until: datetime | None, no_archive: bool
) -> Answer:
    """Put a backup in the ledger's place: by its name, or latest for what shows the last moment.

    It is brought back to the side first and held to what it says: a damaged one changes nothing.
    The ledger that was there is kept beside it. The swarm is then halted until every account
    agrees with its venue and no order is in doubt, and goes on by itself. Stop the swarm first
    where the ledger is a SQLite file. Must be confirmed with --yes.
    """
    from botswarm.backup import choosing
    from botswarm.backup.restore import restore as bring_back

    place = place_of(session, folder)
    chosen, wish = choosing.named(place, name, until, alone=no_archive)
    if not session.yes:
        raise NotConfirmed(
            f"this puts backup {chosen.id} of {chosen.manifest.at:%Y-%m-%d %H:%M:%S} UTC"
            f"{' and its archive' if wish.with_archive else ''} in the ledger's place, and nobody "
            "confirmed it",
            cure="if that is meant, say it again with --yes",
        )
    done = bring_back(place, chosen, actor=person(), wish=wish)
    text = (
        f"The ledger is that of {done.shows:%Y-%m-%d %H:%M:%S} UTC, with "
        f"{done.facts.chain_sequence} entries; it took {done.took_ms / 1000:.1f} s. "
        "The swarm is halted until every account agrees with its venue."
    )
    if done.old is not None:
        text += f"\nThe one before is kept: {done.old}"
    data = {
        "backup": done.backup,
        "shows": done.shows.isoformat(),
        "took_ms": done.took_ms,
        "chain": {"sequence": done.facts.chain_sequence, "hash": done.facts.chain_hash},
        "open_orders": len(done.facts.open_orders),
        "old": done.old,
        "files": list(done.files),
    }
    return Answer(data=data, text=text, next=["botswarm up", "botswarm trading status"])


@click.command("drill", cls=Command)
@click.argument("name", metavar="[BACKUP]", required=False)
@from_folder
@click.option("--history", is_flag=True, help="Show what the last drills found instead.")
@click.pass_obj
def drill(session: Session, name: str | None, folder: Path | None, history: bool) -> Answer:
    """Rehearse the loss of the ledger: how long until it is back, how much of it would be gone.

    Everything of a restore but its last step, to the side, with the archive as far as it reaches.
    Kept in the ledger and told in the metrics; exits with 3 where it takes longer than
    BOTSWARM_BACKUP_RTO_MAX_S, loses more than BOTSWARM_BACKUP_RPO_MAX_S, or fails. A backup that is
    named is not held to its age.
    """
    from botswarm.backup.drill import drill as rehearse
    from botswarm.ledger.store import Ledger

    place = place_of(session, folder)
    if history:
        found = Ledger(place.database_url).backups.drills()
        return Answer(data=[_told(each) for each in found], text=_in_rows(*found))
    done = rehearse(place, name)
    failure = None
    if not done.is_good:
        failure = DrillFailed(
            f"the drill went wrong: {done.words}",
            cure="make backups more often, switch the archive on, or mend what it says",
        )
    return Answer(data=_told(done), text=_in_rows(done), failure=failure)


def _told(each: Drill) -> dict[str, object]:
    return {
        "at": each.at.isoformat(),
        "backup": each.backup,
        "good": each.is_good,
        "rto_s": None if each.rto_ms is None else each.rto_ms / 1000,
        "rpo_s": None if each.rpo_ms is None else each.rpo_ms / 1000,
        "words": each.words,
        "numbers": dict(each.numbers),
    }


def _in_rows(*drills: Drill) -> str:
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            each.backup or "",
            "ok" if each.is_good else "WRONG",
            "" if each.rto_ms is None else f"{each.rto_ms / 1000:.1f} s",
            "" if each.rpo_ms is None else f"{each.rpo_ms / 1000:.1f} s",
            each.words,
        )
        for each in drills
    ]
    return in_columns(DRILL_COLUMNS, rows)
