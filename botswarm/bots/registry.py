"""Create, start, pause, stop and delete bots: what people may ask, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum

from botswarm.bots.spec import BotSpec
from botswarm.config import Settings
from botswarm.errors import NotFound, Problem, Refused
from botswarm.ledger.bots import Bot, BotState, Stand
from botswarm.ledger.changes import Judge, Moved, Standing
from botswarm.ledger.many import several
from botswarm.ledger.store import Ledger

STARTED, STOPPED, PAUSED, RESUMED = "started", "stopped", "paused", "resumed"


class Verb(StrEnum):
    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"

    @property
    def state(self) -> BotState:
        return _GOALS[self]

    @property
    def done(self) -> str:
        return _DONE[self]


_GOALS = {
    Verb.START: BotState.RUNNING,
    Verb.STOP: BotState.STOPPED,
    Verb.PAUSE: BotState.PAUSED,
    Verb.RESUME: BotState.RUNNING,
}
_DONE = {
    Verb.START: STARTED,
    Verb.STOP: STOPPED,
    Verb.PAUSE: PAUSED,
    Verb.RESUME: RESUMED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What must hold where a bot starts."""

    is_enabled: bool = True
    running_max: int | None = None
    is_live: Callable[[str, str], bool] = lambda venue, account: False
    """Whether an account at a venue is of real money."""

    @classmethod
    def of(cls, settings: Settings, is_live: Callable[[str, str], bool]) -> Rules:
        return cls(
            is_enabled=settings.bot_enable,
            running_max=settings.bot_max_concurrent,
            is_live=is_live,
        )


class Registry:
    """Every change is audited with who made it and why."""

    def __init__(self, ledger: Ledger, rules: Rules | None = None) -> None:
        self._ledger = ledger
        self._rules = rules or Rules()

    def create(self, spec: BotSpec, now: datetime, *, actor: str) -> Bot:
        """It does nothing until it is started. Raises Refused where the name is taken."""
        self.save(now, new=[spec.bot()], actor=actor, reason="created")
        return self._ledger.bots.get(spec.name)

    def save(
        self,
        now: datetime,
        *,
        new: Sequence[Bot] = (),
        edited: Sequence[Bot] = (),
        actor: str,
        reason: str,
        forget: bool = False,
    ) -> None:
        """All or nothing; new ones whose state is running do so at once."""
        self._check_markets([*new, *edited])
        if any(bot.state is BotState.RUNNING for bot in new):
            self._check_enabled()
        self._ledger.changes.save(
            now,
            new=new,
            edited=edited,
            actor=actor,
            reason=reason,
            judge=self._judge(Verb.START, now),
            running_max=self._rules.running_max,
            forget=forget,
        )

    def list(self) -> Sequence[Bot]:
        return self._ledger.bots.list()

    def stand(self, name: str) -> Stand:
        """Raises NotFound with the name that was probably meant."""
        try:
            return self._ledger.bots.stand(name)
        except NotFound:
            raise unknown(self._ledger, [name]) from None

    def start(self, name: str, now: datetime, *, actor: str, reason: str = STARTED) -> Bot:
        return self._one(name, Verb.START, now, actor, reason)

    def stop(self, name: str, now: datetime, *, actor: str, reason: str = STOPPED) -> Bot:
        """It decides nothing more; what it holds it keeps, and its open orders stay open."""
        return self._one(name, Verb.STOP, now, actor, reason)

    def pause(self, name: str, now: datetime, *, actor: str, reason: str = PAUSED) -> Bot:
        """Raises Refused for a bot that does not run."""
        return self._one(name, Verb.PAUSE, now, actor, reason)

    def resume(self, name: str, now: datetime, *, actor: str, reason: str = RESUMED) -> Bot:
        """Raises Refused for a bot that is not paused."""
        return self._one(name, Verb.RESUME, now, actor, reason)

    def move(
        self,
        names: Sequence[str],
        verb: Verb,
        now: datetime,
        *,
        actor: str,
        reason: str | None = None,
        is_lenient: bool = False,
    ) -> Moved:
        """All of them or none; ``is_lenient`` leaves those out that cannot."""
        if verb.state is BotState.RUNNING:
            self._check_enabled()
        try:
            return self._ledger.changes.move(
                names,
                verb.state,
                now,
                actor=actor,
                reason=reason or verb.done,
                judge=self._judge(verb, now),
                running_max=self._rules.running_max,
                is_lenient=is_lenient,
            )
        except NotFound:
            raise unknown(self._ledger, names) from None

    def delete(self, name: str, now: datetime, *, actor: str, reason: str = "deleted") -> None:
        """Raises Refused while it runs, and while an order of it is not at its end."""
        self.delete_all([name], now, actor=actor, reason=reason)

    def delete_all(
        self, names: Sequence[str], now: datetime, *, actor: str, reason: str = "deleted"
    ) -> None:
        try:
            self._ledger.changes.delete(names, now, actor=actor, reason=reason)
        except NotFound:
            raise unknown(self._ledger, names) from None

    def _one(self, name: str, verb: Verb, now: datetime, actor: str, reason: str) -> Bot:
        self.move([name], verb, now, actor=actor, reason=reason)
        return self._ledger.bots.get(name)

    def _judge(self, verb: Verb, now: datetime) -> Judge:
        def judge(bot: Standing) -> Problem | None:
            return objection(bot, verb, now, self._rules)

        return judge

    def _check_enabled(self) -> None:
        if not self._rules.is_enabled:
            raise Refused(
                "bots are switched off here (BOTSWARM_BOT_ENABLE is false)",
                cure="set it to true where they shall run",
            )

    def _check_markets(self, bots: Sequence[Bot]) -> None:
        """Only where the ledger has the venue's list; the feed and the order worker save it."""
        for venue in sorted({bot.venue for bot in bots}):
            known = {each.symbol for each in self._ledger.books.instruments(venue)}
            wanted = {symbol for bot in bots if bot.venue == venue for symbol in markets_of(bot)}
            for symbol in sorted(wanted - known) if known else ():
                close = get_close_matches(symbol, known, n=1)
                has = ", ".join(sorted(known)[:20])
                cure = f"did you mean {close[0]}?" if close else f"it has {has}"
                raise NotFound(f"{venue} has no market {symbol}", cure=cure)


def unknown(ledger: Ledger, names: Sequence[str]) -> NotFound:
    """What to say of names of which some are not there, with the one that was probably meant."""
    there = set(ledger.roster.names())
    missing = [name for name in names if name not in there] or list(names)
    close = get_close_matches(missing[0], there, n=1)
    return NotFound(
        several(f"there is no bot {name!r}" for name in missing),
        cure=f"did you mean {close[0]}?" if close else "see: botswarm bot list",
    )


def objection(bot: Standing, verb: Verb, now: datetime, rules: Rules) -> Problem | None:
    """Why a bot in another state than the one it shall get must not get it."""
    start = f"to let it run: botswarm bot start {bot.name}"
    if verb is Verb.PAUSE and bot.state is not BotState.RUNNING:
        return Problem(f"the bot {bot.name} is {bot.state}, so there is nothing to pause", start)
    if verb is Verb.RESUME and bot.state is not BotState.PAUSED:
        return Problem(f"the bot {bot.name} is {bot.state}, not paused", start)
    if verb.state is BotState.RUNNING and rules.is_live(bot.venue, bot.account):
        return _unarmed(bot, now)
    return None


def _unarmed(bot: Standing, now: datetime) -> Problem | None:
    if bot.armed_until is not None and now < bot.armed_until:
        return None
    was = f" since {bot.armed_until:%Y-%m-%d %H:%M}Z" if bot.armed_until is not None else ""
    return Problem(
        f"{bot.name} would trade real money on {bot.venue}:{bot.account}, "
        f"and is {'no longer' if was else 'not'} armed{was}",
        f"if that is meant: botswarm bot arm {bot.name} --reason WHY --yes",
    )


def markets_of(bot: Bot) -> Sequence[str]:
    """Its own, and those its strategy looks at."""
    return (bot.symbol, *bot.others)


def counts(bots: Sequence[Bot]) -> Mapping[str, int]:
    """How many are in which state."""
    return {state.value: sum(bot.state is state for bot in bots) for state in BotState}
