"""Orders: place and cancel them by hand, see where each one stands, why, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botswarm.cli import order_cancel, order_place, order_resolve
from botswarm.cli.account_choice import kinds
from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Group
from botswarm.cli.order_words import (
    in_a_line,
    in_words,
    listed,
    market_of,
    order_data,
    story_data,
)
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

LIST_MAX = 1000
STATES = (
    *("ready", "refused", "stale", "approved", "sending", "unknown"),
    *("live", "partial", "filled", "canceled", "rejected", "expired"),
)


@click.group(cls=Group)
def order() -> None:
    """Place, cancel and list orders, and show one from its decision to its last fill."""


@order.command("list")
@click.option("--bot", metavar="NAME", help="Only of this bot.")
@click.option("--market", metavar="VENUE:SYMBOL", help="Only in this market.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in these.")
@click.option(
    "--limit",
    type=click.IntRange(1, LIST_MAX),
    default=50,
    show_default=True,
    help="At most so many, the newest first.",
)
@click.pass_obj
def list_orders(
    session: Session, bot: str | None, market: str | None, states: Sequence[str], limit: int
) -> Answer:
    """List the latest orders, newest first."""
    from botswarm.domain.order import OrderState

    venue, symbol = market_of(market)
    found = ledger_of(session).orders.list(
        bot=bot,
        venue=venue,
        symbol=symbol,
        states=[OrderState(state) for state in states],
        limit=limit,
    )
    kind_of = kinds(session.settings())
    data = [
        {**order_data(each), "account_kind": kind_of(each.venue, each.account)} for each in found
    ]
    return Answer(data=data, text=listed(found, kind_of))


@order.command("show")
@click.argument("order_id", metavar="ID")
@click.pass_obj
def show_order(session: Session, order_id: str) -> Answer:
    """Show one order by its id, or by the client order id the venue knows it by.

    Where it stands and why, every state it went through, every attempt to send it with the
    moment from which the venue itself refuses those bytes, and its fills.
    """
    story = ledger_of(session).orders.story(order_id)
    return Answer(data=story_data(story), text=in_words(story))


@order.command("why")
@click.argument("order_id", metavar="ID")
@click.pass_obj
def explain_order(session: Session, order_id: str) -> Answer:
    """Show how an order came to be: tick, evaluation, intent, gate, attempts, fills.

    Each step with the time since the one before. Steps by the venue's clock say so; where its
    clock and ours differ, a step may seem to take less than no time.
    """
    from botswarm.bots import chain

    story = ledger_of(session).orders.story(order_id)
    each = story.order
    rows = [
        (
            step.what,
            f"{step.at:%H:%M:%S.%f}"[:-3],
            None if step.took_ms is None else f"{step.took_ms:+.0f} ms",
            step.words,
        )
        for step in chain.steps(story)
    ]
    head = f"{in_a_line(each)}: {each.state}"
    text = in_columns(["STEP", "AT", "AFTER", ""], rows)
    following = [f"botswarm order show {each.id}", f"botswarm bot why {each.bot}"]
    data = {**order_data(each), "steps": chain.data(story), "evaluation": story.evaluation}
    return Answer(data=data, text=f"{head}.\n\n{text}", next=following)


for command in (order_place.place, order_cancel.cancel, order_resolve.resolve):
    order.add_command(command)
