"""Wait until the ledger knows what became of orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.numbers import Seconds
from botswarm.errors import Refused, TimedOut

if TYPE_CHECKING:
    from botswarm.domain.order import Order
    from botswarm.ledger.store import Ledger

POLL_S = 0.1
WAIT_DEFAULT_S = 30.0
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def wait_option(words: str) -> Option:
    return click.option(
        "--wait",
        "wait_s",
        is_flag=False,
        flag_value=WAIT_DEFAULT_S,
        type=Seconds(0, 3600),
        metavar="[SECONDS]",
        help=f"{words}; exit 7 if that takes longer (default {WAIT_DEFAULT_S:g} s).",
    )


def patience_option(seconds: float, words: str) -> Option:
    """Of a command that waits in any case."""
    return click.option(
        "--wait",
        "wait_s",
        type=Seconds(0, 3600),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help=words,
    )


def wait_for(
    ledger: Ledger, ids: Sequence[str], is_enough: Callable[[Order], bool], wait_s: float
) -> list[Order]:
    """As they stand once all are as they should be, or the time is over."""
    deadline = time.monotonic() + wait_s
    known: dict[str, Order] = {}
    waiting = list(ids)
    while True:
        known |= {each: ledger.orders.get(each) for each in waiting}
        waiting = [each for each in waiting if not is_enough(known[each])]
        if not waiting or time.monotonic() >= deadline:
            return [known[each] for each in ids]
        time.sleep(POLL_S)


def is_known(order: Order) -> bool:
    """Whether it is where it was to go, or will never be."""
    if order.state.value == "live":
        # Some venues say that they took it, and only later what came of it.
        return order.kind.has_stop or (
            order.kind.has_limit and order.time_in_force.value not in ("ioc", "fok")
        )
    return order.state.value not in ("ready", "approved", "sending", "unknown")


def is_over(order: Order) -> bool:
    return order.state.is_final


def late(
    orders: Sequence[Order], is_enough: Callable[[Order], bool], wait_s: float
) -> TimedOut | None:
    waiting = [each for each in orders if not is_enough(each)]
    if not waiting:
        return None
    first = waiting[0]
    return TimedOut(
        f"{len(waiting)} of {len(orders)} are not that far within {wait_s:g} s, such as"
        f" {first.id}: {first.state}",
        cure="it goes on by itself where an order worker runs; look: "
        f"botswarm order show {first.id}",
    )


def refusal(order: Order) -> Refused | None:
    """What is to be said of an order that will never be at a venue."""
    if order.state.value not in ("refused", "stale", "rejected"):
        return None
    return Refused(
        f"the order is {order.state}: {order.reason}", cure=f"see: botswarm order why {order.id}"
    )
