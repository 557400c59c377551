"""The process in which a stranger's strategies decide; it answers its parent bot by bot."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from botswarm.strategies.api import Candles, Decision, Rule
from botswarm.strategies.evaluate import evaluate
from botswarm.strategies.origins import Origin
from botswarm.strategies.probe import limit_child
from botswarm.strategies.registry import Catalog, load_one
from botswarm.strategies.stand import Evaluation
from botswarm.strategies.ward import COLUMNS, MEMORY_BYTES, Scene, Told, read, write

FOREVER_S = 10**9


def main(origin: Origin) -> None:
    """Until its parent is gone."""
    asked, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb")
    # What the strategies print must not be taken for an answer, nor may they read the questions.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    catalog = load_one(origin)
    if catalog.broken:
        write(answers, pickle.dumps("; ".join(catalog.broken.values())))
        return
    limit_child(None, MEMORY_BYTES)
    write(answers, pickle.dumps(None))
    while question := read(asked, time.monotonic() + FOREVER_S):
        scene, told = pickle.loads(question)  # noqa: S301  # of our own parent
        for each in scene.series.values():
            _freeze(each)
        for each in told:
            write(answers, _answer(catalog, scene, each))


def _answer(catalog: Catalog, scene: Scene, told: Told) -> bytes:
    try:
        for other in told.others.values():
            _freeze(other.candles)
        found = _ask(catalog, scene, told)
        return pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        most = MEMORY_BYTES // 1024**2
        return pickle.dumps(f"MemoryError: it asked for more than {most} MB")
    except Exception as error:
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return pickle.dumps(words[:2000])


def _ask(catalog: Catalog, scene: Scene, told: Told) -> Evaluation:
    strategy = catalog.make(told.name, told.parameters)
    found = evaluate(
        replace(told.subject, strategy=strategy),
        scene.market,
        scene.series.get(told.subject.timeframe),
        scene.now,
        signal_life=scene.signal_life,
        series=scene.series,
        others=told.others,
        book=scene.book,
    )
    decision = None if found.decision is None else _plain(found.decision)
    return replace(found, decision=decision)


def _plain(decision: Decision) -> Decision:
    """What is recorded and remembered of it; its targets have become orders."""
    memory: Mapping[str, Any] | None = decision.memory
    if memory is not None:
        memory = json.loads(json.dumps(dict(memory), allow_nan=False))
    return Decision(
        verdict=str(decision.verdict),
        indicators={str(name): _number(value) for name, value in decision.indicators.items()},
        nearest=None if decision.nearest_words is None else str(decision.nearest_words),
        memory=memory,
        rules=[
            Rule(
                words=str(rule.words),
                passed=bool(rule.passed),
                value=float(rule.value),
                needs=str(rule.needs),
                distance=float(rule.distance),
            )
            for rule in decision.rules
        ],
    )


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(value)
    return int(value) if isinstance(value, int) else float(value)


def _freeze(candles: Candles | None) -> None:
    if candles is not None:
        for name in COLUMNS:
            getattr(candles, name).flags.writeable = False


if __name__ == "__main__":
    main(Origin.read(sys.argv[1]))
