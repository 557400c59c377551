"""The passes of one process: read what changed, ask the bots, commit, and keep count of it all."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from botswarm.bots.apart import Apart
from botswarm.bots.brakes import brakes
from botswarm.bots.commits import Commits
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.muster import Muster
from botswarm.bots.registry import Registry, Rules
from botswarm.bots.scene import Pass, Scene
from botswarm.bots.strategies import Strategies
from botswarm.bots.warden import Cell, Warden
from botswarm.clock import Clock
from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Bot
from botswarm.ledger.outbox import Doorbell
from botswarm.ledger.stands import MarketPass
from botswarm.ledger.store import Ledger
from botswarm.strategies.origins import Origin
from botswarm.strategies.stand import Stop

logger = logging.getLogger(__name__)

REDO_MAX = 5
"""How often the bots whose stand changed in the middle of a pass are asked again at once."""
TOLD_EVERY_S = 5.0
"""How often the ledger is told which markets were evaluated."""

COSTS_EVERY_S, COSTS_SAID_MAX = 60.0, 10
"""How often the log says what strategies cost, and of how many: the dearest first."""

on_pass: list[Callable[[Result], object]] = []
"""Told of each pass once it is committed: for measuring."""

Look = Callable[[Muster], Scene | None]
"""The market as it is now, with all its bots want to see; None where nothing is known of it."""
Ring = Callable[[Sequence[Doorbell], datetime], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a pass."""

    venue: str
    symbol: str
    sequence: int
    bots: int
    asked: int = 0
    decided: int = 0
    orders: int = 0
    received_ms: int = 0
    """When the feed heard the newest tick that was decided on."""


class Floor:
    """Every market's bots as this process knows them."""

    def __init__(
        self,
        ledger: Ledger,
        strategies: Strategies,
        evaluator: Evaluator,
        clock: Clock,
        ring: Ring,
        rules: Rules | None = None,
    ) -> None:
        self._ledger = ledger
        self._strategies = strategies
        self._clock = clock
        self._ring = ring
        self._rules = rules
        self.evaluator = evaluator
        self._warden = Warden(evaluator.signal_life, evaluator.costs, strategies.edition)
        self._commits = Commits(ledger.bots.decide_many)
        self._musters: dict[tuple[str, str], Muster] = {}
        self._passes: dict[tuple[str, str], MarketPass] = {}
        self._told_at = self._costs_told_at = clock.monotonic()
        self._lock = threading.Lock()

    def pass_market(self, venue: str, symbol: str, look: Look) -> Result | None:
        """Every bot of the market that is ours to trust; None where there is nothing to do.

        Passes of one market go one after the other; those of several markets side by side.
        """
        began = time.monotonic()
        muster = self.muster(venue, symbol)
        with muster.lock:
            self._read(muster)
            origins = muster.origins
            if not muster.members and not origins:
                return None
            scene = look(muster)
            if scene is None:
                return None
            result = self._decide(muster, scene)
        for origin in origins:
            self._warden.submit(
                origin,
                (venue, symbol),
                functools.partial(self._pass_strangers, muster, scene, origin),
            )
        for told in on_pass:
            told(result)
        self._count(result, began)
        return result

    def close(self) -> None:
        """End the processes of strangers' strategies."""
        self._warden.close()

    def muster(self, venue: str, symbol: str) -> Muster:
        with self._lock:
            if self._strategies.refresh():
                self._warden.forget()
                for each in self._musters.values():
                    each.forget()
            found = self._musters.get((venue, symbol))
            if found is None:
                found = self._musters[venue, symbol] = Muster(venue, symbol, self._strategies)
            return found

    def _read(self, muster: Muster) -> None:
        muster.take(self._ledger.stands.since(muster.venue, muster.symbol, muster.seen()))

    def _decide(self, muster: Muster, scene: Scene) -> Result:
        """Until nobody's stand changed while it decided: what was decided on it is void then."""
        asked = decided = orders = 0
        for _ in range(REDO_MAX):
            now = self._clock.now()
            made = self.evaluator.evaluate(muster, scene, now, brakes=self._brakes)
            committed, rung = self.commit(muster, scene, made, now)
            asked += len(made.asked)
            decided += len(committed)
            orders += rung
            if len(committed) == len(made.decisions):
                break
            self._read(muster)
        trade, quote = scene.market.trade, scene.market.quote
        return Result(
            venue=muster.venue,
            symbol=muster.symbol,
            sequence=scene.market.sequence,
            bots=len(muster.members),
            asked=asked,
            decided=decided,
            orders=orders,
            received_ms=max((each.received_ms for each in (trade, quote) if each), default=0),
        )

    def _pass_strangers(self, muster: Muster, scene: Scene, origin: Origin, cell: Cell) -> None:
        """Their bots' own pass; the market's lock is free while they decide."""
        new = self._learn(muster, origin, cell)
        now = self._clock.now()
        with muster.lock:
            chosen = self.evaluator.choose(muster, scene, now, origin)
        if chosen.stop is None:
            seen = [each for each in chosen.members if each.name not in new]
            chosen = replace(chosen, members=seen)
        found = {} if chosen.stop else cell.evaluate(scene, chosen.members, now)
        answered = [each for each in chosen.members if chosen.stop or each.name in found]
        with muster.lock:
            made = self.evaluator.conclude(
                muster,
                scene,
                now,
                replace(chosen, members=answered),
                found,
                self._brakes,
            )
            self.commit(muster, scene, made, now)

    def _learn(self, muster: Muster, origin: Origin, cell: Cell) -> frozenset[str]:
        """Whose strategies' needs are known only now: they are shown them in the next pass."""
        with muster.lock:
            waiting = muster.waiting(origin)
        if not waiting:
            return frozenset()
        said = cell.learn(waiting)
        for bot in waiting:
            if isinstance(told := said.get(bot.name), Apart):
                self._strategies.keep(bot, told, cell.edition)
        failed = {name: told for name, told in said.items() if isinstance(told, Exception)}
        with muster.lock:
            return muster.learned(origin, failed)

    def _brakes(self, bots: Sequence[Bot]) -> Mapping[str, Stop]:
        return brakes(self._ledger, bots, self._clock.now(), self._rules)

    def commit(
        self, muster: Muster, scene: Scene, made: Pass, now: datetime
    ) -> tuple[frozenset[str], int]:
        """All decisions of a pass in one transaction; those that count, and how many orders."""
        committed: frozenset[str] = frozenset()
        doorbells: Sequence[Doorbell] = ()
        revision: int | None = None
        if made.decisions:
            done = self._commits.commit(made.decisions, now)
            committed, doorbells = done.bots, done.doorbells
            revision = done.revisions.get((muster.venue, muster.symbol))
            if done.unfit:
                revision = None
                failed = self.evaluator.refuse(muster, scene, now, done.unfit)
                committed |= self._commits.commit(failed.decisions, now).bots
                made = replace(
                    made,
                    decisions=[
                        *(each for each in made.decisions if each.bot not in done.unfit),
                        *failed.decisions,
                    ],
                    pauses={**made.pauses, **failed.pauses},
                )
        self.evaluator.note(muster, scene, made, committed, now)
        muster.doubt(each for each in made.decisions if each.bot not in committed)
        if revision is not None:
            muster.advance(revision, [each for each in made.decisions if each.bot in committed])
        # Committed: from here on whatever fails is rung again by the sweep.
        if doorbells:
            self._ring(doorbells, now)
        for name in committed & made.pauses.keys():
            self._pause(name, made.pauses[name])
        return committed, len(doorbells)

    def _pause(self, name: str, reason: str) -> None:
        try:
            Registry(self._ledger).pause(
                name, self._clock.now(), actor="strategy worker", reason=reason
            )
            logger.error("%s is paused: %s", name, reason, extra={"bot_id": name})
        except BotswarmError as error:
            # Stopped or deleted by somebody meanwhile; else the next failure asks again.
            logger.warning("%s is not paused: %s", name, error, extra={"bot_id": name})

    # --- seen alive -----------------------------------------------------------------------------

    def _count(self, result: Result, began: float) -> None:
        now = self._clock.monotonic()
        made = MarketPass(
            venue=result.venue,
            symbol=result.symbol,
            at=self._clock.now(),
            sequence=result.sequence,
            bots=result.bots,
            took_ms=round((time.monotonic() - began) * 1e3),
        )
        with self._lock:
            key = (result.venue, result.symbol)
            before = self._passes.get(key)
            if before is not None:
                made = replace(
                    made,
                    passes=before.passes + 1,
                    took_ms=max(before.took_ms, made.took_ms),
                )
            self._passes[key] = made
            if now - self._told_at < TOLD_EVERY_S:
                return
            self._told_at = now
            passes, self._passes = self._passes, {}
            says_costs = now - self._costs_told_at >= COSTS_EVERY_S
            if says_costs:
                self._costs_told_at = now
        self._tell(list(passes.values()))
        if says_costs:
            self._say_costs()

    def _say_costs(self) -> None:
        for cost in self.evaluator.costs.take()[:COSTS_SAID_MAX]:
            if cost.asked:
                logger.info(
                    "strategy %s: %d decisions took %.0f ms, %.1f ms the slowest (%s); "
                    "%d looks at bots side by side",
                    *(cost.strategy, cost.asked, cost.spent_ms, cost.slowest_ms),
                    *(cost.slowest_bot, cost.ranked),
                )

    def _tell(self, passes: Sequence[MarketPass]) -> None:
        try:
            self._ledger.stands.passed(passes)
        except BotswarmError as error:
            # Only what people look at; the next time it is told again.
            logger.warning("evaluations are not shown in the ledger: %s", error)
