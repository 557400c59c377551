"""What a bot saw and thought at a moment that is past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botswarm.bots.closes import runs_after
from botswarm.bots.registry import unknown
from botswarm.bots.why import summary
from botswarm.errors import NotFound
from botswarm.ledger.audit import Entry
from botswarm.ledger.evaluations import Kept
from botswarm.ledger.store import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    bot: str
    at: datetime
    kept: Kept
    """The last evaluation up to then that changed something; it held until the next one."""
    next_at: datetime | None
    configuration: Mapping[str, Any] | None
    """As the version that decided had it."""
    moved: Entry | None
    """What was last done to the bot before: started, paused, stopped."""

    @property
    def is_running(self) -> bool:
        return self.moved is None or runs_after(self.moved) is not False

    @property
    def answer(self) -> str:
        if not self.is_running and self.moved is not None:
            who = f"{self.moved.actor}, {self.moved.at:%Y-%m-%d %H:%M:%S}"
            return f"{self.bot} did not run: {self.moved.reason} ({who})"
        return f"{self.bot} {summary(self.kept.record)}"


def explain_at(ledger: Ledger, name: str, at: datetime) -> Then:
    """Raises NotFound where nothing that held then is kept."""
    kept = ledger.evaluations.at(name, at)
    if kept is None:
        oldest = ledger.evaluations.oldest(name)
        if oldest is None and name not in ledger.roster.names():
            raise unknown(ledger, [name])
        words = "none is kept" if oldest is None else f"the oldest that is kept is of {oldest}"
        raise NotFound(
            f"no evaluation of {name} from before {at:%Y-%m-%d %H:%M:%S} is kept; {words}",
            cure="see how long they are: botswarm config show",
        )
    after = ledger.evaluations.after(name, kept)
    versions = {each.version: each.configuration for each in ledger.roster.versions(name)}
    moves = [
        each for each in ledger.audit.of_bot(name) if each.at <= at and runs_after(each) is not None
    ]
    return Then(
        bot=name,
        at=at,
        kept=kept,
        next_at=after,
        configuration=versions.get(kept.version),
        moved=moves[-1] if moves else None,
    )


def data(then: Then) -> dict[str, Any]:
    return {
        "bot": then.bot,
        "at": then.at.isoformat(),
        "answer": then.answer,
        "is_running": then.is_running,
        "evaluated_at": then.kept.at.isoformat(),
        "held_until": then.next_at and then.next_at.isoformat(),
        "version": then.kept.version,
        "configuration": then.configuration,
        "evaluation": then.kept.record,
    }
