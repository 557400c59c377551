"""Plant a bug and see the campaign fail: ``python -m tests.campaign.plant claim``.

The exit code is 0 where the bug was caught.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from botswarm.chaos.campaign.main import Options, run

FAULTS = {
    "claim": ("F3", 3, 12.0),
    "fence": ("F20", 5, 30.0),
    "dedupe": ("F19", 12, 75.0),
    "fsync": ("F12", 5, 30.0),
}
"""Those that bring it to light: which, how often, in how many seconds."""
BREAKS = {"claim": "I1", "fence": "I1", "dedupe": "I5", "fsync": "I20"}
"""The promise that each breaks; others are broken as well, some only because there is no time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bug", choices=sorted(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drain", type=float, default=90.0, help="seconds to wait for quiet")
    parser.add_argument("--folder", type=Path, help="keep every log there")
    options = parser.parse_args()
    code, rounds, seconds = FAULTS[options.bug]
    plugin = f"tests.campaign.planted.{options.bug}"
    # The load writes orders by itself, so it has the bug too.
    importlib.import_module(plugin)
    report = run(
        Options(
            faults=(code,),
            rounds=rounds,
            seconds=seconds,
            seed=options.seed,
            plugin=plugin,
            drain_max_s=options.drain,
            folder=options.folder,
        ),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    broken = {name: found for name, found in report.breaches.items() if found}
    for name, found in broken.items():
        print(f"caught by {name}: {found[0]}")
    return 0 if BREAKS[options.bug] in broken else 1


if __name__ == "__main__":
    sys.exit(main())
