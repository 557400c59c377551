"""The child process in which a strategy is tried, with bounds on its time and its memory."""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import Sequence

from botswarm.strategies import tether
from botswarm.strategies.check.finding import Finding
from botswarm.strategies.check.trial import Trial
from botswarm.strategies.check.watch import Watch
from botswarm.strategies.origins import Kind, Origin, Unusable
from botswarm.strategies.probe import limit_child
from botswarm.strategies.registry import load_one

CPU_S = 30
MEMORY_BYTES = 1024**3


def main(origin: Origin, only: str) -> dict[str, object]:
    """Findings and a digest of what was decided, of one strategy or of all of the origin."""
    if origin.kind is Kind.FILE:
        found = load_one(origin)
        if found.broken:
            raise Unusable("; ".join(found.broken.values()))
    else:
        found = load_one(origin)
    findings: list[Finding] = []
    digests: list[str] = []
    for name, each in found.found.items():
        if each.strategy is None or (only and name != only):
            continue
        path = inspect.getsourcefile(each.strategy) or ""
        trial = Trial(each.strategy, Watch(path))
        trial.run()
        findings += trial.found
        digests.append(trial.digest.hexdigest())
    return {"findings": [each.plain() for each in findings], "digests": digests}


def _main(arguments: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    # What the strategy prints must not be taken for an answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    limit_child(CPU_S, MEMORY_BYTES)
    try:
        answer = main(Origin.read(arguments[0]), arguments[1])
    except Unusable as error:
        cure = "mend what is named"
        finding = Finding(kind="unusable", words=f"it cannot be loaded: {error}", cure=cure)
        answer = {"findings": [finding.plain()], "digests": []}
    answers.write(json.dumps(answer))
    answers.flush()


if __name__ == "__main__":
    _main(tether.tie(sys.argv[1:]))
