"""The table of limits: see what holds, say what shall hold, and who said what before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Group
from botswarm.cli.order_cancel import confirm
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.limits import (
    RULES,
    Level,
    Limit,
    LimitKind,
    in_force,
    level_of,
    warning_line,
)

if TYPE_CHECKING:
    from botswarm.ledger.limits import Change, Said

SCOPES = "swarm, account:VENUE:ACCOUNT, strategy:NAME, market:VENUE:SYMBOL or bot:NAME"


class Amount(click.ParamType[Decimal]):
    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is no amount of 0 or more, such as 500 or 0.25", param, ctx)
        return amount


def scope_option(words: str, default: str | None = None) -> Callable[..., Any]:
    return click.option(
        "--for", "scope", metavar="SCOPE", default=default, callback=_scope, help=words
    )


def _scope(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """As the ledger writes it: markets in capitals. Raises Refused for what names no scope."""
    if text is None or level_of(text) is not Level.MARKET:
        return text
    head, _colon, symbol = text.rpartition(":")
    return f"{head}:{symbol.upper()}"


def _kind(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("kind", type=click.Choice([each.value for each in LimitKind]))(function)


@click.group(cls=Group, invoke_without_command=True)
@scope_option("What holds for this scope: the settings, and all that was set around it.")
@click.option("--kinds", "is_kinds", is_flag=True, help="Explain every kind of limit there is.")
@click.pass_context
def limits(context: click.Context, scope: str | None, is_kinds: bool) -> Answer | None:
    """List the limits, or change them while the swarm runs.

    A scope is swarm, account:VENUE:ACCOUNT, strategy:NAME, market:VENUE:SYMBOL or bot:NAME.
    """
    session = context.find_object(Session)
    assert session is not None
    if context.invoked_subcommand is not None:
        return None
    if is_kinds:
        answer = _explained()
    elif scope is None:
        answer = _listed(session)
    else:
        answer = _effective(session, scope)
    context.exit(session.answer(answer))


@limits.command("set")
@_kind
@click.argument("breach", type=Amount())
@scope_option("Within which it holds.", "swarm")
@click.option("--warn", type=Amount(), help="The warning line.  [default: 80 % of it]")
@click.option("--reason", default="set from the command line", help="Kept in the audit log.")
@click.pass_obj
def set_limit(
    session: Session, kind: str, breach: Decimal, scope: str, warn: Decimal | None, reason: str
) -> Answer:
    """Set a limit in place of what was said before; it holds from the next order on.

    Money is in the market's quote asset. To allow more than was allowed is asked about.
    """
    from botswarm.ledger.scopes import doubts

    ledger = ledger_of(session)
    line = warning_line(breach) if warn is None else warn
    limit = Limit(scope=scope, kind=LimitKind(kind), breach=breach, warn=line)
    before = _now(session, limit)
    if before is not None and breach > before.breach:
        words = f"raise {kind} of {limit.scope} from {plain(before.breach)} to {plain(breach)}"
        confirm(session, words, before.source)
    warnings = doubts(ledger.database, scope)
    said = ledger.limits.set(limit, actor=actor(), reason=reason, now=now())
    return Answer(
        data=_data(said.limit, said),
        text=f"{limit.scope}: {kind} {plain(breach)}",
        warnings=warnings,
    )


@limits.command("unset")
@click.argument("kind")  # also one of another version, which holds what it is about until it goes
@scope_option("Within which it was set.", "swarm")
@click.option("--reason", default="unset from the command line", help="Kept in the audit log.")
@click.pass_obj
def unset_limit(session: Session, kind: str, scope: str, reason: str) -> Answer:
    """Take a limit away: what holds without it holds again."""
    confirm(session, f"take the limit {kind} of {scope} away", "what holds without it: risk limits")
    ledger_of(session).limits.unset(scope, kind, actor=actor(), reason=reason, now=now())
    return Answer(data={"scope": scope, "kind": kind}, text=f"{scope}: {kind} is not set any more")


@limits.command("history")
@scope_option("Only of this scope.")
@click.option("--kind", type=click.Choice([each.value for each in LimitKind]), help="Only this.")
@click.option("--limit", "most", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.pass_obj
def show_history(session: Session, scope: str | None, kind: str | None, most: int) -> Answer:
    """Who changed which limit, when and why; the latest first."""
    changes = ledger_of(session).limits.history(
        scope,
        None if kind is None else LimitKind(kind),
        limit=most,
    )
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            each.scope,
            each.kind,
            plain_or_none(each.before),
            plain_or_none(each.after),
            each.actor,
            each.reason,
        )
        for each in changes
    ]
    heads = ["AT", "SCOPE", "KIND", "BEFORE", "AFTER", "BY", "REASON"]
    text = in_columns(heads, rows) if rows else "Nobody has changed a limit."
    return Answer(data=[_changed(each) for each in changes], text=text)


# --- what holds ----------------------------------------------------------------------------------


def _listed(session: Session) -> Answer:
    defaults, said = _defaults(session), ledger_of(session).limits.all()
    lines: list[tuple[str, Limit, Said | None]] = [
        (f"each {_each(each)}", each, None) for each in defaults
    ]
    lines += [(each.limit.scope, each.limit, each) for each in said]
    data = [_data(limit, known) | {"scope": scope} for scope, limit, known in lines]
    return Answer(data=data, text=_table(lines))


def _effective(session: Session, scope: str) -> Answer:
    ledger = ledger_of(session)
    chain = ledger.limits.chain(scope)
    said = {(each.limit.scope, each.limit.kind): each for each in ledger.limits.all()}
    found = in_force(chain, [each.limit for each in said.values()], _defaults(session))
    lines = [
        (limit.scope, limit, None if limit.setting else said.get((limit.scope, limit.kind)))
        for limit in found
    ]
    return Answer(data=[_data(limit, known) for _, limit, known in lines], text=_table(lines))


def _explained() -> Answer:
    rows, data = [], []
    for kind, rule in RULES.items():
        of = "all of a scope together" if rule.is_total else f"each {rule.subject}"
        then = "only what shrinks a position passes" if rule.halts else "the order is refused"
        rows.append((kind.value, rule.unit, of, rule.setting, then, rule.words))
        data.append(
            {
                "kind": kind.value,
                "words": rule.words,
                "unit": rule.unit,
                "is_total": rule.is_total,
                "setting": rule.setting,
                "halts": rule.halts,
            }
        )
    heads = ["KIND", "UNIT", "OF", "SETTING", "BEYOND IT", "WHAT IT IS"]
    return Answer(data=data, text=in_columns(heads, rows))


def _now(session: Session, limit: Limit) -> Limit | None:
    """What the same scope is held to without the change: to allow more is asked about."""
    level = level_of(limit.scope)
    said = [each.limit for each in ledger_of(session).limits.all()]
    found = in_force({level: limit.scope}, said, _defaults(session))
    return next((each for each in found if each.kind is limit.kind), None)


def _defaults(session: Session) -> Sequence[Limit]:
    from botswarm.trading.limits import limits_of

    return limits_of(session.settings()).defaults


def _each(limit: Limit) -> str:
    if limit.rule.is_total:
        return limit.rule.level.value
    return "bot" if limit.kind is LimitKind.POSITION else "order"


def _table(lines: Sequence[tuple[str, Limit, Said | None]]) -> str:
    rows = [
        (
            scope,
            limit.kind.value,
            plain_or_none(limit.warn),
            plain(limit.breach),
            limit.rule.unit,
            limit.setting if said is None else f"{said.actor}, {said.at:%Y-%m-%d %H:%M:%S}",
            "" if said is None else said.reason,
        )
        for scope, limit, said in lines
    ]
    return in_columns(["SCOPE", "KIND", "WARNS AT", "LIMIT", "UNIT", "SAID BY", "REASON"], rows)


def _data(limit: Limit, said: Said | None) -> dict[str, Any]:
    return {
        "scope": limit.scope,
        "kind": limit.kind.value,
        "warn": plain_or_none(limit.warn),
        "breach": plain(limit.breach),
        "unit": limit.rule.unit,
        "setting": limit.setting,
        "actor": None if said is None else said.actor,
        "at": None if said is None else said.at.isoformat(),
        "reason": None if said is None else said.reason,
    }


def _changed(each: Change) -> dict[str, Any]:
    return {
        "at": each.at.isoformat(),
        "actor": each.actor,
        "scope": each.scope,
        "kind": each.kind,
        "before": plain_or_none(each.before),
        "after": plain_or_none(each.after),
        "warn": plain_or_none(each.warn),
        "reason": each.reason,
    }
