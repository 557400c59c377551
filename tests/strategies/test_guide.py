"""The guide for authors says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from botswarm.strategies.api import Candles, Strategy
from botswarm.strategies.check.finding import KINDS
from botswarm.strategies.registry import BUILT_IN, load
from tests.strategies.values import a_view

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/strategies.md").read_text()
BUILT = (ROOT / "docs/built-in-strategies.md").read_text()


def section(title: str) -> str:
    return GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_strategy_in_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    catalog = load(tmp_path)
    assert catalog.broken == {}
    decision = catalog.make("below-average", {"length": "2"}).decide(a_view([101.0, 101.0]))
    assert decision.verdict == "in: below the average"


def test_every_gate_is_in_the_guide_and_the_other_way_round() -> None:
    told = set(re.findall(r"^\| `([a-z ]+)` \|", section("When a bot does not act"), re.MULTILINE))
    rooms = [*ROOT.glob("botswarm/strategies/*.py"), *ROOT.glob("botswarm/bots/*.py")]
    text = "\n".join(path.read_text() for path in rooms)
    used = set(re.findall(r'gate="([a-z ]+)"', text))
    for name in set(re.findall(r"gate=([A-Z]+)\b", text)) | {"BROKEN"}:
        for line in re.findall(rf"^{name}\b.*", text, re.MULTILINE):
            used |= set(re.findall(r'"([a-z ]+)"', line))
    assert told == used


def test_every_fault_of_the_check_is_in_the_guide() -> None:
    rows = re.findall(
        r"^\| `([a-z -]+)` \| (.*) \|$", section("What the check finds"), re.MULTILINE
    )
    assert dict(rows) == KINDS


def test_every_indicator_that_the_guide_names_is_offered_and_the_other_way_round() -> None:
    named = set(re.findall(r"`([a-z_]+)\([a-z, ]*\)`", section("Indicators")))
    offered = {name for name, each in vars(Candles).items() if callable(each) and name[0] != "_"}
    assert offered - {"latest"} <= named


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.name)
def test_every_built_in_strategy_has_a_section_with_its_risks_and_parameters(
    kind: type[Strategy],
) -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", BUILT, re.DOTALL | re.MULTILINE))
    assert set(sections) == {each.name for each in BUILT_IN}
    section = sections[kind.name]
    assert "**Loses**" in section
    assert "Needs " in section
    assert ("Decides for many at once." in section) == kind.is_vectorised()
    for each in kind.parameters():
        default = str(each.default).lower() if isinstance(each.default, bool) else each.default
        span = each.span.replace("|", "or")
        assert f"| `{each.name}` | {default} | {span} | {each.words} |\n" in section
