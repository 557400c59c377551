"""What comes of a pass over a market's bots, bot by bot, as the ledger is to keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from botswarm.bots import guards, inputs, written
from botswarm.bots.muster import KEPT_ANEW_S, Member, Muster, newest_ms
from botswarm.bots.ranks import SHADOW
from botswarm.bots.scene import Pass, Scene
from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Bot, Decision
from botswarm.strategies import evaluate as one
from botswarm.strategies.evaluate import Evaluation, Stop

logger = logging.getLogger(__name__)

ERRORS_MAX = 5
"""In a row; then the bot is paused with the last of them as the reason."""
WORDS_MAX = 1000
BROKEN, BEHIND = "error", "behind"
BEHIND_SAID_S = 1.0
SHADOWED = Stop(gate=SHADOW, words="it is a shadow bot: it decides and never orders")

Brakes = Callable[[Sequence[Bot]], Mapping[str, Stop]]
"""Of bots that want to order: those that must not, and why."""


class Conclusion:
    """What comes of a pass, bot by bot."""

    def __init__(self, muster: Muster, scene: Scene, now: datetime) -> None:
        self._muster, self._scene, self._now = muster, scene, now
        self._decisions: dict[str, Decision] = {}
        self._pauses: dict[str, str] = {}
        self._asked: Sequence[Member] = ()
        self._decided: set[str] = set()
        # The same for all bots, and made once: what was seen of the market.
        self._saw = one.seen(scene.market, now)
        self._market_kept: dict[str, Any] | None = None

    def result(self) -> Pass:
        return Pass(
            decisions=[each for each in self._decisions.values() if not each.is_empty],
            pauses=self._pauses,
            asked=self._asked,
            decided=frozenset(self._decided),
        )

    def stop(self, members: Sequence[Member], stop: Stop) -> None:
        """The market itself is not to be decided on: news for those who do not know it yet."""
        if stop.gate == BEHIND and not self._is_behind_for_long():
            return
        evaluation = Evaluation(decision=None, stopped=stop)
        for member in members:
            if member.problem is not None:
                self._failed(member, member.problem)
            elif self._is_news(member, evaluation):
                self._add(member, evaluation, None)

    def conclude(
        self,
        asked: Sequence[Member],
        found: Mapping[str, Evaluation | Exception],
        brakes: Brakes,
    ) -> None:
        wanting = [
            each.bot
            for each in asked
            # A shadow orders nothing, whatever else would keep it from that.
            if not each.bot.is_shadow
            and isinstance(said := found[each.name], Evaluation)
            and said.orders
        ]
        stops = brakes(wanting) if wanting else {}
        self._asked = asked
        for member in asked:
            said = found[member.name]
            if isinstance(said, Exception):
                self._failed(member, said)
                continue
            try:
                self._add(member, said, stops.get(member.name))
                if said.decision is not None and member.name not in stops:
                    self._decided.add(member.name)
            except Exception as error:
                # What it wants to remember or to say cannot be written down.
                self._failed(member, error)

    def _add(self, member: Member, evaluation: Evaluation, stop: Stop | None) -> None:
        bot, subject, market = member.bot, member.subject, self._scene.market
        assert subject is not None
        orders = evaluation.orders
        if orders and bot.is_shadow:
            # What it would have ordered is told all the same.
            evaluation, orders = replace(evaluation, stopped=SHADOWED), ()
        elif orders and stop is not None:
            evaluation, orders = replace(evaluation, stopped=stop), ()
        memory = evaluation.decision.memory if evaluation.decision else None
        is_held_back = stop is not None and not bot.is_shadow
        if memory == bot.memory or is_held_back:
            # Who remembered to have ordered what it was kept from would never order it.
            memory = None
        cancels = () if bot.is_shadow else evaluation.cancels
        is_change = self._is_change(member, evaluation) or bool(orders or cancels)
        record: dict[str, Any] | None = None
        if is_change or memory is not None or self._is_news(member, evaluation):
            others = self._scene.neighbours(member)
            record = one.record(evaluation, subject, market, self._now, others, saw=self._saw)
            record["version"] = bot.version
            record["candle_ms"] = newest_ms(self._scene.candles.get(bot.timeframe))
            if is_held_back:
                # What would have happened, for those who ask why it did not.
                record["wanted"], record["orders"] = record["orders"], []
        # Here, because what cannot be written would fail the commit, and with it all other bots.
        memory = None if memory is None else written.memory(memory)
        record = None if record is None else written.record(record)
        self._decisions[member.name] = Decision(
            bot=bot.name,
            sequence=market.sequence,
            seen_sequence=bot.last_sequence,
            seen_revision=member.revision,
            orders=guards.past(orders, member.guards),
            cancels=cancels,
            memory=memory,
            evaluation=record,
            version=bot.version,
            is_change=is_change,
            inputs=self._inputs(member, evaluation, memory) if is_change else None,
        )

    def _inputs(
        self, member: Member, evaluation: Evaluation, memory: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """What deciding again takes; nothing where the bot was not asked."""
        if evaluation.decision is None or member.subject is None:
            return None
        scene = self._scene
        if self._market_kept is None:
            self._market_kept = inputs.market_said(scene.market)
        others = scene.neighbours(member)
        kept = inputs.packed(member.subject, self._market_kept, scene.candles, others, scene.book)
        if memory is not None:
            kept["remembered"] = dict(memory)
        return written.inputs(kept)

    def _failed(self, member: Member, error: Exception) -> None:
        """A decision to do nothing that counts the errors in a row."""
        bot, words = member.bot, words_of(error)
        count = member.errors + 1
        if count >= ERRORS_MAX:
            self._pauses[bot.name] = f"{count} evaluations in a row failed: {words}"
        logger.warning("%s: %s", bot.name, words, extra={"bot_id": bot.name})
        record = {
            "at": self._now.isoformat(),
            "sequence": self._scene.market.sequence,
            "verdict": None,
            "indicators": {},
            "orders": [],
            "errors": count,
            "stopped": {"gate": BROKEN, "words": words},
        }
        self._decisions[bot.name] = Decision(
            bot=bot.name,
            sequence=self._scene.market.sequence,
            seen_sequence=bot.last_sequence,
            seen_revision=member.revision,
            evaluation=record,
            version=bot.version,
            is_change=member.gate != BROKEN,
        )

    def _is_behind_for_long(self) -> bool:
        """A digest that comes a moment after its bell is nothing to write down for every bot."""
        since = self._muster.behind_since = self._muster.behind_since or self._now
        return (self._now - since).total_seconds() >= BEHIND_SAID_S

    def _is_change(self, member: Member, evaluation: Evaluation) -> bool:
        verdict = evaluation.decision.verdict if evaluation.decision else None
        gate = evaluation.stopped.gate if evaluation.stopped else None
        return member.kept_at is None or (verdict, gate) != (member.verdict, member.gate)

    def _is_news(self, member: Member, evaluation: Evaluation) -> bool:
        """Another verdict or gate, or the same for so long that people may think the bot dead."""
        return (
            self._is_change(member, evaluation)
            or bool(member.errors)
            or _is_old(member, self._now, self._muster.kept_anew_s)
        )


def _is_old(member: Member, now: datetime, kept_anew_s: float) -> bool:
    due_s = max(KEPT_ANEW_S, kept_anew_s * member.spread)
    return member.kept_at is None or now.timestamp() - member.kept_at >= due_s


def words_of(error: Exception) -> str:
    """Short, and of characters that every database keeps, whatever a stranger's error says."""
    try:
        said = str(error)
    except Exception:
        # A stranger's error, and its own way to say itself.
        said = ""
    kind = type(error).__name__
    words = said if isinstance(error, BotswarmError) else f"{kind}: {said}" if said else kind
    words = "".join(each if each.isprintable() else " " for each in words[: WORDS_MAX + 1])
    return words if len(words) <= WORDS_MAX else f"{words[: WORDS_MAX - 3]}..."
