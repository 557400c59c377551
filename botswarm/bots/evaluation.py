"""All bots of one market in one pass: each decides for itself, and fails for itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from botswarm.bots.spec import budget_of, parameters_of
from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Bot, Decision, Stand
from botswarm.strategies import evaluate as one
from botswarm.strategies.api import Candles, Strategy
from botswarm.strategies.evaluate import Evaluation, Market, Stop, Subject
from botswarm.strategies.registry import Catalog

logger = logging.getLogger(__name__)

ERRORS_MAX = 5
"""In a row; then the bot is paused with the last of them as the reason."""
KEPT_ANEW_S = 30
"""An evaluation that brings nothing new is written down this often, so that people see it live."""
KEPT_BYTES_MAX = 16_384
BROKEN = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    decisions: Sequence[Decision]
    pauses: Mapping[str, str]
    """Bots whose errors were too many, with the reason."""


Brakes = Callable[[Sequence[Bot]], Mapping[str, Stop]]
"""Of bots that want to order: those that must not, and why."""


@dataclass(frozen=True, slots=True)
class _Found:
    stand: Stand
    subject: Subject
    evaluation: Evaluation


@dataclass(slots=True)
class Evaluator:
    """Holds what costs something to make: strategies by bot, as long as their rows say the same."""

    catalog: Catalog
    signal_life: timedelta
    _made: dict[str, tuple[object, Strategy]] = field(default_factory=dict)

    def needs(self, stands: Sequence[Stand]) -> dict[str, int]:
        """How many candles of each timeframe these bots want to see."""
        wanted: dict[str, int] = {}
        for stand in stands:
            try:
                history = self._strategy(stand.bot).history
            except Exception:
                # It is asked again in its evaluation, where errors are counted.
                logger.debug("no history known for %s", stand.bot.name, exc_info=True)
                continue
            wanted[stand.bot.timeframe] = max(wanted.get(stand.bot.timeframe, 0), history)
        return wanted

    def evaluate(
        self,
        stands: Sequence[Stand],
        market: Market,
        candles: Mapping[str, Candles],
        now: datetime,
        *,
        brakes: Brakes = lambda _: {},
    ) -> Pass:
        """``brakes`` is asked once, about the bots that want to order."""
        done: dict[str, Decision] = {}
        found: list[_Found] = []
        pauses: dict[str, str] = {}
        cuts: dict[tuple[str, int], Candles] = {}

        def failed(stand: Stand, error: Exception) -> None:
            name, words = stand.bot.name, _words(error)
            done[name], count = _failed(stand, market, error, now)
            if count >= ERRORS_MAX:
                pauses[name] = f"{count} evaluations in a row failed: {words}"
            logger.warning("%s: %s", name, words, extra={"bot_id": name})

        for stand in stands:
            if market.sequence <= stand.bot.last_sequence:
                continue  # another worker has decided on this or on something newer
            try:
                found.append(self._look(stand, market, candles, cuts, now))
            except Exception as error:
                # A stranger's code, and one bot's only: the others go on.
                failed(stand, error)
        stops = brakes([each.stand.bot for each in found if each.evaluation.orders])
        for each in found:
            try:
                name = each.stand.bot.name
                done[name] = _decision(each, stops.get(name), market, now)
            except Exception as error:
                # What it wants to remember or to say cannot be written down.
                failed(each.stand, error)
        decisions = [each for each in done.values() if not each.is_empty]
        return Pass(decisions=decisions, pauses=pauses)

    def _look(
        self,
        stand: Stand,
        market: Market,
        candles: Mapping[str, Candles],
        cuts: dict[tuple[str, int], Candles],
        now: datetime,
    ) -> _Found:
        bot, strategy = stand.bot, self._strategy(stand.bot)
        subject = Subject(
            bot=bot.name,
            account=bot.account,
            strategy=strategy,
            timeframe=bot.timeframe,
            budget=budget_of(bot),
            position=stand.position,
            orders=stand.orders,
            memory=bot.memory,
        )
        shown = _cut(candles, cuts, bot.timeframe, strategy.history)
        evaluation = one.evaluate(subject, market, shown, now, signal_life=self.signal_life)
        return _Found(stand, subject, evaluation)

    def _strategy(self, bot: Bot) -> Strategy:
        said = (bot.strategy, bot.created_at, dict(bot.parameters))
        known = self._made.get(bot.name)
        if known is not None and known[0] == said:
            return known[1]
        made = self.catalog.make(bot.strategy, parameters_of(bot))
        self._made[bot.name] = said, made
        return made


def _decision(found: _Found, stop: Stop | None, market: Market, now: datetime) -> Decision:
    bot, evaluation = found.stand.bot, found.evaluation
    if stop is not None:
        evaluation = replace(evaluation, orders=(), stopped=stop)
    memory = evaluation.decision.memory if evaluation.decision else None
    if memory == bot.memory:
        memory = None
    record = None
    if evaluation.orders or memory is not None or _is_news(bot, evaluation, now):
        record = one.record(evaluation, found.subject, market, now)
    # Here, because what cannot be written would fail the commit, and with it all other bots.
    _check_is_plain(memory, record)
    return Decision(
        bot=bot.name,
        sequence=market.sequence,
        seen_sequence=bot.last_sequence,
        orders=evaluation.orders,
        memory=memory,
        evaluation=record,
    )


def _cut(
    candles: Mapping[str, Candles],
    cuts: dict[tuple[str, int], Candles],
    timeframe: str,
    history: int,
) -> Candles | None:
    """As many as the strategy asks for, whatever other bots want: its decisions are its own.

    Bots that want the same many share them, and with them their indicators.
    """
    if timeframe not in candles:
        return None
    if (timeframe, history) not in cuts:
        cuts[timeframe, history] = candles[timeframe].latest(history)
    return cuts[timeframe, history]


def _check_is_plain(*values: Mapping[str, Any] | None) -> None:
    """Raises TypeError or ValueError for what the ledger cannot keep, or not for long."""
    for value in values:
        length = 0 if value is None else len(json.dumps(value, allow_nan=False))
        if length > KEPT_BYTES_MAX:
            words = f"what it wants to be kept takes {length} bytes, over {KEPT_BYTES_MAX}"
            raise ValueError(words)


def _is_news(bot: Bot, evaluation: Evaluation, now: datetime) -> bool:
    """Another verdict or gate, or the same for so long that people may think the bot dead."""
    last = bot.last_evaluation
    if last is None or last.get("errors"):
        return True
    gate = last["stopped"] and last["stopped"]["gate"]
    verdict = evaluation.decision and evaluation.decision.verdict
    if (verdict, evaluation.stopped and evaluation.stopped.gate) != (last["verdict"], gate):
        return True
    return (now - datetime.fromisoformat(last["at"])).total_seconds() >= KEPT_ANEW_S


def _failed(stand: Stand, market: Market, error: Exception, now: datetime) -> tuple[Decision, int]:
    """A decision to do nothing that counts the errors in a row, and how many there are now."""
    count = _errors_before(stand.bot) + 1
    record = {
        "at": now.isoformat(),
        "sequence": market.sequence,
        "verdict": None,
        "indicators": {},
        "orders": [],
        "errors": count,
        "stopped": {"gate": BROKEN, "words": _words(error)},
    }
    decision = Decision(
        bot=stand.bot.name,
        sequence=market.sequence,
        seen_sequence=stand.bot.last_sequence,
        evaluation=record,
    )
    return decision, count


def _errors_before(bot: Bot) -> int:
    """Who starts a bot again after its errors gives it another chance: they count no more."""
    last = bot.last_evaluation
    if last is None:
        return 0
    was_touched = bot.updated_at is not None and bot.updated_at > datetime.fromisoformat(last["at"])
    return 0 if was_touched else int(last.get("errors") or 0)


def _words(error: Exception) -> str:
    if isinstance(error, BotswarmError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
