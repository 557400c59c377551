"""``botswarm order cancel``: orders by id, or all that fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.order_wait import is_over, late, wait_for, wait_option
from botswarm.cli.order_words import account_of, in_a_line, listed, market_of, order_data
from botswarm.cli.ringing import ring_these
from botswarm.cli.session import Answer, Session
from botswarm.domain.amount import plain

if TYPE_CHECKING:
    from botswarm.domain.order import Order
    from botswarm.ledger.cancels import Wished
    from botswarm.ledger.store import Ledger

SHOWN = 20


@click.command("cancel", cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="All orders there are.")
@click.option("--bot", metavar="NAME", help="All of this bot.")
@click.option("--market", metavar="VENUE:SYMBOL", help="All in this market.")
@click.option("--account", metavar="VENUE:ACCOUNT", help="All of this account.")
@click.option("--reason", default="cancelled by hand", show_default=True, help="Kept with it.")
@click.option("--dry-run", "--preview", "is_preview", is_flag=True, help="Only say which.")
@wait_option("Wait until all are at their end")
@click.pass_obj
def cancel(
    session: Session,
    ids: Sequence[str],
    is_all: bool,
    bot: str | None,
    market: str | None,
    account: str | None,
    reason: str,
    is_preview: bool,
    wait_s: float | None,
) -> Answer:
    """Cancel orders, by id or all that fit; more than one is asked about first.

    The wish is committed, and the venue asked again until the order is at its end. What was not
    sent ends at once. A fill that comes first stays. No limit and no halt stands in the way.
    """
    ledger = ledger_of(session)
    if not ids and not (is_all or bot or market or account):
        raise click.UsageError("no order is named: give ids, --bot, --market, --account or --all")
    if is_all and (ids or bot or market or account):
        raise click.UsageError("--all leaves nothing to choose")
    orders = _chosen(ledger, ids, bot, market, account)
    if is_preview:
        return Answer(
            data={"would_cancel": [order_data(each) for each in orders]},
            text=f"This would cancel {_number(orders)}:\n{listed(orders)}",
        )
    if len(orders) > 1 or (orders and not ids):
        confirm(session, f"cancel {_number(orders)}", listed(orders[:SHOWN]))
    wished = ledger.cancels.wish([each.id for each in orders], now(), actor=actor(), reason=reason)
    warnings = ring_these(session, ledger, wished.doorbells)
    known = wait_for(ledger, [each.id for each in orders], is_over, wait_s or 0)
    return Answer(
        data={
            "ended": list(wished.ended),
            "asked": [*wished.asked, *wished.known],
            "over": list(wished.over),
            "orders": [order_data(each) for each in known],
        },
        text=_text(wished, known),
        warnings=warnings,
        next=[f"botswarm order show {each.id}" for each in known[:1]],
        failure=None if wait_s is None else late(known, is_over, wait_s),
    )


def _chosen(
    ledger: Ledger, ids: Sequence[str], bot: str | None, market: str | None, account: str | None
) -> Sequence[Order]:
    if ids:
        return [ledger.orders.get(each) for each in dict.fromkeys(ids)]
    venue, symbol = market_of(market)
    other, name = account_of(account)
    if venue is not None and other is not None and venue != other:
        raise click.UsageError(f"{market} is no market of {other}")
    return ledger.orders.under_way(bot=bot, venue=venue or other, account=name, symbol=symbol)


def confirm(session: Session, what: str, which: str) -> None:
    """Ask on a terminal, showing which; raises NotConfirmed where nobody says yes."""
    if session.yes:
        return
    if session.no_input or session.json or not sys.stdin.isatty():
        raise NotConfirmed(
            f"this would {what}, and nobody confirmed it",
            cure=f"{_look_first()}if that is meant, add --yes",
        )
    click.echo(which, err=True)
    if not click.confirm(f"This would {what}. Go on?", default=False, err=True):
        raise NotConfirmed("nothing was done", cure="answer y, or add --yes")


def _look_first() -> str:
    """Where the command can show what it would do."""
    options = (name for each in click.get_current_context().command.params for name in each.opts)
    return "look first: --dry-run; " if "--dry-run" in options else ""


def _number(orders: Sequence[object]) -> str:
    return "1 order" if len(orders) == 1 else f"{len(orders)} orders"


def _text(wished: Wished, known: Sequence[Order]) -> str:
    if not known:
        return "No orders."
    if len(known) == 1:
        return f"{in_a_line(known[0])}: {_became(wished, known[0])}"
    ended = sum(each.state.is_final for each in known)
    lines = [f"{_number(known)}: {ended} at their end, {len(known) - ended} being ended."]
    if wished.over:
        lines.append(f"{len(wished.over)} had ended before.")
    return "\n".join(lines)


def _became(wished: Wished, order: Order) -> str:
    if order.id in wished.over:
        return f"it had ended before: {order.state}"
    if order.state.is_final:
        return f"{order.state}, {plain(order.filled_quantity)} filled"
    return f"{order.state}; the venue is asked for its end until it says so"
