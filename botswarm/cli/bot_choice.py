"""Which bots a command is about, and whether that is really meant: options that verbs share."""

from __future__ import annotations

import functools
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Answer, Session

if TYPE_CHECKING:
    from botswarm.bots.registry import Registry, Rules
    from botswarm.config import Settings
    from botswarm.ledger.bot import BotState
    from botswarm.ledger.roster import Choice
    from botswarm.ledger.store import Ledger
    from botswarm.strategies.registry import Catalog

SHOWN = 10
STATES = ("created", "running", "paused", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Bots as the command line names them."""

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    is_all: bool = False

    @property
    def is_by_name(self) -> bool:
        """One that is not there, or must not, is an error then, and no less a bot."""
        return bool(self.names)

    def choice(self) -> Choice:
        from botswarm.ledger.bot import BotState
        from botswarm.ledger.roster import Choice

        return Choice(
            names=self.names,
            tags=self.tags,
            strategies=self.strategies,
            markets=tuple(market_of(each) for each in self.markets),
            states=tuple(BotState(each) for each in self.states),
        )

    def check(self) -> None:
        """Raises UsageError where nobody, or too much, is named."""
        filters = (self.tags, self.strategies, self.markets, self.states)
        if self.is_all and (self.names or any(filters)):
            raise click.UsageError("--all leaves nothing to choose: name bots, or say --all")
        if not self.is_all and not self.names and not any(filters):
            raise click.UsageError(
                "no bot is named: give names, --tag, --strategy, --market, --state or --all"
            )


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tag --strategy --market --state``: all that is given must fit, and of each any."""
    for option in (
        click.option("--state", "states", multiple=True, help=f"In this state: {_states()}."),
        click.option("--market", "markets", multiple=True, metavar="[VENUE:]SYMBOL",
                     help="In this market."),
        click.option("--strategy", "strategies", multiple=True, help="Of this strategy."),
        click.option("--tag", "tags", multiple=True, help="With this tag."),
    ):  # fmt: skip
        function = option(function)
    return function


def choosing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Names or filters or ``--all``, and ``--dry-run`` to only see whom that would be."""
    function = click.option(
        *("--dry-run", "--preview"),
        "preview",
        is_flag=True,
        help="Say how many and which; change nothing.",
    )(function)
    function = click.option("--all", "is_all", is_flag=True, help="All bots there are.")(function)
    return click.argument("names", nargs=-1)(filters(function))


def taken(options: dict[str, Any]) -> Chosen:
    """Take what ``filters`` and ``choosing`` put there out of a command's options."""
    for state in (states := options.pop("states", ())):
        if state not in STATES:
            raise click.UsageError(f"{state!r} is no state of a bot; those are {_states()}")
    return Chosen(
        names=tuple(dict.fromkeys(options.pop("names", ()))),
        tags=options.pop("tags", ()),
        strategies=options.pop("strategies", ()),
        markets=options.pop("markets", ()),
        states=states,
        is_all=options.pop("is_all", False),
    )


def found(ledger: Ledger, chosen: Chosen) -> Mapping[str, BotState]:
    """By name, those that are there; raises NotFound for a name that is not."""
    from botswarm.bots.registry import unknown

    chosen.check()
    states = ledger.roster.states(chosen.choice())
    if (missing := [name for name in chosen.names if name not in states]) and not any(
        (chosen.tags, chosen.strategies, chosen.markets, chosen.states)
    ):
        raise unknown(ledger, missing)
    return states


# --- whether it is meant --------------------------------------------------------------------------


def confirm(session: Session, what: str, names: Sequence[str], command: str) -> None:
    """Ask on a terminal; raises NotConfirmed where nobody is there to answer, or says no."""
    if session.yes:
        return
    which = named(names)
    if session.no_input or session.json or not sys.stdin.isatty():
        raise NotConfirmed(
            f"this would {what}: {which}; nobody confirmed it",
            cure=f"look first: {command} --dry-run; if that is meant, add --yes",
        )
    if not click.confirm(f"This would {what}: {which}. Go on?", default=False, err=True):
        raise NotConfirmed("nothing was done", cure="answer y, or add --yes")


def named(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def number(names: Sequence[object]) -> str:
    return "1 bot" if len(names) == 1 else f"{len(names)} bots"


def preview(what: str, names: Sequence[str], command: str) -> Answer:
    listed = "\n".join(names) if names else "none"
    return Answer(
        data={"would": what, "count": len(names), "names": list(names)},
        text=f"This would {what}:\n{listed}",
        next=[f"{command} --yes"] if names else [],
    )


# --- what commands need ---------------------------------------------------------------------------


def ledger_of(session: Session) -> Ledger:
    from botswarm.ledger.store import Ledger

    return Ledger(session.settings().database_url)


def registry_of(settings: Settings, ledger: Ledger) -> Registry:
    from botswarm.bots.registry import Registry

    return Registry(ledger, rules_of(settings))


def rules_of(settings: Settings) -> Rules:
    from botswarm.bots.registry import Rules
    from botswarm.exchanges.registry import is_live

    return Rules.of(settings, functools.partial(is_live, settings))


def catalog_of(settings: Settings) -> Catalog:
    from botswarm.strategies.registry import load

    return load(settings.strategies_dir)


def market_of(text: str) -> tuple[str | None, str]:
    venue, _, symbol = text.rpartition(":")
    return venue or None, symbol.upper()


def pair(given: str) -> tuple[str, str]:
    name, mark, value = given.partition("=")
    if not mark:
        raise click.UsageError(f"--set {given} is not NAME=VALUE")
    return name, value


def now() -> datetime:
    from botswarm.clock import SystemClock

    return SystemClock().now()


def actor() -> str:
    """Who types, for the audit."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def _states() -> str:
    return ", ".join(STATES[:-1]) + f" or {STATES[-1]}"
