"""The process in which a stranger's strategies decide: told what they see, it says what they want.

``python -m botswarm.bots.cell ORIGIN`` reads requests from its standard input and answers on its
standard output. It is started with nothing of the worker's environment, holds no connection and
no secret, may take MEMORY_BYTES, and may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from botswarm.bots.apart import Asks, asks_of
from botswarm.strategies import tether
from botswarm.strategies.api import Decision, Strategy, View
from botswarm.strategies.origins import Origin
from botswarm.strategies.registry import Catalog, load_one

MEMORY_BYTES = 512 * 1024**2
"""Over what Python, numpy and the strategies take when they are loaded."""
LENGTH = struct.Struct("!I")
NICE = 5
READY = "ready"


@dataclass(frozen=True, slots=True)
class Question:
    """One bot's: what its strategy decides, or what it asks for."""

    strategy: str
    parameters: Mapping[str, object]
    view: View | None
    """What it is shown; None asks what it wants to see, and when."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it decided or asks for, or what went wrong."""

    place: int
    decision: Decision | None
    error: str | None = None
    took_s: float = 0.0
    asks: Asks | None = None


def send(stream: BinaryIO, value: object) -> None:
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def main(origin: Origin) -> None:
    requests, answers = _streams()
    _be_modest()
    catalog = load_one(origin)
    _limit_memory()
    send(answers, READY if not catalog.broken else next(iter(catalog.broken.values())))
    made: dict[tuple[str, str], Strategy] = {}
    while head := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        # From the worker, whom we trust; what goes the other way is not read like this.
        questions: Sequence[Question] = pickle.loads(requests.read(length))  # noqa: S301
        for place, question in enumerate(questions):
            send(answers, _answer(catalog, made, place, question))


def _answer(
    catalog: Catalog, made: dict[tuple[str, str], Strategy], place: int, question: Question
) -> Answer:
    import time

    began = time.thread_time()
    try:
        key = question.strategy, repr(sorted(question.parameters.items()))
        if key not in made:
            made[key] = catalog.make(question.strategy, question.parameters)
        if question.view is None:
            return Answer(place, None, asks=asks_of(made[key]))
        decision = made[key].decide(question.view)
        if not isinstance(decision, Decision):
            raise TypeError(f"decide answered {type(decision).__name__}, not a Decision")
        return Answer(place, _plain(decision), took_s=time.thread_time() - began)
    except MemoryError:
        return Answer(place, None, f"it asked for more than {MEMORY_BYTES // 1024**2} MB")
    except (Exception, SystemExit) as error:
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Answer(place, None, words[:2000])


def _plain(decision: Decision) -> Decision:
    """With nothing in it but what the worker knows how to read."""
    memory = decision.memory
    return replace(
        decision,
        indicators={str(name): _number(value) for name, value in decision.indicators.items()},
        memory=None if memory is None else json.loads(json.dumps(memory, allow_nan=False)),
        targets=dict(decision.targets),
        orders=tuple(decision.orders),
        cancels=tuple(str(each) for each in decision.cancels),
        rules=tuple(
            replace(each, value=_number(each.value), distance=float(each.distance))
            for each in decision.rules
        ),
    )


def _number(value: Any) -> float | int | Decimal:
    return value if type(value) in (int, float, Decimal) else float(value)


# --- what this process may do ---------------------------------------------------------------------


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """What strategies print must not be taken for an answer, nor may they read the questions."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, answers


def _be_modest() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)


def _limit_memory() -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    # Under its importable name, which the worker knows its values by.
    from botswarm.bots import cell

    cell.main(Origin.read(*tether.tie(sys.argv[1:])))
