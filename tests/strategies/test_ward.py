"""A stranger's strategy hurts nobody but its own bots, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.strategies.api import Strategy
from botswarm.strategies.evaluate import evaluate
from botswarm.strategies.origins import Kind, Origin
from botswarm.strategies.registry import load_one
from botswarm.strategies.stand import Evaluation, Subject
from botswarm.strategies.ward import Answers, Asked, Scene, Ward
from tests.strategies.values import NOW, a_market, some_candles

CODE = '''
import os, sys
from decimal import Decimal
from botswarm.strategies.api import *


class Odd(Strategy):
    """Does what its parameter says."""

    what: str = parameter(default="hold", words="what to do when asked")

    @property
    def history(self):
        return 2

    def decide(self, view):
        if self.what == "raise":
            raise ZeroDivisionError("a bug")
        if self.what == "loop":
            while True:
                pass
        if self.what == "exit":
            os._exit(3)
        if self.what == "leave":
            sys.exit(4)
        if self.what == "eat":
            return bytearray(10 * 1024**3)
        if self.what == "print":
            print("x" * 100_000, flush=True)
        if self.what == "nonsense":
            return "all"
        if self.what == "write":
            view.candles.close[0] = 7
        memory = {"count": view.memory.get("count", 0) + 1}
        if self.what == "hoard":
            memory["x"] = object()
        return Decision(
            verdict="in", indicators={"close": view.candles.close[-1]}, target=ALL, memory=memory,
            rules=[below("price", float(view.price), 50)],
        )
'''
LIFE = timedelta(seconds=10)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    path = tmp_path / "odd.py"
    path.write_text(CODE)
    return Origin(Kind.FILE, str(path))


@pytest.fixture
def ward(origin: Origin) -> Iterator[Ward]:
    made = Ward(origin, answer_s=2.0)
    yield made
    made.close()


def subjects(origin: Origin, *whats: str) -> Sequence[Subject]:
    kind: type[Strategy] = load_one(origin).get("odd")
    return [
        Subject(
            bot=f"{what}-{number}",
            account="paper",
            strategy=kind(what=what),  # type: ignore[call-arg]
            timeframe="1m",
            budget=Decimal(1000),
            memory={"count": 4},
        )
        for number, what in enumerate(whats)
    ]


SCENE = Scene(
    market=a_market(), series={"1m": some_candles([100.0] * 5)}, now=NOW, signal_life=LIFE
)


def ask(ward: Ward, *whats: str) -> Answers:
    return ward.ask(SCENE, [Asked(subject=each) for each in subjects(ward.origin, *whats)])


def words(answers: Answers, bot: str) -> str:
    found = answers[bot]
    assert isinstance(found, Exception), found
    return str(found)


def test_it_answers_as_it_would_have_in_the_worker(ward: Ward, origin: Origin) -> None:
    [subject] = subjects(origin, "hold")
    found = ward.ask(SCENE, [Asked(subject=subject)])[subject.bot]
    here = evaluate(subject, SCENE.market, SCENE.series["1m"], NOW, signal_life=LIFE)
    assert isinstance(found, Evaluation)
    assert found.orders == here.orders
    assert found.decision is not None
    assert here.decision is not None
    assert found.decision.verdict == here.decision.verdict
    assert found.decision.indicators == here.decision.indicators
    assert found.decision.nearest_words == here.decision.nearest_words
    assert found.decision.memory == {"count": 5}
    stale = replace(SCENE, now=NOW + timedelta(minutes=1))
    stopped = ward.ask(stale, [Asked(subject=subject)])[subject.bot]
    assert isinstance(stopped, Evaluation)
    assert stopped.stopped is not None
    assert stopped.stopped.gate == "stale"


def test_what_it_raises_and_answers_wrongly_is_told_by_bot(ward: Ward) -> None:
    answers = ask(ward, "raise", "hold", "nonsense", "hoard", "write", "print", "leave", "eat")
    assert words(answers, "raise-0") == "ZeroDivisionError: a bug"
    assert "not a Decision" in words(answers, "nonsense-2")
    assert "JSON serializable" in words(answers, "hoard-3")
    assert "read-only" in words(answers, "write-4")
    assert words(answers, "eat-7") == "MemoryError: it asked for more than 512 MB"
    assert "ended its process" in words(answers, "leave-6")
    for bot in ("hold-1", "print-5"):
        assert isinstance(answers[bot], Evaluation)


def test_who_hangs_or_exits_fails_alone_and_the_others_are_asked_again(ward: Ward) -> None:
    answers = ask(ward, "hold", "loop", "hold", "exit", "hold")
    assert words(answers, "loop-1") == "it took longer than 2 s"
    assert words(answers, "exit-3") == "it ended its process (3)"
    for bot in ("hold-0", "hold-2", "hold-4"):
        assert isinstance(answers[bot], Evaluation)


def test_who_goes_on_ending_the_process_does_not_do_so_for_ever(ward: Ward) -> None:
    answers = ask(ward, *["exit"] * 6)
    assert len(answers) == 6
    assert "too often" in words(answers, "exit-5")


def test_a_file_that_is_gone_says_so(ward: Ward) -> None:
    asked = [Asked(subject=each) for each in subjects(ward.origin, *["hold"] * 6)]
    Path(ward.origin.where).unlink()
    answers = ward.ask(SCENE, asked)
    for each in asked:
        assert "could not be loaded: FileNotFoundError" in words(answers, each.subject.bot)
