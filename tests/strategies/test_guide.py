"""The guide for authors says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from botswarm.strategies.registry import load
from tests.strategies.values import a_view

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/strategies.md").read_text()


def test_the_strategy_in_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    catalog = load(tmp_path)
    assert catalog.broken == {}
    decision = catalog.make("below-average", {"length": "2"}).decide(a_view([101.0, 101.0]))
    assert decision.verdict == "in: below the average"


def test_every_gate_is_in_the_guide_and_the_other_way_round() -> None:
    told = set(re.findall(r"^\| `([a-z ]+)` \|", GUIDE, re.MULTILINE))
    used = set()
    rooms = [*ROOT.glob("botswarm/strategies/*.py"), *ROOT.glob("botswarm/bots/*.py")]
    for path in rooms:
        text = path.read_text()
        used |= set(re.findall(r'gate="([a-z ]+)"', text))
        used |= set(re.findall(r'^BROKEN\b.*? = "([a-z ]+)"', text, re.MULTILINE))
    assert told == used
