"""Where the programs of other packages are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from botswarm.errors import NotFound

FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")


def find_program(name: str, *, package: str, folders: Sequence[str] = ()) -> Path:
    """Where ``name`` is installed; raises NotFound with the Debian package that has it."""
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(FOLDERS))
    if found is None:
        raise NotFound(
            f"{name} is not installed (Debian package {package})",
            cure=f"apt-get install {package}",
        )
    return Path(found)


def find_postgresql(name: str, *, package: str = "postgresql") -> Path:
    """A program of PostgreSQL, of the newest version there is: older ones refuse newer servers."""
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    return find_program(name, package=package, folders=[str(path) for path in newest_first])


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdecimal())
