"""Orders as the command line shows them: as data, in a line, and their whole story."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from botswarm.domain.fill import Fill
    from botswarm.domain.order import Order
    from botswarm.ledger.orders import Story

HEADS = ("CREATED", "ID", "BOT", "MARKET", "SIDE", "FILLED", "PRICE", "STATE", "REASON")


def market_of(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    venue, symbol = pair_of(text, "--market", "simulated:BTC-USDT")
    return venue, symbol.upper()


def account_of(text: str | None) -> tuple[str | None, str | None]:
    return (None, None) if text is None else pair_of(text, "--account", "simulated:paper")


def pair_of(text: str, what: str, example: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not (first and colon and second):
        raise click.UsageError(f"{what} is {text!r}; write it as {example}")
    return first, second


def price(each: Order) -> str:
    limit = "market" if each.limit_price is None else plain(each.limit_price)
    return limit if each.stop_price is None else f"{limit} from {plain(each.stop_price)}"


def in_a_line(each: Order) -> str:
    return (
        f"{each.side} {plain(each.quantity)} {each.venue}:{each.symbol} at {price(each)}"
        f" for {each.bot}"
    )


def listed(orders: Sequence[Order], kind_of: Callable[[str, str], str] | None = None) -> str:
    """``kind_of`` tells whose money it is, by venue and account."""
    rows = [
        (
            f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            each.id,
            each.bot,
            *([kind_of(each.venue, each.account)] if kind_of else []),
            f"{each.venue}:{each.symbol}",
            each.side.value,
            f"{plain(each.filled_quantity)}/{plain(each.quantity)}",
            price(each),
            state(each),
            each.reason,
        )
        for each in orders
    ]
    heads = (*HEADS[:3], "KIND", *HEADS[3:]) if kind_of else HEADS
    return in_columns(heads, rows) if rows else "No orders."


def state(each: Order) -> str:
    is_asked = each.is_ending and not each.state.is_final
    return f"{each.state.value}, ending" if is_asked else each.state.value


def order_data(each: Order) -> dict[str, object]:
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
        "replaces": each.replaces,
        "is_reduce_only": each.is_reduce_only,
        "is_ending": each.is_ending,
        "created_at": each.created_at.isoformat(),
        "signal_expires_at": each.signal_expires_at.isoformat(),
    }


def story_data(story: Story) -> dict[str, object]:
    cancel = story.cancel
    return {
        **order_data(story.order),
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
        "cancel": None
        if cancel is None
        else {
            "at": cancel.at.isoformat(),
            "actor": cancel.actor,
            "reason": cancel.reason,
            "done_at": None if cancel.done_at is None else cancel.done_at.isoformat(),
        },
        "replaced_by": list(story.replaced_by),
        "fills": [fill_data(fill) for fill in story.fills],
    }


def fill_data(fill: Fill) -> dict[str, object]:
    return {
        "trade_id": fill.trade_id,
        "price": f"{fill.price:f}",
        "quantity": f"{fill.quantity:f}",
        "commission": f"{fill.commission:f}",
        "commission_asset": fill.commission_asset,
        "at": fill.at.isoformat(),
    }


def in_words(story: Story) -> str:
    each = story.order
    head = f"{in_a_line(each)}: {state(each)}"
    parts = [f"{head}, because {each.reason}" if each.reason else head]
    parts += _relations(story)
    if story.evaluation:
        rows = [(name, value) for name, value in story.evaluation.items()]
        parts.append(in_columns(["DECIDED ON", "VALUE"], rows))
    events = [(f"{e.at:%H:%M:%S.%f}"[:-3], e.after.value, e.reason) for e in story.events]
    parts.append(in_columns(["WHEN", "STATE", "REASON"], events))
    if story.attempts:
        attempts = [
            (
                a.number,
                f"{a.signed_at:%H:%M:%S.%f}"[:-3],
                f"{a.fence_at:%H:%M:%S.%f}"[:-3] if a.is_fenced else "never",
            )
            for a in story.attempts
        ]
        parts.append(in_columns(["ATTEMPT", "SIGNED", "VENUE REFUSES IT FROM"], attempts))
    if story.fills:
        fills = [
            (
                fill.trade_id,
                plain(fill.quantity),
                plain(fill.price),
                f"{plain(fill.commission)} {fill.commission_asset}",
            )
            for fill in story.fills
        ]
        parts.append(in_columns(["TRADE", "QUANTITY", "PRICE", "COMMISSION"], fills))
    return "\n\n".join(parts)


def _relations(story: Story) -> list[str]:
    said = []
    if story.order.replaces is not None:
        said.append(f"It replaces {story.order.replaces}.")
    said += [f"It was to be replaced by {each}." for each in story.replaced_by]
    if (cancel := story.cancel) is not None:
        done = "" if cancel.done_at is None else f"; at its end {cancel.done_at:%H:%M:%S.%f}"[:-3]
        said.append(
            f"{cancel.actor} wanted it ended {cancel.at:%H:%M:%S.%f}"[:-3]
            + f": {cancel.reason}{done}."
        )
    if story.order.is_reduce_only:
        said.append("It may only reduce a position.")
    return ["\n".join(said)] if said else []
