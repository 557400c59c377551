"""All bots of one market in one pass: each decides for itself, and fails for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from botswarm.bots.conclusion import BROKEN, Brakes, Conclusion
from botswarm.bots.costs import SLOW_MS, Costs
from botswarm.bots.muster import Member, Muster
from botswarm.bots.ranks import Ranks
from botswarm.bots.scene import Pass, Scene
from botswarm.errors import BotswarmError
from botswarm.strategies import evaluate as one
from botswarm.strategies.evaluate import Evaluation, Stop, objection
from botswarm.strategies.gates import DATA_GATES
from botswarm.strategies.origins import Origin

logger = logging.getLogger(__name__)

TOOK_MAX_S = 0.5
"""Of processor time, for one decision; a strategy that takes longer fails."""
RETRIED = frozenset({*DATA_GATES, "halted", "reducing", "setback", BROKEN})
"""A bot that one of these stopped is asked again at each pass, whatever its trigger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Who is to be asked in a pass."""

    stop: Stop | None
    """Why nobody is: the market is not to be decided on."""
    members: Sequence[Member]


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


def _is_due(member: Member, scene: Scene) -> bool:
    """Its trigger fired; or it was stopped and goes on trying."""
    if member.kept_at is None or member.gate in RETRIED:
        return True
    return member.is_due(scene.market, scene.candles)
