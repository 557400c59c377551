"""What a backup is made of and where it goes: the settings, as this room needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from botswarm.backup.folder import Folder
from botswarm.clock import Clock, SystemClock
from botswarm.config import Secret, Settings
from botswarm.keys.envelope import MasterKey
from botswarm.keys.master import of_text
from botswarm.ledger import rights

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    settings: Settings
    folder: Folder
    key: MasterKey | None
    clock: Clock = field(default_factory=SystemClock)
    say: Say = _silent
    """Told what goes on, for somebody who waits."""

    @property
    def database_url(self) -> Secret:
        """As the user who owns the tables: databases are made and swapped, and a log is copied."""
        return rights.owner_url(self.settings)


def place_of(settings: Settings, *, folder: Path | None = None, say: Say = _silent) -> Place:
    """``folder`` instead of that of the settings. Raises Misconfigured for a key that is none."""
    key = settings.backup_key
    return Place(
        settings=settings,
        folder=Folder(folder or settings.backup_dir),
        key=None if key is None else of_text(key.reveal(), "BOTSWARM_BACKUP_KEY"),
        say=say,
    )
