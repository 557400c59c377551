"""The programs of other packages: where they are installed, and that they end when we do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from botswarm.errors import NotFound

# Run by a shell whose standard input ends when we do: the group to kill, the folder to remove.
LAST_WILL = """
read -r _
kill -9 -"$0"
[ -z "$1" ] || { sleep 1; rm -rf "$1"; }
"""
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


def last_will(group: int, forget: Path | None = None) -> subprocess.Popen[bytes]:
    """Ends a process group when we end, however that is; and forgets a folder of its.

    atexit does not run after SIGKILL, and PR_SET_PDEATHSIG is lost when a child changes its user:
    the end of a pipe is seen in every case. Kill what this answers to revoke it.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", LAST_WILL, str(group), str(forget or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
