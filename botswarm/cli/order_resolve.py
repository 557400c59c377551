"""``botswarm order resolve``: find out about an order now, and show the proof step by step."""

from __future__ import annotations

import time

import click

from botswarm.cli.account_choice import opened
from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Command
from botswarm.cli.order_words import in_a_line, order_data
from botswarm.cli.session import Answer, Session
from botswarm.errors import TimedOut

PATIENCE_S = 60.0
IN_DOUBT = ("sending", "unknown")


@click.command("resolve", cls=Command)
@click.argument("order_id", metavar="ID")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="Ask again for so long; a proof of absence takes the fence and ten seconds.",
)
@click.pass_obj
def resolve(session: Session, order_id: str, wait_s: float) -> Answer:
    """Ask the venue what became of an order, and write down what it says.

    By the same questions and the same proof as the order worker's own, each shown as it is asked.
    Nothing is ever sent from here. Exit 7 while it is still in doubt.
    """
    from botswarm.clock import SystemClock
    from botswarm.exchanges import accounts
    from botswarm.exchanges.accounts import Account
    from botswarm.trading.resolve import Step
    from botswarm.trading.resolve import resolve as find_out

    ledger, clock = ledger_of(session), SystemClock()
    before = ledger.orders.get(order_id)
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if not session.json:
            click.echo(f"{step.at:%H:%M:%S.%f}"[:-3] + f"  {step.question}: {step.answer}")

    where = Account(before.venue, before.account)
    if ledger.books.unsettled_one(before.id) is not None:
        settings = session.settings()
        keys = opened(settings, ledger, where)
        venue = accounts.trading_venue(settings, clock, where, keys, ledger.armings.was_armed)
        try:
            find_out(before.id, ledger.books, venue, clock, tell, wait_s=wait_s, pause=time.sleep)
        finally:
            venue.close()
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
    failure = None
    if after.state.value in IN_DOUBT:
        failure = TimedOut(
            f"the order is still {after.state}",
            cure="the order worker goes on asking; or ask again, with a longer --wait",
        )
    return Answer(data=data, text=text, failure=failure)
