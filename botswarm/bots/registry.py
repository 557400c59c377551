"""Create, start, pause, stop and delete bots: what people may ask, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

from botswarm.bots.spec import BotSpec
from botswarm.errors import NotFound, Refused
from botswarm.ledger.bots import Bot, BotState, Stand
from botswarm.ledger.store import Ledger

STARTED, STOPPED, PAUSED, RESUMED = "started", "stopped", "paused", "resumed"


class Registry:
    """Every change is audited with who made it and why."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def create(self, spec: BotSpec, now: datetime, *, actor: str) -> Bot:
        """It does nothing until it is started. Raises Refused where the name is taken."""
        self._check_market(spec)
        return self._ledger.bots.create(spec.bot(), now, actor=actor)

    def list(self) -> Sequence[Bot]:
        return self._ledger.bots.list()

    def stand(self, name: str) -> Stand:
        """Raises NotFound with the name that was probably meant."""
        try:
            return self._ledger.bots.stand(name)
        except NotFound as error:
            close = get_close_matches(name, [bot.name for bot in self.list()], n=1)
            cure = f"did you mean {close[0]}?" if close else error.cure
            raise NotFound(error.cause, cure=cure) from None

    def start(self, name: str, now: datetime, *, actor: str, reason: str = STARTED) -> Bot:
        return self._move(name, BotState.RUNNING, now, actor=actor, reason=reason)

    def stop(self, name: str, now: datetime, *, actor: str, reason: str = STOPPED) -> Bot:
        """It decides nothing more; what it holds it keeps, and its open orders stay open."""
        return self._move(name, BotState.STOPPED, now, actor=actor, reason=reason)

    def pause(self, name: str, now: datetime, *, actor: str, reason: str = PAUSED) -> Bot:
        """Raises Refused for a bot that does not run."""
        bot = self.stand(name).bot
        if bot.state not in (BotState.RUNNING, BotState.PAUSED):
            raise Refused(
                f"the bot {name} is {bot.state}, so there is nothing to pause",
                cure=f"to let it run: botswarm bot start {name}",
            )
        return self._move(name, BotState.PAUSED, now, actor=actor, reason=reason)

    def resume(self, name: str, now: datetime, *, actor: str, reason: str = RESUMED) -> Bot:
        """Raises Refused for a bot that is not paused."""
        bot = self.stand(name).bot
        if bot.state not in (BotState.RUNNING, BotState.PAUSED):
            raise Refused(
                f"the bot {name} is {bot.state}, not paused",
                cure=f"to let it run: botswarm bot start {name}",
            )
        return self._move(name, BotState.RUNNING, now, actor=actor, reason=reason)

    def delete(self, name: str, now: datetime, *, actor: str) -> None:
        """Raises Refused while it runs, and while an order of it is not at its end."""
        self.stand(name)
        self._ledger.bots.delete(name, now, actor=actor)

    def _move(self, name: str, state: BotState, now: datetime, *, actor: str, reason: str) -> Bot:
        bot = self.stand(name).bot
        if bot.state is state:
            return bot
        return self._ledger.bots.set_state(name, state, now, reason=reason, actor=actor)

    def _check_market(self, spec: BotSpec) -> None:
        """Only where the ledger has the venue's list; the feed and the order worker save it."""
        known = [each.symbol for each in self._ledger.books.instruments(spec.venue)]
        if not known or spec.symbol in known:
            return
        close = get_close_matches(spec.symbol, known, n=1)
        cure = f"did you mean {close[0]}?" if close else f"it has {', '.join(known[:20])}"
        raise NotFound(f"{spec.venue} has no market {spec.symbol}", cure=cure)


def counts(bots: Sequence[Bot]) -> Mapping[str, int]:
    """How many are in which state."""
    return {state.value: sum(bot.state is state for bot in bots) for state in BotState}
