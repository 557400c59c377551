"""Settings that tests read, of a folder of their own and nothing of the caller's."""

from __future__ import annotations

from pathlib import Path

from botswarm.config import Settings, load


def settings_of(folder: Path, **environ: str) -> Settings:
    return load(environ={"BOTSWARM_STATE_DIR": str(folder), **environ}, folder=folder).settings
