"""``botswarm bot export|import``: bots as a TOML file, for keeping, moving and reviewing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import (
    Chosen,
    actor,
    catalog_of,
    confirm,
    filters,
    found,
    ledger_of,
    named,
    now,
    number,
    registry_of,
    taken,
)
from botswarm.cli.bot_make import elsewhere, place_of
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.errors import Unreachable

if TYPE_CHECKING:
    from botswarm.bots.file import Plan


@click.command("export", cls=Command)
@click.argument("names", nargs=-1)
@filters
@click.option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there instead of printing it.",
)
@click.pass_obj  # fmt: skip
def export_bots(session: Session, /, file: Path | None, **options: Any) -> Answer:
    """Print bots as TOML, all of them unless some are chosen; bot import reads it.

    It says what bots are told to be, not what they hold nor whether they run.
    """
    from botswarm.bots.file import written
    from botswarm.ledger.roster import Choice

    chosen, ledger = taken(options), ledger_of(session)
    if chosen != Chosen():
        found(ledger, chosen)
    bots = ledger.roster.bots(chosen.choice() if chosen != Chosen() else Choice())
    text = written(bots)
    if file is None:
        return Answer(data={"bots": len(bots), "toml": text}, text=text.rstrip("\n"))
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unreachable(
            f"{file} cannot be written: {error.strerror}", cure="name another file"
        ) from error
    return Answer(
        data={"bots": len(bots), "file": str(file)},
        text=f"{number(bots)} written to {file}.",
        next=[f"botswarm bot import {file} --preview"],
    )


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--start", "at_once", is_flag=True, help="Let the new ones run at once.")
@click.option(
    "--dry-run",
    "--preview",
    "preview",
    is_flag=True,
    help="Say what would be created and edited; change nothing.",
)
@click.option("--reason", help="Kept with the new versions; default: the file's name.")
@click.pass_obj  # fmt: skip
def import_bots(
    session: Session, /, file: Path, at_once: bool, preview: bool, reason: str | None
) -> Answer:
    """Create the bots of a TOML file, and edit those that exist to be as it says.

    All of them or, where anything is wrong, none. What the file does not say of a bot is its
    strategy's default. Importing it again changes nothing. Bots it does not name are left alone.
    """
    from botswarm.bots.file import Place, planned, read
    from botswarm.ledger.bot import BotState
    from botswarm.ledger.roster import Choice

    settings, ledger = session.settings(), ledger_of(session)
    here, account = place_of(settings)
    told = read(_text(file), catalog_of(settings), Place(venue=here, account=account),
                name=str(file))  # fmt: skip
    names = tuple(bot.name for bot in told)
    plan = planned(told, ledger.roster.bots(Choice(names=names)) if names else [], name=str(file))
    if preview:
        return _answer(plan, file, "would be ", at_once, [f"botswarm bot import {file} --yes"])
    changed = [bot.name for bot in (*plan.new, *plan.edited)]
    if len(changed) > 1 or (changed and settings.bot_require_confirmation):
        what = f"create {len(plan.new)} and edit {len(plan.edited)} bots"
        confirm(session, what, changed, f"botswarm bot import {file}")
    new = plan.new
    if at_once:
        new = [replace(bot, state=BotState.RUNNING, reason="started") for bot in new]
    if changed:
        registry_of(settings, ledger).save(
            now(), new=new, edited=plan.edited, actor=actor(), reason=reason or f"from {file.name}"
        )
    following = [] if at_once or not plan.new else ["botswarm bot start --state created --dry-run"]
    answer = _answer(plan, file, "", at_once, following)
    return replace(answer, warnings=elsewhere(told, settings))


def _text(file: Path) -> str:
    try:
        if str(file) == "-":
            return sys.stdin.read()
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Unreachable(
            f"{file} cannot be read: {why}", cure="write one: botswarm bot export --to FILE"
        ) from error


def _answer(plan: Plan, file: Path, would: str, at_once: bool, following: list[str]) -> Answer:
    new, edited = [bot.name for bot in plan.new], [bot.name for bot in plan.edited]
    started = " and started" if at_once else ""
    lines = [f"{file}: {number(new)} {would}created{started}: {named(new)}" if new else "",
             f"{file}: {number(edited)} {would}edited: {named(edited)}" if edited else "",
             f"{file}: {number(plan.unchanged)} unchanged." if plan.unchanged else ""]  # fmt: skip
    data = {"created": new, "edited": edited, "unchanged": len(plan.unchanged)}
    return Answer(
        data=data, text="\n".join(line for line in lines if line) or "No bots.", next=following
    )
