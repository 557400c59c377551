"""A folder whose disk can be full: a file system in memory that shrinks to what it holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from botswarm.errors import Unreachable

SIZE_MB = 4096
TRIES = 100
# Run by a shell whose standard input ends when we do, however we end.
LAST_WILL = 'read -r _; umount -l "$0" 2>/dev/null; rm -rf "$0"'


class Room:
    """A context manager. Without the right to mount it is an ordinary folder that never fills."""

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"botswarm-chaos-{name}-"))
        self.can_fill = False

    def __enter__(self) -> Self:
        self.can_fill = self._mount("-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs")
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", LAST_WILL, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.communicate()

    def fill(self) -> None:
        """No byte more fits from now on. Raises Unreachable where the disk cannot be made small."""
        # Less than is in use is refused, and whoever lives there goes on writing meanwhile.
        if not any(self._mount("-o", f"remount,size={self._used_kb()}k") for _ in range(TRIES)):
            raise Unreachable(f"{self.path} was not filled", cure="look who is writing to it")

    def _used_kb(self) -> int:
        stats = os.statvfs(self.path)
        return (stats.f_blocks - stats.f_bfree) * stats.f_frsize // 1024

    def empty(self) -> None:
        self._mount("-o", f"remount,size={SIZE_MB}m")

    def _mount(self, *words: str) -> bool:
        program = shutil.which("mount")
        if program is None:
            return False
        done = subprocess.run([program, *words, str(self.path)], capture_output=True, check=False)
        return done.returncode == 0
