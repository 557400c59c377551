"""The first version of somebody's own strategy, with a test that passes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from botswarm.errors import BotswarmError, Refused

NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"

STRATEGY = '''"""{title}: say here in one sentence what it bets on."""

from __future__ import annotations

from decimal import Decimal

from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Decision,
    Strategy,
    View,
    above,
    below,
    parameter,
)


class {kind}(Strategy, name="{name}"):
    """Holds its budget while the price is some percent below its average."""

    length: int = parameter(default=20, at_least=2, at_most=500, words="candles in the average")
    percent: Decimal = parameter(
        default=Decimal("0.5"),
        at_least=Decimal("0.01"),
        at_most=Decimal(50),
        words="percent below the average at which it buys",
    )

    @property
    def history(self) -> int:
        return self.length

    def decide(self, view: View) -> Decision:
        average = float(view.candles.sma(self.length)[-1])
        price, limit = float(view.price), average * (1 - float(self.percent) / 100)
        shown = {{"average": average, "limit": limit}}
        if price < limit:
            leaves = above("price", price, average)
            return Decision(
                verdict="in: the price is far below its average",
                indicators=shown,
                target=ALL,
                rules=[leaves],
            )
        if price > average:
            enters = below("price", price, limit)
            return Decision(
                verdict="out: the price is above its average",
                indicators=shown,
                target=NOTHING,
                rules=[enters],
            )
        return Decision(
            verdict="stays: the price is a little below its average",
            indicators=shown,
            rules=[below("price", price, limit), above("price", price, average)],
        )
'''

TEST = '''"""{title}: what it decides about markets whose answer is known."""

from __future__ import annotations

import unittest
from decimal import Decimal
from pathlib import Path

from botswarm.strategies.api import ALL, NOTHING
from botswarm.strategies.testing import load_strategy, view_of

{kind} = load_strategy(Path(__file__).with_name("{module}.py"))


class Test{kind}(unittest.TestCase):
    def test_it_buys_what_fell_far_below_its_average(self) -> None:
        decision = {kind}(length=3).decide(view_of([100, 100, 100], price=99))
        self.assertEqual(decision.target, ALL)

    def test_it_sells_above_the_average(self) -> None:
        decision = {kind}(length=3).decide(view_of([100, 100, 100], price=101, position=5))
        self.assertEqual(decision.target, NOTHING)

    def test_in_between_it_leaves_all_as_it_is_and_says_what_it_waits_for(self) -> None:
        strategy = {kind}(length=3, percent=Decimal(2))
        decision = strategy.decide(view_of([100, 100, 100], price=99))
        self.assertIsNone(decision.target)
        self.assertEqual(decision.nearest_words, "price 99, needs > 100")


if __name__ == "__main__":
    unittest.main()
'''


class BadName(BotswarmError):
    """No strategy can be called so."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    name: str
    strategy: Path
    test: Path


def write_new(name: str, folder: Path) -> Written:
    """Raises BadName, and Refused where a file of that name is there already."""
    if re.fullmatch(NAME, name) is None or len(name) > 50:
        raise BadName(
            f"{name!r} is no name of a strategy",
            cure="write it in small letters, with - between words, such as my-first",
        )
    module = name.replace("-", "_")
    kind = "".join(word.capitalize() for word in name.split("-"))
    written = Written(
        name=name, strategy=folder / f"{module}.py", test=folder / f"test_{module}.py"
    )
    for path in (written.strategy, written.test):
        if path.exists():
            raise Refused(f"{path} is there already", cure="choose another name, or delete it")
    told = {"title": kind, "kind": kind, "name": name, "module": module}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written.strategy.write_text(STRATEGY.format(**told))
        written.test.write_text(TEST.format(**told))
    except OSError as error:
        cure = "choose a folder that you may write to, with --dir"
        raise Refused(f"{folder} cannot be written to: {error}", cure=cure) from error
    return written
