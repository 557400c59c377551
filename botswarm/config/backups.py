"""The settings of backups: where they go, how they are sealed, how long they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from botswarm.config.kinds import Kind, Setting, whole_number


def _default_folder(settings: Mapping[str, object]) -> Path:
    state_dir = settings["state_dir"]
    assert isinstance(state_dir, Path)
    return state_dir / "backups"


def backup_settings(folder: Kind, secret: Kind) -> tuple[Setting, ...]:
    """``folder`` and ``secret`` are the table's own kinds."""
    return (
        Setting(
            name="backup_dir",
            kind=folder,
            help="Where backups are written; a second disk, or a folder that is carried away, is "
            "what makes them worth something.",
            default=_default_folder,
            default_words="the folder backups in the state folder",
        ),
        Setting(
            name="backup_key",
            kind=secret,
            help="The key that seals backups (AES-256-GCM), better given as a file; without it "
            "they are readable by whoever has them, and hold no secrets.",
            default_words="none: backups are not sealed",
            secret=True,
        ),
        Setting(
            name="backup_days_kept",
            kind=whole_number(1, 3650, "days"),
            help="How long backups are kept: all of the last three days, then one of each day.",
            default=30,
        ),
    )
