"""Where the backups are that a command speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from botswarm.backup.place import Place
    from botswarm.cli.session import Session

from_folder = click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of backups; stronger than BOTSWARM_BACKUP_DIR.",
)


def place_of(session: Session, folder: Path | None) -> Place:
    """It says what goes on to whoever waits at a terminal."""
    from botswarm.backup import place

    return place.place_of(session.settings(), folder=folder, say=session.progress)
