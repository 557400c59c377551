"""Files of strategies are loaded in a child first: it may hang, die or ask for all memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

WALL_S = 10.0
"""For all files together, and anew after each that made the child die."""
CPU_S = 5
MEMORY_BYTES = 1024**3
"""Over what Python and numpy take by themselves."""
DIED = "loading it ends the process"
HUNG = f"loading it takes longer than {CPU_S} s"


def probe(paths: Sequence[Path]) -> Mapping[Path, str]:
    """Those of the files that cannot be loaded, with what is wrong with each."""
    broken: dict[Path, str] = {}
    left = list(paths)
    while left:
        answers, words = _ask(left)
        for path, answer in zip(left, answers, strict=False):
            if answer is not None:
                broken[path] = answer
        left = left[len(answers) :]
        if left:
            broken[left.pop(0)] = words
    return broken


def _ask(paths: Sequence[Path]) -> tuple[list[str | None], str]:
    """One answer per file until the child ended, and what to say of the next where one is left."""
    command = [sys.executable, "-m", "botswarm.strategies.probe", *map(str, paths)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    words = DIED
    try:
        text, _ = child.communicate(timeout=WALL_S)
    except subprocess.TimeoutExpired:
        child.kill()
        text, _ = child.communicate()
        words = HUNG
    if child.returncode == -24:  # SIGXCPU
        words = HUNG
    lines = text.decode().splitlines()
    return [json.loads(line) for line in lines[: len(paths)]], words


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


def _main(paths: Sequence[str]) -> None:
    from botswarm.strategies.origins import Kind, Origin, Unusable, kinds_of

    # What the files print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit_child(CPU_S, MEMORY_BYTES)
    for path in paths:
        try:
            kinds_of(Origin(Kind.FILE, path))
        except Unusable as error:
            answer: str | None = str(error)
        else:
            answer = None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
