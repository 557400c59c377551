"""``botswarm bot start|stop|pause|resume|delete|arm|disarm``: one bot, or as many as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import (
    Chosen,
    actor,
    choosing,
    confirm,
    found,
    ledger_of,
    named,
    now,
    number,
    preview,
    registry_of,
    taken,
)
from botswarm.cli.bot_words import stand_data
from botswarm.cli.command import Command
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.ringing import ring_these
from botswarm.cli.session import Answer, Session
from botswarm.domain.amount import plain
from botswarm.errors import Refused

if TYPE_CHECKING:
    from botswarm.bots.registry import Verb
    from botswarm.ledger.bots import Stand
    from botswarm.ledger.changes import Moved
    from botswarm.ledger.store import Ledger

HOURS_DEFAULT = 8


def _moving(verb: str, words: str) -> click.Command:
    @click.command(verb, cls=Command, help=words)
    @choosing
    @click.option("--reason", help="Kept with the change, for those who ask later.")
    @click.pass_obj
    def command(session: Session, /, reason: str | None, preview: bool, **options: Any) -> Answer:
        is_cancelling = options.pop("is_cancelling", False)
        return _move(session, verb, taken(options), reason, preview, is_cancelling)

    return command


def _cancelling(command: click.Command) -> click.Command:
    words = "Have their open orders ended, too: what may be at the venue is asked for until it is."
    option = click.Option(["--cancel", "is_cancelling"], is_flag=True, help=words)
    names = [each.name for each in command.params]
    command.params.insert(names.index("reason"), option)
    return command


start = _moving("start", "Let bots run; those that run already go on.")
stop = _cancelling(_moving("stop", "Stop bots: they decide nothing more, and keep what they hold."))
pause = _cancelling(_moving("pause", "Pause bots that run; resume lets them go on."))
resume = _moving("resume", "Let paused bots go on.")


def _move(
    session: Session,
    word: str,
    chosen: Chosen,
    reason: str | None,
    is_preview: bool,
    is_cancelling: bool = False,
) -> Answer:
    from botswarm.bots.registry import Verb

    verb = Verb(word)
    settings = session.settings()
    ledger = ledger_of(session)
    states = found(ledger, chosen)
    moving = [name for name, state in states.items() if state is not verb.state]
    command = f"botswarm bot {verb}"
    what = f"{verb} {number(moving)}"
    if is_preview:
        return preview(what, moving, command)
    asks = settings.bot_require_confirmation and verb in (Verb.START, Verb.RESUME)
    if moving and (len(moving) > 1 or not chosen.is_by_name or asks):
        confirm(session, what, moving, command)
    moved = registry_of(settings, ledger).move(
        list(states),
        verb,
        now(),
        actor=actor(),
        reason=reason,
        is_lenient=not chosen.is_by_name,
    )
    if is_cancelling:
        warnings = _cancel_orders(session, ledger, [*moved.changed, *moved.same], reason)
        answer = _moved_many(ledger, verb, moved, is_cancelling=True)
        return replace(answer, warnings=[*answer.warnings, *warnings])
    if len(states) == 1 and not moved.refused:
        return _moved_one(ledger.bots.stand(next(iter(states))), verb)
    return _moved_many(ledger, verb, moved)


def _cancel_orders(
    session: Session, ledger: Ledger, names: Sequence[str], reason: str | None
) -> list[str]:
    ids = [order.id for order in ledger.orders.under_way_of(names)]
    wished = ledger.cancels.wish(ids, now(), actor=actor(), reason=reason or "its bot was stopped")
    return ring_these(session, ledger, wished.doorbells)


def _moved_one(stand: Stand, verb: Verb) -> Answer:
    bot, warnings, following = stand.bot, [], []
    if bot.state.value != "running" and stand.orders:
        count = len(stand.orders)
        warnings.append(
            f"{count} order{'s'[: count != 1]} of {bot.name} stay open at the exchange and may "
            "still be filled"
        )
    if verb.value == "start":
        following = [f"botswarm bot why {bot.name}"]
    if verb.value == "pause":
        following = [f"botswarm bot resume {bot.name}"]
    text = f"{bot.name} is {bot.state}."
    return Answer(data=stand_data(stand), text=text, warnings=warnings, next=following)


def _moved_many(ledger: Ledger, verb: Verb, moved: Moved, *, is_cancelling: bool = False) -> Answer:
    lines = [f"{number(moved.changed)} {verb.done}."]
    if moved.same:
        lines.append(f"{number(moved.same)} {verb.state} already.")
    if moved.refused:
        lines.append(f"{number(list(moved.refused))} left as they are:")
        lines += [f"  {each.cause}" for each in list(moved.refused.values())[:10]]
        if (more := len(moved.refused) - 10) > 0:
            lines.append(f"  and {more} more")
    warnings = []
    if verb.state.value != "running":
        open_orders = ledger.roster.open_orders(moved.changed)
        if open_orders and is_cancelling:
            lines.append(f"{open_orders} orders of these bots are being ended.")
        elif open_orders:
            warnings.append(
                f"{open_orders} orders of these bots stay open at the exchange and may still be "
                "filled"
            )
    data = {
        "state": verb.state.value,
        "changed": list(moved.changed),
        "same": list(moved.same),
        "refused": {name: why.cause for name, why in moved.refused.items()},
    }
    return Answer(data=data, text="\n".join(lines), warnings=warnings)


@click.command("delete", cls=Command)
@choosing
@click.option("--reason", default="deleted", help="Kept with the change.")
@click.pass_obj
def delete(session: Session, /, reason: str, preview: bool, **options: Any) -> Answer:
    """Delete bots that are stopped; their orders, fills, entries and versions stay.

    One that still holds something is deleted only with --yes: nobody trades its position then.
    """
    return _delete(session, taken(options), reason, preview)


def _delete(session: Session, chosen: Chosen, reason: str, is_preview: bool) -> Answer:
    ledger = ledger_of(session)
    names = list(found(ledger, chosen))
    what = f"delete {number(names)}"
    if is_preview:
        return preview(what, names, "botswarm bot delete")
    held = ledger.roster.holding(names)
    if held and not session.yes:
        raise _still_holding(held)
    if names and (len(names) > 1 or not chosen.is_by_name):
        confirm(session, what, names, "botswarm bot delete")
    if names:
        bots = registry_of(session.settings(), ledger)
        bots.delete_all(names, now(), actor=actor(), reason=reason)
    if chosen.is_by_name and len(names) == 1:
        return Answer(data={"name": names[0], "deleted": True}, text=f"{names[0]} is deleted.")
    return Answer(data={"deleted": names}, text=f"{number(names)} deleted.")


def _still_holding(held: Sequence[tuple[str, str, Any]]) -> NotConfirmed:
    name, symbol, quantity = held[0]
    base = symbol.partition("-")[0]
    others = {each[0] for each in held} - {name}
    more = f", and {len(others)} others hold something too" if others else ""
    return NotConfirmed(
        f"{name} still holds {plain(quantity)} {base}, which no bot would look after{more}",
        cure=f"if that is meant: botswarm bot delete {name} --yes",
    )


def _arming(verb: str, words: str) -> Callable[[Callable[..., Answer]], click.Command]:
    def decorate(function: Callable[..., Answer]) -> click.Command:
        return click.command(verb, cls=Command, help=words)(choosing(click.pass_obj(function)))

    return decorate


@_arming(
    "arm",
    "Let bots run on an account of real money, for some hours and for a reason that is kept. "
    "Bots on paper and testnet accounts need none of it.",
)
@click.option("--for", "hours", type=click.IntRange(1, 720), default=HOURS_DEFAULT,
              show_default=True, metavar="HOURS", help="Then they order nothing more.")  # fmt: skip
@click.option("--reason", required=True, help="Who asks for it, and why now.")
def arm(session: Session, /, hours: int, reason: str, preview: bool, **options: Any) -> Answer:
    chosen, settings = taken(options), session.settings()
    ledger = ledger_of(session)
    names = list(found(ledger, chosen))
    what = f"arm {number(names)} for real money, for {hours} hours"
    if preview:
        return _previewed(what, names, "arm")
    if hours > settings.bot_arm_hours_max:
        raise Refused(
            f"{hours} hours are over {settings.bot_arm_hours_max}",
            cure="arm for less, and again; or raise BOTSWARM_BOT_ARM_HOURS_MAX",
        )
    # Always asked: this is the one step between a typing mistake and somebody's money.
    confirm(session, what, names, "botswarm bot arm")
    until = now() + timedelta(hours=hours)
    ledger.changes.arm(names, until, now(), actor=actor(), reason=reason)
    data = {"armed": names, "until": until.isoformat(), "reason": reason}
    text = f"{named(names)} armed until {until:%Y-%m-%d %H:%M}Z."
    return Answer(data=data, text=text, next=[f"botswarm bot start {names[0]}"] if names else [])


@_arming("disarm", "Take that back: they order nothing more with real money.")
@click.option("--reason", default="disarmed", help="Kept with the change.")
def disarm(session: Session, /, reason: str, preview: bool, **options: Any) -> Answer:
    ledger = ledger_of(session)
    names = list(found(ledger, taken(options)))
    if preview:
        return _previewed(f"disarm {number(names)}", names, "disarm")
    # Never asked: whoever wants real money left alone gets it at once.
    ledger.changes.arm(names, None, now(), actor=actor(), reason=reason)
    return Answer(data={"disarmed": names}, text=f"{number(names)} disarmed.")


def _previewed(what: str, names: Sequence[str], verb: str) -> Answer:
    return preview(what, names, f"botswarm bot {verb}")
