"""The master key: made, exchanged, and looked at from outside only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import Refused, Unreachable

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.keys.envelope import MasterKey


@click.group(cls=Group)
def secrets() -> None:
    """Make and change the master key of exchange keys."""


@secrets.command("init")
@click.pass_obj
def init(session: Session) -> Answer:
    """Make a master key in the state folder, for its owner only; it is never printed.

    Keep a copy of the file elsewhere, not beside the backups of the ledger.
    """
    from botswarm.keys import master

    settings = session.settings()
    if settings.master_key is not None:
        raise Refused(
            "BOTSWARM_MASTER_KEY gives a master key already",
            cure="keep that one, or change it with: botswarm secrets rotate --new-from-file FILE",
        )
    path = settings.state_dir / master.FILE
    made = master.make(path)
    following = [f"keep a copy of {path} elsewhere, not beside the backups of the ledger"]
    text = f"The master key {made.id} is in {path}."
    return Answer(data={"id": made.id, "path": str(path)}, text=text, next=following)


@secrets.command("status")
@click.pass_obj
def status(session: Session) -> Answer:
    """Show which master key each account's key needs, and which ones are here. Only fingerprints.

    Exit 5 where one is missing.
    """
    from botswarm.keys import master
    from botswarm.ledger.store import Ledger

    settings = session.settings()
    ledger = Ledger(settings.database_url)
    here = [each.id for each in master.masters(settings)]
    kept = ledger.exchange_keys.all()
    ledger.close()
    rows = [
        (
            f"{each.venue}:{each.account}",
            each.envelope.master_id,
            "yes" if each.envelope.master_id in here else "MISSING",
        )
        for each in kept
    ]
    missing = sorted({each.envelope.master_id for each in kept} - {*here})
    failure = None
    if missing:
        failure = Unreachable(
            f"the master key {', '.join(missing)} is not here",
            cure="give it by BOTSWARM_MASTER_KEY_FILE, or as master.key in the state folder",
        )
    lines = [f"Here: {', '.join(here) or 'none'}."]
    if rows:
        lines.append(in_columns(["ACCOUNT", "MASTER KEY", "HERE"], rows))
    data = {
        "here": here,
        "accounts": [
            {"account": row[0], "master_id": row[1], "is_here": row[1] in here} for row in rows
        ],
    }
    return Answer(data=data, text="\n\n".join(lines), failure=failure)


@secrets.command("rotate")
@click.option(
    "--new-from-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The new master key, where the settings give the old one.",
)
@click.pass_obj
def rotate(session: Session, new_from_file: Path | None) -> Answer:
    """Wrap all exchange keys by another master key, all or none.

    In the state folder the old one stays beside it, for backups of the ledger from before. May run
    while the swarm trades, and again after it was interrupted.
    """
    from botswarm.keys import master
    from botswarm.keys.ring import KeyRing
    from botswarm.ledger.store import Ledger

    settings = session.settings()
    new = _new(settings, new_from_file)
    ledger = Ledger(settings.database_url)
    try:
        from botswarm.cli.trading import person

        ring = KeyRing(settings, ledger.exchange_keys)
        count = ring.rewrap(new, now=datetime.now(UTC), actor=person())
    finally:
        ledger.close()
    following = []
    if settings.master_key is None:
        master.replace(settings.state_dir)
        following = [f"keep a copy of {settings.state_dir / master.FILE} elsewhere"]
    else:
        following = ["give the new one in BOTSWARM_MASTER_KEY_FILE and restart the order workers"]
    text = f"{count} keys are wrapped by the master key {new.id} now."
    return Answer(data={"id": new.id, "keys": count}, text=text, next=following)


def _new(settings: Settings, file: Path | None) -> MasterKey:
    from botswarm.keys import master

    if settings.master_key is None:
        if file is not None:
            raise click.UsageError("--new-from-file is for a master key that the settings give")
        found = master.read(settings.state_dir / master.NEXT)
        return found or master.make(settings.state_dir / master.NEXT)
    if file is None:
        raise click.UsageError("the settings give the master key: name the new one's file")
    found = master.read(file)
    if found is None:
        raise Unreachable(f"there is no file {file}", cure="make one: openssl rand -base64 32")
    return found
