"""The way of each order from its tick to its last fill, told to an OpenTelemetry collector.

Nothing is measured for it while orders are under way: the ledger has each step with its moment, so
a trace is read out of it when the order has ended, whichever processes had a part in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from botswarm import otlp
from botswarm.bots import chain
from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import OrderState
from botswarm.errors import BotswarmError, NotFound
from botswarm.ledger import findings
from botswarm.ledger.models import OrderEventRow
from botswarm.ledger.orders import Story
from botswarm.ledger.store import Ledger
from botswarm.messages import TellTraces
from botswarm.otlp import Span, Trace
from botswarm.queueing import current_settings, task

logger = logging.getLogger(__name__)

CURSOR = "traces"
AT_ONCE = 200
SETTLED = timedelta(seconds=5)
"""So long after its end all of an order is booked, and the rows before it are committed."""
ENDED = tuple(state.value for state in OrderState if state.is_final)
BAD = {OrderState.REJECTED, OrderState.REFUSED}


@task(TellTraces)
def tell_traces() -> int | None:
    """Harmless however often it runs: a trace that is told again is the same one."""
    settings = current_settings()
    if settings.otlp_url is None:
        return None
    ledger = _ledger(settings.database_url, os.getpid())
    try:
        after, order_ids = ended(ledger)
        traces = [trace for each in order_ids if (trace := _trace(ledger, each)) is not None]
        if traces:
            otlp.send(traces, settings.otlp_url, settings.otlp_headers, settings.instance_id)
        go_on(ledger, after)
    except BotswarmError as error:
        logger.warning("traces wait: %s; %s", error, error.cure)
        return 0
    return len(traces)


def ended(ledger: Ledger) -> tuple[int, Sequence[str]]:
    """Up to which event was read, and the orders that have ended since the last time."""
    now = SystemClock().now()

    def work(session: Session) -> tuple[int, Sequence[str]]:
        row = findings.hold(session, CURSOR, now)
        if row.position == 0:
            # Whoever turns this on wants what comes, and not a year's orders at once.
            row.position = session.scalars(select(func.max(OrderEventRow.id))).one() or 1
        question = (
            select(OrderEventRow.id, OrderEventRow.order_id)
            .where(OrderEventRow.id > row.position, OrderEventRow.after.in_(ENDED))
            .where(OrderEventRow.at < now - SETTLED)
            .order_by(OrderEventRow.id)
            .limit(AT_ONCE)
        )
        found = session.execute(question).all()
        last = found[-1].id if found else row.position
        return last, list(dict.fromkeys(each.order_id for each in found))

    return ledger.database.write(work)


def go_on(ledger: Ledger, position: int) -> None:
    now = SystemClock().now()

    def work(session: Session) -> None:
        row = findings.hold(session, CURSOR, now)
        row.position, row.at = max(row.position, position), now

    ledger.database.write(work)


def _trace(ledger: Ledger, order_id: str) -> Trace | None:
    try:
        return trace_of(ledger.orders.story(order_id))
    except NotFound:
        return None


def trace_of(story: Story) -> Trace:
    """A part for each step, from the one before it; the venue's trade ends what it fills."""
    order, steps = story.order, chain.steps(story)
    parts = [
        Span(after.what, before.at, after.at, {"words": after.words})
        for before, after in pairwise(steps)
    ]
    about = {
        "order.id": order.id,
        "bot": order.bot,
        "venue": order.venue,
        "account": order.account,
        "symbol": order.symbol,
        "side": order.side.value,
        "state": order.state.value,
    }
    began = min((step.at for step in steps), default=order.created_at)
    ended = max((step.at for step in steps), default=order.created_at)
    whole = Span(f"order {order.side.value} {order.symbol}", began, ended, about)
    return Trace(order.client_order_id, whole, parts, is_error=order.state in BAD)


@lru_cache(maxsize=1)
def _ledger(url: Secret, pid: int) -> Ledger:
    """Of one process: connections do not survive a fork."""
    return Ledger(url)
