"""``botswarm order resolve``: find out about an order now, and show the proof step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from botswarm.cli.account_choice import opened
from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.order_wait import patience_option
from botswarm.cli.order_words import in_a_line, order_data
from botswarm.cli.session import Answer, Session
from botswarm.cli.typed import have_typed
from botswarm.errors import BotswarmError, Refused, TimedOut

if TYPE_CHECKING:
    from botswarm.domain.order import Order
    from botswarm.exchanges.base import TradingVenue
    from botswarm.ledger.store import Ledger
    from botswarm.trading.resolve import Step

PATIENCE_S = 60.0
IN_DOUBT = ("sending", "unknown")
DECLARED_AFTER = timedelta(minutes=15)
"""A request that is still on its way by then was held up by somebody, and not by a network."""
TYPED = "not placed"


@click.command("resolve", cls=Command)
@click.argument("order_id", metavar="ID")
@patience_option(
    PATIENCE_S, "Ask again for so long; a proof of absence takes the fence and fifteen seconds."
)
@click.option(
    "--not-placed",
    "is_declared",
    is_flag=True,
    help="You have looked at the venue: it was not placed. Where no proof comes; with --reason.",
)
@click.option("--reason", metavar="WHY", help="How you know; kept in the audit log.")
@click.pass_obj
def resolve(
    session: Session, order_id: str, wait_s: float, is_declared: bool, reason: str | None
) -> Answer:
    """Ask the venue what became of an order, and write down what it says.

    By the same questions and the same proof as the order worker's own, each shown as it is asked.
    Nothing is ever sent from here. Exit 7 while it is still in doubt.

    A venue that refuses nothing for being late (any through ccxt) leaves an order in doubt that
    it does not name. Fifteen minutes after it was signed --not-placed ends it as rejected, by
    your word, unless the venue then names it. It is never sent again.
    """
    if is_declared and not (reason or "").strip():
        raise click.UsageError("--not-placed needs a --reason; it is kept in the audit log")
    if reason and not is_declared:
        raise click.UsageError("--reason goes with --not-placed")
    ledger = ledger_of(session)
    steps: list[Step] = []
    before = ledger.orders.get(order_id)

    def tell(step: Step) -> None:
        steps.append(step)
        if not session.json:
            click.echo(f"{step.at:%H:%M:%S.%f}"[:-3] + f"  {step.question}: {step.answer}")

    failure: BotswarmError | None = None
    if reason and is_declared:
        failure = _declare(session, ledger, before, reason, tell)
    elif ledger.books.unsettled_one(before.id) is not None:
        _find_out(session, ledger, before, tell, wait_s)
    after = ledger.orders.get(before.id)
    data = {
        "before": before.state.value,
        "steps": [
            {"at": each.at.isoformat(), "question": each.question, "answer": each.answer}
            for each in steps
        ],
        "order": order_data(after),
    }
    because = f", because {after.reason}" if after.reason else ""
    text = f"{in_a_line(after)} was {before.state} and is {after.state}{because}."
    if failure is None and after.state.value in IN_DOUBT:
        failure = TimedOut(f"the order is still {after.state}", cure=_what_next(ledger, after))
    return Answer(data=data, text=text, failure=failure)


def _what_next(ledger: Ledger, order: Order) -> str:
    last = ledger.orders.story(order.id).attempts[-1]
    if last.is_fenced:
        return "the order worker goes on asking; or ask again, with a longer --wait"
    return (
        "no proof comes from this venue: look at it yourself, and where nothing is there, from "
        f"{last.signed_at + DECLARED_AFTER:%H:%M:%S} on: botswarm order resolve {order.id} "
        "--not-placed --reason WHY"
    )


def _find_out(
    session: Session, ledger: Ledger, order: Order, tell: Callable[[Step], None], wait_s: float
) -> None:
    from botswarm.clock import SystemClock
    from botswarm.trading.resolve import resolve as find_out

    with _venue_of(session, ledger, order) as venue:
        find_out(
            *(order.id, ledger.books, venue, SystemClock(), tell), wait_s=wait_s, pause=time.sleep
        )


def _declare(
    session: Session, ledger: Ledger, order: Order, reason: str, tell: Callable[[Step], None]
) -> BotswarmError | None:
    """End it by a person's word; answers why it was not."""
    from botswarm.clock import SystemClock
    from botswarm.trading.resolve import is_nowhere

    fence = _fence_without_proof(ledger, order)
    have_typed(session, TYPED, f"end {in_a_line(order)} as not placed, by your word alone")
    with _venue_of(session, ledger, order) as venue:
        is_gone = is_nowhere(order.id, ledger.books, venue, SystemClock(), tell)
    if is_gone:
        ended = ledger.books.declare_not_placed(
            order.id, fence, now(), actor=actor(), reason=reason
        )
        if ended is not None:
            return None
    return Refused(
        "the order is not what it was a moment ago, or the venue names it: nothing was declared",
        cure=f"see: botswarm order show {order.id}",
    )


def _fence_without_proof(ledger: Ledger, order: Order) -> datetime:
    """Of its last attempt; raises Refused where nobody's word is needed, or not yet."""
    looking = f"botswarm order resolve {order.id}"
    if order.state.value not in IN_DOUBT:
        raise Refused(f"the order is {order.state}: it is not in doubt", cure="nothing is to do")
    last = ledger.orders.story(order.id).attempts[-1]
    if last.is_fenced:
        raise Refused(
            f"{order.venue} refuses what it was sent from {last.fence_at:%H:%M:%S} on, so its "
            "answers prove what became of the order, and nobody's word is taken for it",
            cure=f"run: {looking}",
        )
    if (opens := last.signed_at + DECLARED_AFTER) > now():
        raise Refused(
            f"it was signed at {last.signed_at:%H:%M:%S} and may still be on its way",
            cure=f"ask ({looking}), look at the venue yourself, and say so after {opens:%H:%M:%S}",
        )
    return last.fence_at


@contextmanager
def _venue_of(session: Session, ledger: Ledger, order: Order) -> Iterator[TradingVenue]:
    from botswarm.clock import SystemClock
    from botswarm.exchanges import accounts
    from botswarm.exchanges.accounts import Account

    settings, where = session.settings(), Account(order.venue, order.account)
    keys = opened(settings, ledger, where)
    venue = accounts.trading_venue(settings, SystemClock(), where, keys, ledger.armings.was_armed)
    try:
        yield venue
    finally:
        venue.close()
