"""Whether the processes of this container get on with their work: for ``HEALTHCHECK``.

``python -m botswarm.health`` asks each for ``/readyz`` (or the page that is named), says in a
line who is not well, and ends with 0 where all are. It reads no settings but the state folder,
so that it can be run every few seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from botswarm.health.ask import processes

READY = "/readyz"
WELL, UNWELL, NOBODY = 0, 3, 4
"""As the command line's exit codes mean them."""


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    page = words[0] if words else READY
    folder = Path(environ.get("BOTSWARM_STATE_DIR") or ".botswarm")
    said = processes(folder, page)
    if not said:
        print(f"no process has a card in {folder}")
        return NOBODY
    bad = [each for each in said if each.code != 200]
    for each in bad:
        print(f"{each.process.card.name}: {each.trouble or f'{page} says {each.code}'}")
    if not bad:
        print(f"{len(said)} processes answer {page}")
    return UNWELL if bad else WELL


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
