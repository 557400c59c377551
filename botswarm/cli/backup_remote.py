"""Carry backups to a bucket, and fetch them again from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.backup_place import from_folder, place_of
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.errors import NotFound

if TYPE_CHECKING:
    from botswarm.backup.place import Place
    from botswarm.backup.remote import Remote


@click.command("push", cls=Command)
@click.argument("name", metavar="[BACKUP]", required=False)
@from_folder
@click.pass_obj
def push(session: Session, name: str | None, folder: Path | None) -> Answer:
    """Carry a backup, or all good ones, to the bucket of BOTSWARM_BACKUP_S3_URL, and the archive.

    What is there already is left as it is, and nothing is ever deleted there: give the bucket a
    rule for that, and these keys no right to it.
    """
    from botswarm.backup.folder import State

    place = place_of(session, folder)
    remote = _remote(place)
    if name is not None:
        chosen = [place.folder.read(place.folder.named(name))]
    else:
        chosen = [each for each in place.folder.list()[0] if each.state is State.GOOD]
    files = sum(remote.push(each) for each in chosen) + remote.push_archive()
    return Answer(
        data={"backups": [each.id for each in chosen], "files": files},
        text=f"{len(chosen)} backups are there; {files} files were carried over.",
    )


@click.command("fetch", cls=Command)
@click.argument("name", metavar="BACKUP")
@from_folder
@click.pass_obj
def fetch(session: Session, name: str, folder: Path | None) -> Answer:
    """Fetch a backup from the bucket into the folder, with the archive that goes on from it.

    By its name, or latest for the newest that is there.
    """
    place = place_of(session, folder)
    done = _remote(place).fetch(name)
    return Answer(
        data={"id": done.id, "path": str(done.path)},
        text=f"Backup {done.id} is in {done.path}.",
        next=[f"botswarm backup restore {done.id}"],
    )


def _remote(place: Place) -> Remote:
    from botswarm.backup.remote import remote_of

    remote = remote_of(place)
    if remote is None:
        raise NotFound(
            "no bucket is named", cure="set BOTSWARM_BACKUP_S3_URL=s3://BUCKET/FOLDER and its keys"
        )
    return remote
