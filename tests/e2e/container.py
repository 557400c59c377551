"""What an engine would do with the image, done by hand: its entry point as its user, on a tree
that nobody can write.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.dockerfile import argument, words

ROOT = Path(__file__).parents[2]
SYSTEM = ("/usr", "/etc")
LINKS = ("bin", "lib", "lib64", "sbin")
"""Of a Debian system into /usr."""


@dataclass(slots=True)
class Container:
    """Processes of their own, a tree that is read-only but for the state folder and /tmp."""

    folder: Path
    popen: subprocess.Popen[bytes] | None = None
    state: Path = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.state, self.log = self.folder / "state", self.folder / "container.log"
        self.state.mkdir(mode=0o700)
        user, _, group = argument("USER").partition(":")
        os.chown(self.state, int(user), int(group))

    def run(self) -> None:
        """The image's entry point and command."""
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                self._line([*words("ENTRYPOINT"), *words("CMD")]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def first(self) -> psutil.Process:
        """Process 1 of the container, to whom an engine sends its signals."""
        assert self.popen is not None
        return psutil.Process(self.popen.pid).children()[0]

    def execute(self, *line: str) -> subprocess.CompletedProcess[str]:
        """As ``docker exec`` does, in the same container."""
        inside = ["nsenter", f"--target={self.first.pid}", "--mount", "--pid", "--root", "--wd"]
        user, _, group = argument("USER").partition(":")
        return subprocess.run(
            [*inside, f"--setuid={user}", f"--setgid={group}", *self._environment(), *line],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def kill(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            # With the first process of its own, every other one of it ends.
            self.first.kill()
            self.popen.wait(30)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def _line(self, command: Sequence[str]) -> list[str]:
        script = self.folder / "container.sh"
        script.write_text(self._script(command))
        return ["unshare", "--mount", "--pid", "--fork", "sh", str(script)]

    def _script(self, command: Sequence[str]) -> str:
        tree = self.folder / "tree"
        home = argument("WORKDIR")
        shown = sorted({*SYSTEM, str(ROOT), sys.prefix, sys.base_prefix})
        binds = [
            f"mkdir -p {tree}{path} && mount --bind {path} {tree}{path} "
            f"&& mount -o remount,bind,ro {tree}{path}"
            for path in shown
        ]
        line = shlex.join([*self._environment(), *command])
        return "\n".join(
            [
                "set -eu",
                f"mkdir -p {tree}",
                f"mount -t tmpfs -o mode=755 tmpfs {tree}",
                *(f"ln -s usr/{name} {tree}/{name}" for name in LINKS),
                f"mkdir -p {tree}/proc {tree}/dev {tree}/tmp {tree}{home}",  # noqa: S108
                f"mount -t tmpfs -o mode=1777 tmpfs {tree}/tmp",  # noqa: S108
                *binds,
                f"mount -t proc proc {tree}/proc",
                f"mount --rbind /dev {tree}/dev",
                f"mount --bind {self.state} {tree}{home}",
                f"mount -o remount,ro {tree}",
                f"exec chroot --userspec={argument('USER')} {tree} sh -c "
                + shlex.quote(f"cd {home} && exec {line}"),
            ]
        )

    def _environment(self) -> list[str]:
        path = f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        given = {"PATH": path, "HOME": argument("WORKDIR"), "PYTHONPATH": str(ROOT)}
        quiet = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return ["env", "-i", *(f"{name}={value}" for name, value in {**given, **quiet}.items())]
