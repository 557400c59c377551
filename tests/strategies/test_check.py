"""What a check finds, with its line; every fault is in a strategy that has no other."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from botswarm.strategies.check import checking
from botswarm.strategies.check.checking import Report, check_file, check_found
from botswarm.strategies.check.finding import KINDS, Finding
from botswarm.strategies.registry import BUILT_IN, load
from botswarm.strategies.template import BadName, write_new

HEAD = '''
import datetime
import math
import numpy
from decimal import Decimal
from botswarm.strategies.api import *
from botswarm.strategies.rules import Rule

SEEN = {}


def answer(average, target=NOTHING, verdict="out", **more):
    return Decision(
        verdict=verdict, indicators={"average": average}, nearest="told", target=target, **more
    )


class Base(Strategy):
    """Decides by an average."""

    length: int = parameter(default=5, at_least=2, at_most=50, words="candles in the average")

    @property
    def history(self):
        return self.length

    def decide(self, view):
        return answer(float(view.candles.sma(self.length)[-1]))
'''
# Each is a class of its own: what is found in its lines is its.
FAULTS: Mapping[str, tuple[str, str, str]] = {
    "PeeksBehind": (
        "look-ahead",
        "when only candles of the future",
        "strided = numpy.lib.stride_tricks.as_strided\n"
        "rest = strided(view.candles.close, (self.length + 9,))\n"
        "return answer(float(rest[-1]))",
    ),
    "PeeksAtBase": (
        "look-ahead",
        "reaches behind an array",
        "return answer(view.candles.close.base[-1])",
    ),
    "Shortsighted": (
        "history",
        "too few",
        "return answer(float(view.candles.sma(self.length + 3)[-1]))",
    ),
    "OutOfRange": (
        "history",
        "too few|IndexError",
        "return answer(float(view.candles.close[-self.length - 2]))",
    ),
    "AsksTheTime": (
        "impure",
        "datetime.now",
        "return answer(0.0, verdict='out' if datetime.datetime.now() else '')",
    ),
    "RollsDice": ("impure", "dice", "return answer(float(numpy.random.default_rng(1).random()))"),
    "OpensFiles": ("impure", "opens a file", "open('/dev/null').close(); return answer(0.0)"),
    "Remembers": ("impure", "SEEN", "SEEN['last'] = view.now_ms; return answer(0.0)"),
    "ChangesItself": (
        "impure",
        "changes itself",
        "object.__setattr__(self, 'length', 9); return answer(0.0)",
    ),
    "DividesByNothing": (
        "not a number",
        "ZeroDivisionError",
        "steps = numpy.diff(view.candles.close); return answer(1 / float(abs(steps).sum()))",
    ),
    "SaysNaN": (
        "not a number",
        "average is no number",
        "c = view.candles.close; return answer(float((c[-1] - c.mean()) / c.std()))",
    ),
    "Float": ("nonsense", "no Decimal", "return answer(0.0, target=OfBudget(0.5))"),
    "Nothing": ("nonsense", "NoneType", "return None"),
    "Hoards": ("nonsense", "memory takes", "return answer(0.0, memory={'x': 'x' * 20_000})"),
    "Forgets": (
        "nonsense",
        "with the memory that it left",
        "known = view.memory.get('seen', {1: 2})\n"
        "return answer(known[1] * 1.0, memory={'seen': {1: 3}})",
    ),
    "Numbered": ("unexplained", "has numbers", "return answer(0.0, verdict='out at 3')"),
    "Mute": ("unexplained", "what it waits for", "return Decision(verdict='out', target=NOTHING)"),
    "Bounded": (
        "error",
        "with length=50",
        "return answer(1 / (50 - self.length))",
    ),
    "Contradicts": (
        "disagreement",
        "decide_many",
        "return answer(0.0)\n\n"
        "@classmethod\n"
        "def decide_many(cls, many):\n"
        "    ones = numpy.ones(len(many))\n"
        "    return Outcomes(verdict=0 * ones.astype(int), verdicts=('out',), target=ones)",
    ),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Mapping[str, range]]:
    """All faults in one file, and the lines of each class."""
    lines = HEAD.splitlines()
    places = {}
    for name, (_, _, body) in FAULTS.items():
        first = len(lines) + 1
        body, at, rest = body.partition("@classmethod")
        head = f'\n\nclass {name}(Base):\n    """Has a fault."""\n\n    def decide(self, view):\n'
        lines += (head + textwrap.indent(body, " " * 8)).splitlines()
        lines += textwrap.indent(at + rest, " " * 4).splitlines()
        places[name] = range(first, len(lines) + 1)
    path = tmp_path_factory.mktemp("check") / "faults.py"
    path.write_text("\n".join(lines) + "\n")
    return check_file(path), places


def of(report: Report, lines: range) -> Sequence[Finding]:
    return [each for each in report.findings if each.line in lines]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_with_its_line_and_its_cure(
    checked: tuple[Report, Mapping[str, range]], name: str
) -> None:
    kind, words, _ = FAULTS[name]
    report, places = checked
    found = [each for each in of(report, places[name]) if each.kind == kind]
    assert any(part in each.words for each in found for part in words.split("|")), of(
        report, places[name]
    )
    assert all(each.cure for each in found)


def test_what_has_no_fault_is_not_accused(checked: tuple[Report, Mapping[str, range]]) -> None:
    report, places = checked
    base = range(1, min(lines.start for lines in places.values()))
    # Its imports may be used by others of the file; a clock is only worth a look.
    assert [each for each in of(report, base) if each.is_error] == []
    assert {each.kind for each in report.findings} <= set(KINDS)


SMALL = (
    HEAD
    + '''

class Odd(Base):
    """Decides by what is another in every process."""

    def decide(self, view):
        BODY
'''
)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("return answer(float(hash('x') % 97))", "impure", "another process"),
        ("return answer(float(len(bytearray(4 * 1024**3))))", "error", "MemoryError"),
        ("import os; os._exit(3)", "unusable", "ended the process"),
    ],
)
def test_what_only_a_process_of_its_own_shows_is_found(
    tmp_path: Path, body: str, kind: str, words: str
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(SMALL.replace("BODY", body))
    report = check_file(path)
    assert any(each.kind == kind and words in each.words for each in report.findings), report
    assert not report.is_fit


def test_a_decision_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "WALL_S", 2.0)
    path = tmp_path / "odd.py"
    path.write_text(SMALL.replace("BODY", "while True: pass"))
    [finding] = [each for each in check_file(path).findings if each.kind == "slow"]
    assert "not done after 2 s" in finding.words


def test_a_file_that_is_no_python_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text("x = 1\nclass\n")
    [finding] = check_file(path).findings
    assert (finding.kind, finding.line) == ("unusable", 2)


@pytest.mark.parametrize("content", [b"\xff\xfe\x92", b"x = 1\x00", b"(" * 5000])
def test_a_file_that_is_no_text_is_no_python_either(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    [finding] = check_file(path).findings
    assert finding.kind == "unusable"
    assert finding.words.startswith("it is no Python: ")


def test_no_built_in_strategy_has_a_fault() -> None:
    # All in one process, as a file with many strategies would be.
    run = subprocess.run(
        [sys.executable, "-m", "botswarm.strategies.check.child", "package", ""],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    assert told["findings"] == []
    assert len(told["digests"]) == len(BUILT_IN)
    assert check_found("breakout", load().found["breakout"]).findings == []


# --- the first version of one's own ---------------------------------------------------------------


def test_a_new_strategy_has_no_fault_and_its_test_passes(tmp_path: Path) -> None:
    written = write_new("my-first", tmp_path / "mine")
    assert check_file(written.strategy).findings == []
    catalog = load(written.strategy.parent)
    assert catalog.broken == {}
    assert catalog.found["my-first"].source == str(written.strategy)
    run = subprocess.run(
        [sys.executable, str(written.test)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 3 tests" in run.stderr


@pytest.mark.parametrize("name", ["My-First", "1st", "a--b", "-", "a b", "x" * 51, "../up"])
def test_a_name_that_is_none_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadName):
        write_new(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def command(*words: str, folder: Path) -> tuple[int, dict[str, object]]:
    run = subprocess.run(
        [sys.executable, "-m", "botswarm", "strategy", *words, "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return run.returncode, json.loads(run.stdout)


def test_the_commands_write_check_and_refuse(tmp_path: Path) -> None:
    code, made = command("new", "my-first", folder=tmp_path)
    assert code == 0
    assert made["data"] == {
        "name": "my-first",
        "file": "strategies/my_first.py",
        "test": "strategies/test_my_first.py",
    }
    assert command("new", "my-first", folder=tmp_path)[0] == 6
    assert command("new", "grid", folder=tmp_path)[0] == 6
    assert command("new", "No Name", folder=tmp_path)[0] == 2
    assert command("check", "nowhere.py", folder=tmp_path)[0] == 4
    assert command("check", "nobody", folder=tmp_path)[0] == 4
    (tmp_path / "bad.py").write_text("import random\n")
    code, told = command("check", "bad.py", folder=tmp_path)
    assert code == 3
    assert told["ok"] is False
    code, told = command("show", "pairs", folder=tmp_path)
    data = told["data"]
    assert isinstance(data, dict)
    assert (code, data["history"], data["other_markets"]) == (0, 61, ["ETH-USDT"])
