"""Look at orders: where each one stands, why, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.domain.fill import Fill
    from botswarm.domain.order import Order
    from botswarm.ledger.orders import Story
    from botswarm.ledger.store import Ledger

LIST_MAX = 1000
STATES = (
    *("ready", "refused", "stale", "approved", "sending", "unknown"),
    *("live", "partial", "filled", "canceled", "rejected", "expired"),
)


@click.group(cls=Group)
def order() -> None:
    """List orders, and show one from its decision to its last fill."""


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

    venue, symbol = _market(market)
    found = _ledger(session).orders.list(
        bot=bot,
        venue=venue,
        symbol=symbol,
        states=[OrderState(state) for state in states],
        limit=limit,
    )
    rows = [
        (
            f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            each.id,
            each.bot,
            f"{each.venue}:{each.symbol}",
            each.side.value,
            f"{each.filled_quantity.normalize():f}/{each.quantity.normalize():f}",
            _price(each),
            each.state.value,
            each.reason,
        )
        for each in found
    ]
    heads = ["CREATED", "ID", "BOT", "MARKET", "SIDE", "FILLED", "PRICE", "STATE", "REASON"]
    text = in_columns(heads, rows) if rows else "No orders."
    return Answer(data=[_order(each) for each in found], text=text)


@order.command("show")
@click.argument("order_id", metavar="ID")
@click.pass_obj
def show_order(session: Session, order_id: str) -> Answer:
    """Show one order by its id, or by the client order id the venue knows it by.

    Where it stands and why, every state it went through, every attempt to send it with the
    moment from which the venue itself refuses those bytes, and its fills.
    """
    story = _ledger(session).orders.story(order_id)
    return Answer(data=_story(story), text=_in_words(story))


@order.command("why")
@click.argument("order_id", metavar="ID")
@click.pass_obj
def explain_order(session: Session, order_id: str) -> Answer:
    """Show how an order came to be: tick, evaluation, intent, gate, attempts, fills.

    Each step with the time since the one before. Steps by the venue's clock say so; where its
    clock and ours differ, a step may seem to take less than no time.
    """
    from botswarm.bots import chain

    story = _ledger(session).orders.story(order_id)
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
    head = (
        f"{each.side} {each.quantity.normalize():f} {each.venue}:{each.symbol} at {_price(each)}"
        f" for {each.bot}: {each.state}"
    )
    text = in_columns(["STEP", "AT", "AFTER", ""], rows)
    following = [f"botswarm order show {each.id}", f"botswarm bot why {each.bot}"]
    data = {**_order(each), "steps": chain.data(story), "evaluation": story.evaluation}
    return Answer(data=data, text=f"{head}.\n\n{text}", next=following)


def _market(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    venue, colon, symbol = text.partition(":")
    if not (venue and colon and symbol):
        raise click.UsageError(f"--market is {text!r}; write it as simulated:BTC-USDT")
    return venue, symbol.upper()


def _ledger(session: Session) -> Ledger:
    from botswarm.ledger.store import Ledger

    return Ledger(session.settings().database_url)


def _price(each: Order) -> str:
    limit = "market" if each.limit_price is None else f"{each.limit_price.normalize():f}"
    return limit if each.stop_price is None else f"{limit} from {each.stop_price.normalize():f}"


def _order(each: Order) -> dict[str, object]:
    return {
        "id": each.id,
        "client_order_id": each.client_order_id,
        "venue_order_id": each.venue_order_id,
        "bot": each.bot,
        "venue": each.venue,
        "account": each.account,
        "symbol": each.symbol,
        "side": each.side.value,
        "kind": each.kind.value,
        "time_in_force": each.time_in_force.value,
        "quantity": f"{each.quantity:f}",
        "filled_quantity": f"{each.filled_quantity:f}",
        "limit_price": None if each.limit_price is None else f"{each.limit_price:f}",
        "stop_price": None if each.stop_price is None else f"{each.stop_price:f}",
        "reference_price": f"{each.reference_price:f}",
        "state": each.state.value,
        "reason": each.reason,
        "created_at": each.created_at.isoformat(),
        "signal_expires_at": each.signal_expires_at.isoformat(),
    }


def _story(story: Story) -> dict[str, object]:
    return {
        **_order(story.order),
        "evaluation": story.evaluation,
        "events": [
            {
                "before": None if event.before is None else event.before.value,
                "after": event.after.value,
                "at": event.at.isoformat(),
                "reason": event.reason,
            }
            for event in story.events
        ],
        "attempts": [
            {
                "number": attempt.number,
                "signed_at": attempt.signed_at.isoformat(),
                "fence_at": attempt.fence_at.isoformat(),
            }
            for attempt in story.attempts
        ],
        "fills": [_fill(fill) for fill in story.fills],
    }


def _fill(fill: Fill) -> dict[str, object]:
    return {
        "trade_id": fill.trade_id,
        "price": f"{fill.price:f}",
        "quantity": f"{fill.quantity:f}",
        "commission": f"{fill.commission:f}",
        "commission_asset": fill.commission_asset,
        "at": fill.at.isoformat(),
    }


def _in_words(story: Story) -> str:
    each = story.order
    head = (
        f"{each.side} {each.quantity.normalize():f} {each.venue}:{each.symbol} at {_price(each)}"
        f" for {each.bot}: {each.state}"
    )
    parts = [f"{head}, because {each.reason}" if each.reason else head]
    if story.evaluation:
        rows = [(name, value) for name, value in story.evaluation.items()]
        parts.append(in_columns(["DECIDED ON", "VALUE"], rows))
    events = [(f"{e.at:%H:%M:%S.%f}"[:-3], e.after.value, e.reason) for e in story.events]
    parts.append(in_columns(["WHEN", "STATE", "REASON"], events))
    if story.attempts:
        attempts = [
            (a.number, f"{a.signed_at:%H:%M:%S.%f}"[:-3], f"{a.fence_at:%H:%M:%S.%f}"[:-3])
            for a in story.attempts
        ]
        parts.append(in_columns(["ATTEMPT", "SIGNED", "VENUE REFUSES IT FROM"], attempts))
    if story.fills:
        fills = [
            (
                fill.trade_id,
                f"{fill.quantity.normalize():f}",
                f"{fill.price.normalize():f}",
                f"{fill.commission.normalize():f} {fill.commission_asset}",
            )
            for fill in story.fills
        ]
        parts.append(in_columns(["TRADE", "QUANTITY", "PRICE", "COMMISSION"], fills))
    return "\n\n".join(parts)
