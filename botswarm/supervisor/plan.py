"""What is to be run: the Procfile's lines, and the order in which they need one another."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from botswarm.errors import Misconfigured, Problem

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")

# What others wait for. Started first, stopped last; the rest starts together when these are up.
FOUNDATIONS: Final = ("broker", "exchange")
RELEASE: Final = "release"
# One line of the Procfile, and a process for each venue whose prices are traded on paper.
PAPER: Final = "paper"

# How long a process may take to end by itself before it is killed. Workers get longer than any
# order may take (90 s): a worker that is finishing one is never killed.
GRACE_S: Final = 15.0
WORKER_GRACE_S: Final = 120.0
# In this order: first who makes work, then who does it, then what they stand on.
STOP_STAGES: Final = (("beat", "feed"), ("",), ("exchange", PAPER, "archive"), ("broker",))


@dataclass(frozen=True, slots=True)
class Line:
    """One process of the Procfile."""

    name: str
    command: str

    @property
    def words(self) -> list[str]:
        """The command with our own programs run by this very Python, whatever PATH says."""
        words = shlex.split(self.command)
        if words[0] in ("botswarm", "celery"):
            words[:1] = [sys.executable, "-m", words[0]]
        return words

    @property
    def is_worker(self) -> bool:
        return " worker " in f" {self.command} "

    @property
    def is_foundation(self) -> bool:
        return self.name in FOUNDATIONS or self.name.startswith(f"{PAPER}-")

    @property
    def asking(self) -> signal.Signals:
        """Some platforms tell every process to end; what others stand on hears it from us alone."""
        return signal.SIGINT if self.is_foundation else signal.SIGTERM

    @property
    def grace_s(self) -> float:
        return WORKER_GRACE_S if self.is_worker else GRACE_S

    @property
    def stop_stage(self) -> int:
        name = PAPER if self.name.startswith(f"{PAPER}-") else self.name
        for stage, names in enumerate(STOP_STAGES):
            if name in names:
                return stage
        return 1


def read_procfile(path: Path) -> Sequence[Line]:
    """Every line of a Procfile; all that is wrong with it is said at once."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Misconfigured(
            Problem(f"{path} cannot be read: {error.strerror}", "name another with --procfile")
        ) from error
    lines: dict[str, Line] = {}
    problems = []
    for number, raw in enumerate(text.splitlines(), 1):
        written = raw.strip()
        if not written or written.startswith("#"):
            continue
        found = _LINE.fullmatch(written)
        if found is None or not _is_command(found[2]):
            problems.append(Problem(f"{path}:{number} is no process", "write it as name: command"))
        elif found[1] in lines:
            problems.append(Problem(f"{path}:{number} names {found[1]} again", "choose a new name"))
        else:
            lines[found[1]] = Line(found[1], found[2])
    if not lines and not problems:
        problems.append(Problem(f"{path} lists no process", "write lines such as name: command"))
    if problems:
        raise Misconfigured(*problems)
    return list(lines.values())


def _is_command(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:  # a quotation mark without its second
        return False


def for_venues(lines: Sequence[Line], venues: Sequence[str]) -> Sequence[Line]:
    """The line that trades on paper becomes one for each of these venues."""
    found: list[Line] = []
    for line in lines:
        if line.name == PAPER:
            each = (Line(f"{PAPER}-{name}", f"{line.command} --venue {name}") for name in venues)
            found.extend(each)
        else:
            found.append(line)
    return found


def needed(lines: Sequence[Line], skip: Mapping[str, str]) -> Sequence[Line]:
    """Without the release step and without what other servers do here (``skip``: name, reason)."""
    return [line for line in lines if line.name != RELEASE and line.name not in skip]
