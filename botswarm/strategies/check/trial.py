"""Trying a strategy out, in a child process: the same view twice, other futures, quiet markets."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy

from botswarm.strategies.api import (
    Columns,
    Decision,
    Many,
    Strategy,
    View,
    Wish,
    wanted_history,
)
from botswarm.strategies.check.answers import (
    amount_of,
    fraction_of,
    is_plain,
    said,
    some_value,
    typed_as,
    unknown_in,
    whole,
)
from botswarm.strategies.check.finding import Finding
from botswarm.strategies.check.markets import QUIET, SCENES, Scene, candles, view
from botswarm.strategies.check.source import KEEP_CURE
from botswarm.strategies.check.watch import Watch, changes, kept_between

SEEDS = (1, 2, 3)
SLOW_MS = 20.0
MEMORY_BYTES_MAX = 16_384
MANY = 24
NAN_CURE = "ask math.isfinite before you use it, and answer with a verdict that says so"
DICES = numpy.random.default_rng


class Trial:
    """Of one class of strategies."""

    def __init__(self, kind: type[Strategy], watch: Watch) -> None:
        self._kind, self._watch = kind, watch
        self._path = watch.path
        self.found: list[Finding] = []
        self.digest = hashlib.sha256()
        """Of all that was decided: another process must come to the same."""

    def run(self) -> None:
        strategy = self._made({})
        if strategy is None:
            return
        if not self._look(strategy):
            return
        if not any(each.is_error for each in self.found):
            # Of one that is impure these would only say the same in other words.
            self._ahead(strategy)
            self._many(strategy)
        for step in (self._memory, self._history, self._quiet, self._bounds, self._speed):
            step(strategy)

    # --- one after the other ----------------------------------------------------------------------

    def _look(self, strategy: Strategy) -> bool:
        """Whether it decides at all; what it answers, and what it does beside deciding."""
        module = sys.modules.get(self._kind.__module__)
        before = kept_between(module, (self._kind,))
        own = vars(strategy).copy()
        for shown in self._views(strategy):
            answer = self._decide(strategy, shown, watched=True)
            if answer is None:
                return False
            self._judge(answer)
            self.digest.update(whole(answer).encode())
            again = self._decide(strategy, shown)
            if again is not None and whole(again) != whole(answer):
                words = "asked twice about the same view, it answers differently"
                self._add("impure", words, "let the answer depend on the view alone")
        self.found += self._watch.found
        line = self._line("decide")
        self.found += changes(before, kept_between(module, (self._kind,)), line)
        if vars(strategy) != own:
            words = "deciding changed the strategy itself"
            self._add("impure", words, KEEP_CURE)
        return True

    def _memory(self, strategy: Strategy) -> None:
        """What it remembers comes back as text does: keys are words, and there are no tuples."""
        memory: dict[str, Any] = {}
        for seed in SEEDS:
            shown = view(strategy, Scene(name="walk", seed=seed), memory=memory)
            answer, error = self._try(strategy, shown)
            if error is not None:
                words = f"with the memory that it left, {memory}, it raises {said(error)}"[:300]
                cure = "expect of view.memory what JSON keeps: words as keys, lists, numbers, text"
                self._add("nonsense", words, cure, self._where(error))
                return
            if answer is None or not is_plain(answer.memory):
                return
            memory = memory if answer.memory is None else json.loads(json.dumps(answer.memory))

    def _ahead(self, strategy: Strategy) -> None:
        for seed in SEEDS:
            scene = Scene(name="walk", seed=seed)
            told = {
                whole(answer)
                for future in (None, 7, 8)
                if (answer := self._decide(strategy, view(strategy, scene, future=future)))
            }
            if len(told) > 1:
                words = "it decides differently when only candles of the future are others"
                self._add(
                    "look-ahead", words, "use view.candles alone, and not what is behind them"
                )
                return

    def _history(self, strategy: Strategy) -> None:
        """With exactly as many candles as asked for, and with more, the answer is the same kind."""
        if strategy.history < 0:
            self._add("history", f"it asks for {strategy.history} candles", "ask for 0 or more")
            return
        for seed in SEEDS:
            scene = Scene(name="walk", seed=seed)
            least, more = view(strategy, scene), view(strategy, scene, extra=50)
            shown, error = self._try(strategy, least)
            if isinstance(error, (IndexError, KeyError)) or (
                shown is not None and unknown_in(shown)
            ):
                enough, _ = self._try(strategy, more)
                if enough is None or unknown_in(enough):
                    continue
                words = f"{strategy.history} candles are too few for what it looks at"
                if shown is not None:
                    words += f": {', '.join(unknown_in(shown))} is not known"
                self._add("history", words, "let history return as many as the longest needs")
                return

    def _quiet(self, strategy: Strategy) -> None:
        for name in SCENES:
            if name == "walk":
                continue
            shown = view(strategy, Scene(name=name, seed=1), position=Decimal(1))
            answer, error = self._try(strategy, shown)
            kind = "not a number" if name in QUIET else "error"
            where = f"in a market that is {name}"
            if error is not None:
                words = f"it raises {said(error)} {where}"
                self._add(kind, words, NAN_CURE, self._where(error))
            elif answer is not None and (missing := unknown_in(answer)):
                words = f"its {', '.join(missing)} is no number {where}"
                self._add("not a number", words, NAN_CURE)

    def _bounds(self, strategy: Strategy) -> None:
        """Each parameter once at either end, where that makes a strategy of a bearable history."""
        for told in strategy.parameters():
            for value in (told.at_least, told.at_most, *told.choices):
                if value is None:
                    continue
                made = self._made({told.name: typed_as(value, told.default)}, is_bound=True)
                if made is None or made.history > 1500:
                    continue
                _, error = self._try(made, view(made, Scene(name="walk", seed=1)))
                if error is not None:
                    words = f"with {told.name}={value} it raises {said(error)}"
                    cure = f"bound {told.name} closer, or refuse it in objection()"
                    self._add("error", words, cure, self._where(error))

    def _many(self, strategy: Strategy) -> None:
        if not self._kind.is_vectorised():
            return
        random = DICES(5)
        for seed, name in ((1, "walk"), (2, "trend"), (3, "crash"), (4, "walk")):
            bots = [strategy, *self._population(random)]
            scene = Scene(name=name, seed=seed)
            try:
                self._compare(bots, scene, random)
            except Exception as error:
                words = f"decide_many raises {said(error)}"
                cure = "give every bot an answer"
                self._add("disagreement", words, cure, self._where(error))
            if any(each.kind == "disagreement" for each in self.found):
                return

    def _compare(
        self, bots: Sequence[Strategy], scene: Scene, random: numpy.random.Generator
    ) -> None:
        positions = [Decimal(int(random.integers(2))) for _ in bots]
        first = view(bots[0], scene)
        longest = candles(scene, bots[0].timeframe, max(each.history for each in bots) + 9)
        outcomes = self._kind.decide_many(
            Many(
                columns=Columns.of(bots, positions, [first.budget] * len(bots)),
                symbol=first.symbol,
                candles=longest,
                trade=first.trade,
                quote=first.quote,
                now_ms=first.now_ms,
            )
        )
        for place, (bot, position) in enumerate(zip(bots, positions, strict=True)):
            alone = self._decide(bot, view(bot, scene, position=position))
            if alone is None:
                continue
            verdict = outcomes.verdicts[int(outcomes.verdict[place])]
            target = fraction_of(alone)
            together = float(outcomes.target[place])
            agrees = (math.isnan(together) and target is None) or (
                target is not None and abs(together - target) < 1e-9
            )
            if verdict != alone.verdict or not agrees:
                words = (
                    f"decide says {alone.verdict!r} and {target}, "
                    f"decide_many {verdict!r} and {together:g}, for {bot}"
                )
                cure = "compute both from the same numbers with the same comparisons"
                self._add("disagreement", words, cure, self._line("decide_many"))
                return

    def _speed(self, strategy: Strategy) -> None:
        shown = view(strategy, Scene(name="walk", seed=1))
        took: list[float] = []
        for _ in range(5):
            began = time.thread_time()
            self._decide(strategy, shown)
            took.append((time.thread_time() - began) * 1000)
        if sorted(took)[2] > SLOW_MS:
            words = f"one decision takes {sorted(took)[2]:.0f} ms of processor time"
            cure = "use the indicators of view.candles: they are computed once for all bots"
            self._add("slow", words, cure, is_error=False)

    # --- the parts --------------------------------------------------------------------------------

    def _views(self, strategy: Strategy) -> Iterator[View]:
        for seed in SEEDS:
            for position in (Decimal(0), Decimal(1)):
                yield view(strategy, Scene(name="walk", seed=seed), position=position)

    def _population(self, random: numpy.random.Generator) -> Iterator[Strategy]:
        for _ in range(MANY):
            values = {
                told.name: value
                for told in self._kind.parameters()
                if (value := some_value(told, random)) is not None
            }
            made = self._made(values, is_bound=True)
            if made is not None and made.history <= 1500:
                yield made

    def _made(self, values: dict[str, Any], *, is_bound: bool = False) -> Strategy | None:
        try:
            made = self._kind(**values)
            made.history.__index__()
            wanted_history(made, made.timeframe)
            made.trigger()
            complaint = made.objection()
        except Exception as error:
            words = f"it cannot be made with {values or 'its defaults'}: {said(error)}"
            self._add(
                "unusable", words, "make it work with every allowed value", self._where(error)
            )
            return None
        if complaint is not None and not is_bound:
            self._add("unusable", f"it refuses its own defaults: {complaint}", "mend the defaults")
        return made if complaint is None else None

    def _decide(self, strategy: Strategy, shown: View, *, watched: bool = False) -> Decision | None:
        answer, error = self._try(strategy, shown, watched=watched)
        if error is not None:
            words = f"it raises {said(error)}"
            cure = "answer with a verdict instead, whatever the market looks like"
            kind = "history" if isinstance(error, IndexError) else "error"
            if kind == "history":
                cure = "let history return as many candles as it looks at"
            self._add(kind, words, cure, self._where(error))
        return answer

    def _try(
        self, strategy: Strategy, shown: View, *, watched: bool = False
    ) -> tuple[Decision | None, Exception | None]:
        ask: Callable[[], Any] = lambda: strategy.decide(shown)  # noqa: E731
        try:
            with numpy.errstate(all="ignore"):
                answer = self._watch.call(ask) if watched else ask()
        except Exception as error:
            return None, error
        if not isinstance(answer, Decision):
            words = f"decide answers {type(answer).__name__}, not a Decision"
            self._add("nonsense", words, "return Decision(verdict=…, …)")
            return None, None
        return answer, None

    def _judge(self, answer: Decision) -> None:
        """What the engine would refuse, and what it could not explain."""
        if not isinstance(answer.verdict, str) or not answer.verdict:
            self._add("nonsense", "its verdict is no words", "say in one clause what it decided")
        elif any(letter.isdigit() for letter in answer.verdict):
            words = "its verdict has numbers: every evaluation will be news"
            self._add("unexplained", words, "put numbers into indicators and rules", is_error=False)
        for target in (answer.target, *answer.targets.values()):
            amount = amount_of(target)
            if target is not None and not (isinstance(amount, (Decimal, int))):
                words = f"its target is {target!r}, which holds no Decimal"
                self._add("nonsense", words, 'write Decimal("0.5"), or Decimal(str(number))')
            elif isinstance(amount, Decimal) and not amount.is_finite():
                self._add("not a number", f"its target is {target!r}", NAN_CURE)
        for wish in answer.orders:
            if not isinstance(wish, Wish) or not isinstance(wish.quantity, Decimal):
                words = f"it wishes {wish!r}"
                self._add("nonsense", words, "use Wish, and Decimal for quantities and prices")
        if answer.memory is not None:
            self._remembers(dict(answer.memory))
        if answer.nearest_words is None and not answer.orders:
            words = "it says not what it waits for: bot why cannot tell a nearest miss"
            cure = "give rules=[below(…), above(…)] or nearest"
            self._add("unexplained", words, cure, is_error=False)

    def _remembers(self, memory: dict[str, Any]) -> None:
        cure = "keep text, numbers that are finite, lists and dicts of them, and few"
        try:
            length = len(json.dumps(memory, allow_nan=False))
        except (TypeError, ValueError) as error:
            self._add("nonsense", f"its memory cannot be kept: {error}", cure)
            return
        if length > MEMORY_BYTES_MAX:
            self._add("nonsense", f"its memory takes {length} bytes, over {MEMORY_BYTES_MAX}", cure)

    def _add(
        self, kind: str, words: str, cure: str, line: int | None = None, *, is_error: bool = True
    ) -> None:
        line = self._line("decide") if line is None else line
        finding = Finding(kind=kind, words=words, cure=cure, line=line, is_error=is_error)
        self.found.append(finding)

    def _line(self, method: str) -> int | None:
        try:
            return inspect.getsourcelines(getattr(self._kind, method))[1]
        except (OSError, TypeError):
            return None

    def _where(self, error: Exception) -> int | None:
        lines = [
            each.lineno
            for each in traceback.extract_tb(error.__traceback__)
            if each.filename == self._path
        ]
        return lines[-1] if lines else None
