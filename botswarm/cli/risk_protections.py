"""Protections: see which are on and what they did, switch them on for a scope, and off again."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command, Group
from botswarm.cli.moments import Duration
from botswarm.cli.order_cancel import confirm
from botswarm.cli.risk_limits import scope_option
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.protections import KINDS, Protection, ProtectionKind

if TYPE_CHECKING:
    from botswarm.ledger.protections import Guard, Said

_KIND = click.Choice([each.value for each in ProtectionKind])


@click.group(cls=Group, invoke_without_command=True)
@click.option("--kinds", "is_kinds", is_flag=True, help="Explain every kind there is.")
@click.pass_context
def protections(context: click.Context, is_kinds: bool) -> Answer | None:
    """List the protections that are on, and the stops they keep; switch them on and off."""
    session = context.find_object(Session)
    assert session is not None
    if context.invoked_subcommand is not None:
        return None
    context.exit(session.answer(_explained() if is_kinds else _listed(session)))


@protections.command("set", cls=Command)
@click.argument("kind", type=_KIND)
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@scope_option("For which it holds.", "swarm")
@click.option("--reason", default="set from the command line", help="Kept in the audit log.")
@click.pass_obj
def set_protection(
    session: Session, kind: str, parameters: tuple[str, ...], scope: str, reason: str
) -> Answer:
    """Switch a protection on, in place of what was said before.

    Times are written 90s, 30m, 4h or 1d: cool_down losses=2 within=1h pause=15m.
    """
    from botswarm.ledger.scopes import doubts

    ledger = ledger_of(session)
    made = Protection.of(scope, ProtectionKind(kind), _values(ProtectionKind(kind), parameters))
    warnings = doubts(ledger.database, scope)
    said = ledger.protections.set(made, actor=actor(), reason=reason, now=now())
    return Answer(
        data=_data(said),
        text=f"{scope}: {kind} {_parameters(made)}",
        warnings=warnings,
    )


@protections.command("unset", cls=Command)
@click.argument("kind", type=_KIND)
@scope_option("For which it was switched on.", "swarm")
@click.option("--reason", default="unset from the command line", help="Kept in the audit log.")
@click.pass_obj
def unset_protection(session: Session, kind: str, scope: str, reason: str) -> Answer:
    """Switch a protection off. Its stops are ended at the venue by the next sweep."""
    confirm(session, f"switch {kind} of {scope} off", "")
    ledger_of(session).protections.unset(
        scope, ProtectionKind(kind), actor=actor(), reason=reason, now=now()
    )
    return Answer(data={"scope": scope, "kind": kind}, text=f"{scope}: {kind} is off")


# --- words ----------------------------------------------------------------------------------------


def _values(kind: ProtectionKind, parameters: Sequence[str]) -> dict[str, Decimal]:
    needed = KINDS[kind].parameters
    found: dict[str, Decimal] = {}
    for text in parameters:
        name, sign, value = text.partition("=")
        if not sign or not value:
            raise click.UsageError(f"{text!r} is no parameter: write {next(iter(needed))}=…")
        is_time = name in needed and needed[name].unit == "time"
        found[name] = _time(value) if is_time else _number(name, value)
    return found


def _time(value: str) -> Decimal:
    return Decimal(str(Duration().convert(value, None, None)))


def _number(name: str, value: str) -> Decimal:
    try:
        return Decimal(value.removesuffix("%"))
    except InvalidOperation:
        raise click.UsageError(f"{name} is {value!r}, which is no number") from None


def _listed(session: Session) -> Answer:
    ledger = ledger_of(session)
    said = ledger.protections.all()
    guards = [each for each in ledger.protections.guards().values() if each.quantity]
    rows = [
        (
            each.protection.scope,
            each.protection.kind.value,
            _parameters(each.protection),
            f"{each.actor}, {each.at:%Y-%m-%d %H:%M:%S}",
            each.reason,
        )
        for each in said
    ]
    heads = ["SCOPE", "KIND", "PARAMETERS", "SAID BY", "REASON"]
    text = in_columns(heads, rows) if rows else "No protection is on."
    if guards:
        text += "\n\n" + _guards_table(guards)
    return Answer(
        data={
            "protections": [_data(each) for each in said],
            "stops": [_guard_data(each) for each in guards],
        },
        text=text,
        next=["botswarm risk protections --kinds"] if not rows else [],
    )


def _guards_table(guards: Sequence[Guard]) -> str:
    rows = [
        (
            each.bot,
            f"{each.venue}:{each.symbol}",
            plain(each.quantity),
            each.kind,
            plain(each.stop_price),
            each.order_id or "",
            each.words or "",
        )
        for each in sorted(guards, key=lambda each: each.place)
    ]
    heads = ["BOT", "MARKET", "POSITION", "BY", "STOP", "ORDER", "WHY NOT AT THE VENUE"]
    return in_columns(heads, rows)


def _explained() -> Answer:
    rows, data = [], []
    for kind, said in KINDS.items():
        needed = {
            name: "needed" if each.default is None else _value(each.unit, each.default)
            for name, each in said.parameters.items()
        }
        words = " ".join(f"{name}={value}" for name, value in needed.items())
        rows.append((kind.value, words, said.words))
        data.append({"kind": kind.value, "parameters": needed, "words": said.words})
    return Answer(data=data, text=in_columns(["KIND", "PARAMETERS", "WHAT IT DOES"], rows))


def _parameters(protection: Protection) -> str:
    needed = KINDS[protection.kind].parameters
    return " ".join(
        f"{name}={_value(needed[name].unit, value)}"
        for name, value in protection.parameters.items()
    )


def _value(unit: str, value: Decimal) -> str:
    if unit != "time":
        return plain(value) + ("%" if unit == "percent" else "")
    for letter, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if value >= seconds and value % seconds == 0:
            return f"{plain(value / seconds)}{letter}"
    return f"{plain(value)}s"


def _data(said: Said) -> dict[str, Any]:
    made = said.protection
    return {
        "scope": made.scope,
        "kind": made.kind.value,
        "parameters": {name: plain(value) for name, value in made.parameters.items()},
        "actor": said.actor,
        "at": said.at.isoformat(),
        "reason": said.reason,
    }


def _guard_data(each: Guard) -> dict[str, Any]:
    return {
        "bot": each.bot,
        "venue": each.venue,
        "account": each.account,
        "symbol": each.symbol,
        "kind": each.kind,
        "quantity": plain(each.quantity),
        "stop_price": plain(each.stop_price),
        "best_price": plain_or_none(each.best_price),
        "order_id": each.order_id,
        "why_not": each.words,
    }
