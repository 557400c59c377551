"""``botswarm bot list|show|history|diff``: what bots there are, were, and how they differ."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import Chosen, filters, ledger_of, taken
from botswarm.cli.bot_words import line_data, stand_data, thought
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain
from botswarm.errors import NotFound

if TYPE_CHECKING:
    from botswarm.ledger.bot import Bot
    from botswarm.ledger.roster import Roster, Version
    from botswarm.ledger.store import Ledger


@click.command("list", cls=Command)
@filters
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--after", metavar="NAME", help="Those that come behind this name: the next page.")
@click.pass_obj
def list_bots(session: Session, /, limit: int | None, after: str | None, **options: Any) -> Answer:
    """List bots by name: what they hold and what they last thought; all, or those that fit."""
    with _collecting_nothing():
        return _list(session, taken(options), limit, after)


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Thousands of lines live until the process ends in a moment: looking for garbage among them,
    and among what is loaded to find them, would take a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _list(session: Session, chosen: Chosen, limit: int | None, after: str | None) -> Answer:
    choice = chosen.choice()
    found = _roster(session).lines(choice, limit=limit, after=after)
    if not found:
        create = "botswarm bot create NAME --strategy sma-cross --market BTC-USDT --start"
        text = "There are no bots." if choice.is_empty and after is None else "No bot fits."
        return Answer(data=[], text=text, next=[create] if choice.is_empty else [])
    following = []
    if limit is not None and len(found) == limit:
        following = [f"botswarm bot list --limit {limit} --after {found[-1].name}"]
    if session.json:
        return Answer(data=[line_data(each) for each in found], next=following)
    rows = [
        (
            each.name,
            each.strategy,
            f"{each.venue}:{each.symbol}",
            f"{each.state}, shadow" if each.is_shadow else each.state,
            plain(each.position) if each.position else "0",
            thought(each),
        )
        for each in found
    ]
    heads = ["BOT", "STRATEGY", "MARKET", "STATE", "HOLDS", "LAST THOUGHT"]
    return Answer(data=None, text=in_columns(heads, rows), next=following)


def _roster(session: Session) -> Roster:
    """Without the rest of the ledger: loading that would take a tenth of the time."""
    from botswarm.ledger.roster import Roster
    from botswarm.ledger.session import Database

    return Roster(Database(session.settings().database_url))


@click.command("show", cls=Command)
@click.argument("name")
@click.pass_obj
def show_bot(session: Session, /, name: str) -> Answer:
    """Show what a bot was told: its market, budget and parameters."""
    from botswarm.bots.registry import Registry

    stand = Registry(ledger_of(session)).stand(name)
    found = stand.bot
    rows: list[tuple[str, object]] = [
        ("strategy", found.strategy),
        ("market", f"{found.venue}:{found.symbol}"),
        *((("looks at", ", ".join(found.others)),) if found.others else ()),
        ("account", found.account),
        ("timeframe", found.timeframe),
        ("state", f"{found.state} ({found.reason})" if found.reason else found.state),
        *((("shadow", "it decides and never orders"),) if found.is_shadow else ()),
        *((("tags", ", ".join(found.tags)),) if found.tags else ()),
        *((("armed", f"until {found.armed_until:%Y-%m-%d %H:%M}Z"),) if found.armed_until else ()),
        ("version", str(found.version)),
        ("holds", plain(stand.position)),
        ("open orders", str(len(stand.orders))),
        *((name, str(value)) for name, value in found.parameters.items()),
    ]
    return Answer(
        data=stand_data(stand),
        text=in_columns([found.name, ""], rows),
        next=[f"botswarm bot why {name}"],
    )


@click.command("history", cls=Command)
@click.argument("name")
@click.pass_obj
def history(session: Session, /, name: str) -> Answer:
    """List the versions of a bot's configuration: when, by whom, why, and what changed.

    It answers for deleted bots too: their orders still name the version that decided.
    """
    from botswarm.bots.edit import differences

    versions = _versions(ledger_of(session), name)
    before: Mapping[str, Any] = {}
    rows, data = [], []
    for each in versions:
        changes = differences(before, each.configuration) if before else {}
        rows.append(
            (each.version, f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor, each.reason,
             _in_words(changes) or "-")
        )  # fmt: skip
        data.append(
            {
                "version": each.version,
                "at": each.at.isoformat(),
                "actor": each.actor,
                "reason": each.reason,
                "changes": {key: list(values) for key, values in changes.items()},
                "configuration": each.configuration,
            }
        )
        before = each.configuration
    text = in_columns(["VERSION", "SINCE", "BY", "REASON", "CHANGED"], rows)
    return Answer(data=data, text=text)


@click.command("diff", cls=Command)
@click.argument("name")
@click.argument("other", required=False)
@click.option(
    "--version",
    "versions",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="One version against what is now; given twice, two versions.",
)
@click.pass_obj  # fmt: skip
def diff(session: Session, /, name: str, other: str | None, versions: tuple[int, ...]) -> Answer:
    """Show what two bots, or two versions of one bot, are told differently."""
    from botswarm.bots.edit import differences

    if (other is None) == (not versions) or len(versions) > 2:
        raise click.UsageError("give two bots, or one bot and --version once or twice")
    ledger = ledger_of(session)
    if other is not None:
        heads = [name, other]
        told = [_now(ledger, name), _now(ledger, other)]
    else:
        heads = [f"version {number}" for number in versions]
        told = [_then(ledger, name, number) for number in versions]
        if len(versions) == 1:
            heads, told = [*heads, "now"], [*told, _now(ledger, name)]
    found = differences(*told)
    data = {key: {heads[0]: one, heads[1]: two} for key, (one, two) in found.items()}
    rows = [(key, _shown(one), _shown(two)) for key, (one, two) in found.items()]
    text = in_columns(["", *heads], rows) if rows else "They are told the same."
    return Answer(data=data, text=text)


def _versions(ledger: Ledger, name: str) -> Sequence[Version]:
    from botswarm.bots.registry import Registry
    from botswarm.ledger.configurations import configuration
    from botswarm.ledger.roster import Version

    versions = ledger.roster.versions(name)
    if versions:
        return versions
    # It is older than the table of versions, and nobody has edited it since.
    bot = Registry(ledger).stand(name).bot
    assert bot.created_at is not None
    return [
        Version(
            bot=name,
            version=bot.version,
            at=bot.created_at,
            actor="-",
            reason="created",
            configuration=configuration(bot),
        )
    ]


def _now(ledger: Ledger, name: str) -> Mapping[str, Any]:
    from botswarm.bots.registry import Registry
    from botswarm.ledger.configurations import configuration

    bot: Bot = Registry(ledger).stand(name).bot
    return configuration(bot)


def _then(ledger: Ledger, name: str, number: int) -> Mapping[str, Any]:
    versions = {each.version: each for each in _versions(ledger, name)}
    if number not in versions:
        raise NotFound(
            f"{name} has no version {number}, only {', '.join(map(str, versions))}",
            cure=f"see: botswarm bot history {name}",
        )
    return versions[number].configuration


def _in_words(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} {_shown(one)} -> {_shown(two)}" for key, (one, two) in changes.items())


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
