"""Strangers' strategies are loaded in a child first: it may hang, die or ask for all memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from botswarm.strategies import tether
from botswarm.strategies.origins import Origin, Unusable, kinds_of

WALL_S = 10.0
"""For all of them together, and anew after each that made the child die."""
CPU_S = 5
MEMORY_BYTES = 1024**3
"""Over what Python and numpy take by themselves."""
NAME_MAX = 100
DIED = "loading it ends the process"
HUNG = f"loading it takes longer than {CPU_S} s"


def probe(origins: Sequence[Origin]) -> Mapping[Origin, Sequence[str] | Unusable]:
    """What each brings: its strategies' names, or what is wrong with it."""
    found: dict[Origin, Sequence[str] | Unusable] = {}
    left = list(origins)
    while left:
        answers, words = _ask(left)
        found |= zip(left, answers, strict=False)
        left = left[len(answers) :]
        if left:
            found[left.pop(0)] = Unusable(words)
    return found


def _ask(origins: Sequence[Origin]) -> tuple[list[Sequence[str] | Unusable], str]:
    """One answer per origin until the child ended, and what to say of the next if one is left."""
    child = tether.start("botswarm.strategies.probe", *map(str, origins))
    words = DIED
    try:
        text, _ = child.communicate(timeout=WALL_S)
    except subprocess.TimeoutExpired:
        tether.end(child)
        text, _ = child.communicate()
        words = HUNG
    finally:
        tether.end(child)
    if child.returncode == -24:  # SIGXCPU
        words = HUNG
    # What is no whole line was cut off by the child's end.
    lines = text.decode(errors="replace").split("\n")[:-1]
    return [_read(line) for line in lines[: len(origins)]], words


def _read(line: str) -> Sequence[str] | Unusable:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, str):
        return Unusable(said)
    if isinstance(said, list) and all(isinstance(each, str) and each for each in said):
        return [each[:NAME_MAX] for each in said]
    return Unusable("loading it writes what only the loader may write")


def limit_child(cpu_s: int, memory_bytes: int) -> None:
    """Of this process, from now on; where the system knows no such limits, the clock remains."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used_s = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (used_s + cpu_s, used_s + cpu_s + 1))
    with contextlib.suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _main(origins: Sequence[str]) -> None:
    # What the files print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit_child(CPU_S, MEMORY_BYTES)
    for origin in map(Origin.read, origins):
        try:
            answer: object = [str(each.name) for each in kinds_of(origin)]
        except Unusable as error:
            answer = str(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(tether.tie(sys.argv[1:]))
