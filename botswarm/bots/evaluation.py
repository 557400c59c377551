"""All bots of one market in one pass: each decides for itself, and fails for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from botswarm.bots import guards, inputs, written
from botswarm.bots.costs import SLOW_MS, Costs
from botswarm.bots.muster import KEPT_ANEW_S, Member, Muster, newest_ms
from botswarm.bots.ranks import SHADOW, Ranks
from botswarm.domain.market import Book
from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Bot, Decision
from botswarm.strategies import evaluate as one
from botswarm.strategies.api import Candles
from botswarm.strategies.evaluate import Evaluation, Market, Neighbour, Stop, objection
from botswarm.strategies.gates import DATA_GATES
from botswarm.strategies.origins import Origin

logger = logging.getLogger(__name__)

ERRORS_MAX = 5
"""In a row; then the bot is paused with the last of them as the reason."""
WORDS_MAX = 1000
TOOK_MAX_S = 0.5
"""Of processor time, for one decision; a strategy that takes longer fails."""
BROKEN, BEHIND = "error", "behind"
BEHIND_SAID_S = 1.0
RETRIED = frozenset({*DATA_GATES, "halted", "reducing", "setback", BROKEN})
"""A bot that one of these stopped is asked again at each pass, whatever its trigger."""
SHADOWED = Stop(gate=SHADOW, words="it is a shadow bot: it decides and never orders")

Brakes = Callable[[Sequence[Bot]], Mapping[str, Stop]]
"""Of bots that want to order: those that must not, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A market, and what else its bots look at, at one moment."""

    market: Market
    candles: Mapping[str, Candles]
    """By timeframe; the very same object until a candle closes."""
    others: Mapping[str, tuple[Market, Mapping[str, Candles]]] = field(default_factory=dict)
    """Further markets by symbol."""
    book: Book | None = None

    def neighbours(self, member: Member) -> dict[str, Neighbour]:
        if not member.others:
            return {}
        return {
            symbol: Neighbour(market=found[0], candles=found[1].get(member.bot.timeframe))
            for symbol in member.others
            if (found := self.others.get(symbol)) is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Who is to be asked in a pass."""

    stop: Stop | None
    """Why nobody is: the market is not to be decided on."""
    members: Sequence[Member]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    decisions: Sequence[Decision]
    pauses: Mapping[str, str]
    """Bots whose errors were too many, with the reason."""
    asked: Sequence[Member] = ()
    """Those who were asked one by one."""
    decided: frozenset[str] = frozenset()
    """Those of them whose strategy answered, so that its trigger has been heard."""


@dataclass(slots=True)
class Evaluator:
    """Of one process, for all markets."""

    signal_life: timedelta
    costs: Costs = field(default_factory=Costs)
    _ranks: dict[tuple[str, str], Ranks] = field(default_factory=dict)

    def evaluate(
        self, muster: Muster, scene: Scene, now: datetime, *, brakes: Brakes = lambda _: {}
    ) -> Pass:
        """All in this process; ``brakes`` is asked once, about the bots that want to order.

        Hold the muster's lock, and give the answer to ``note`` once it is committed.
        """
        chosen = self.choose(muster, scene, now)
        found = self.ask(scene, chosen.members, now)
        return self.conclude(muster, scene, now, chosen, found, brakes)

    def choose(
        self, muster: Muster, scene: Scene, now: datetime, origin: Origin | None = None
    ) -> Chosen:
        """Of the bots whose strategies come from ``origin``; None are those that we trust."""
        members = [
            each
            for each in muster.members.values()
            if each.origin == origin and each.bot.last_sequence < scene.market.sequence
        ]
        stop = objection(scene.market, now)
        if stop is not None:
            return Chosen(stop=stop, members=members)
        muster.behind_since = None
        if origin is None:
            members = self._unranked_or_moved(muster, scene, now, members)
        return Chosen(
            stop=None,
            members=[each for each in members if each.problem is not None or _is_due(each, scene)],
        )

    def ask(
        self, scene: Scene, members: Sequence[Member], now: datetime
    ) -> dict[str, Evaluation | Exception]:
        """One by one, in this process."""
        return {each.name: self._ask(scene, each, now) for each in members}

    def conclude(
        self,
        muster: Muster,
        scene: Scene,
        now: datetime,
        chosen: Chosen,
        found: Mapping[str, Evaluation | Exception],
        brakes: Brakes = lambda _: {},
    ) -> Pass:
        done = Conclusion(muster, scene, now)
        if chosen.stop is not None:
            done.stop(chosen.members, chosen.stop)
        else:
            done.conclude(chosen.members, found, brakes)
        return done.result()

    def refuse(
        self, muster: Muster, scene: Scene, now: datetime, unfit: Mapping[str, Exception]
    ) -> Pass:
        """What these bots decided cannot be written down: that is their failure."""
        done = Conclusion(muster, scene, now)
        members = [muster.members[name] for name in unfit if name in muster.members]
        done.conclude(members, unfit, lambda _: {})
        return done.result()

    def note(
        self, muster: Muster, scene: Scene, made: Pass, committed: frozenset[str], now: datetime
    ) -> None:
        """The decisions of these bots are in the ledger: what was said of them is known now."""
        written = {each.bot: each.evaluation for each in made.decisions}
        for name, record in written.items():
            member = muster.members.get(name)
            if member is not None and record is not None and name in committed:
                member.was_kept(record)
                muster.changed.add(name)
        ranks = self._ranks.get((muster.venue, muster.symbol))
        for member in made.asked:
            if member.name not in written and ranks is not None:
                ranks.was_asked(member, now.timestamp())
            is_void = member.name in written and member.name not in committed
            if member.name in made.decided and not is_void:
                member.was_asked(scene.market, scene.candles)

    def _unranked_or_moved(
        self, muster: Muster, scene: Scene, now: datetime, members: Sequence[Member]
    ) -> list[Member]:
        """Of those that can be judged side by side only those that would change something."""
        ranks = self._ranks.setdefault((muster.venue, muster.symbol), Ranks())
        ranks.update(muster.members, muster.changed)
        muster.changed.clear()
        chosen: set[str] = set()
        ranked: set[str] = set()
        for rank in ranks.all():
            try:
                found = rank.to_ask(
                    scene.market, scene.candles, now.timestamp(), muster.kept_anew_s
                )
            except Exception as error:
                # The bots themselves are asked, and decide as ever.
                ranks.give_up(rank, error)
                continue
            self.costs.ranked(rank.strategy.name, len(rank.members))
            ranked |= rank.places.keys()
            chosen |= {each.name for each in found}
        return [each for each in members if each.name in chosen or each.name not in ranked]

    def _ask(self, scene: Scene, member: Member, now: datetime) -> Evaluation | Exception:
        if member.problem is not None:
            return member.problem
        began = time.thread_time()
        try:
            found = evaluate_one(scene, member, now, self.signal_life)
        except Exception as error:
            # A stranger's code, and one bot's only: the others go on.
            return error
        took_s = time.thread_time() - began
        self.costs.took(member.bot.strategy, member.name, took_s)
        if took_s * 1e3 > SLOW_MS:
            logger.warning(
                "%s took %.0f ms to decide",
                member.name,
                took_s * 1e3,
                extra={"bot_id": member.name},
            )
        if took_s > TOOK_MAX_S:
            return TooSlow(f"it took {took_s:.2f} s to decide, over {TOOK_MAX_S:g} s")
        return found


class TooSlow(BotswarmError):
    """A strategy took longer than the others can wait."""


def evaluate_one(scene: Scene, member: Member, now: datetime, signal_life: timedelta) -> Evaluation:
    """Raises whatever the strategy raises."""
    assert member.subject is not None
    return one.evaluate(
        member.subject,
        scene.market,
        scene.candles.get(member.bot.timeframe),
        now,
        signal_life=signal_life,
        series=scene.candles,
        others=scene.neighbours(member),
        book=scene.book,
    )


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


def _is_due(member: Member, scene: Scene) -> bool:
    """Its trigger fired; or it was stopped and goes on trying."""
    if member.kept_at is None or member.gate in RETRIED:
        return True
    return member.is_due(scene.market, scene.candles)


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
