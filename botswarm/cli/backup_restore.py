"""Bring a backup back, and rehearse it."""

from __future__ import annotations

from pathlib import Path

import click

from botswarm.cli.backup_place import from_folder, place_of
from botswarm.cli.command import Command
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Answer, Session
from botswarm.cli.trading import person


@click.command("restore", cls=Command)
@click.argument("name", metavar="BACKUP")
@from_folder
@click.pass_obj
def restore(session: Session, name: str, folder: Path | None) -> Answer:
    """Put a backup in the ledger's place: by its name, or latest for the newest good one.

    It is brought back to the side first and held to what it says: a damaged one changes nothing.
    The ledger that was there is kept beside it. The swarm is then halted until every account
    agrees with its venue and no order is in doubt, and goes on by itself. Stop the swarm first
    where the ledger is a SQLite file. Must be confirmed with --yes.
    """
    from botswarm.backup.restore import restore as bring_back

    place = place_of(session, folder)
    chosen = place.folder.choose(name)
    if not session.yes:
        raise NotConfirmed(
            f"this puts the ledger back to {chosen.manifest.at:%Y-%m-%d %H:%M:%S} UTC, and nobody "
            "confirmed it",
            cure=f"if that is meant: botswarm backup restore {chosen.id} --yes",
        )
    done = bring_back(place, chosen, actor=person())
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
