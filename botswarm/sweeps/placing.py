"""Orders of sweeps on their way: never more at once than order workers judge in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from botswarm.domain.order import Order
from botswarm.sweeps.orders import LIFE
from botswarm.sweeps.sweep import Tools

WAITING_MAX = 50
"""Of orders that nobody has judged yet. With hundreds in the queue of a slow worker each would be
too old when its turn comes, and nothing would ever be sent.
"""
PATIENCE_S = 3.0
"""For so long one sweep goes on placing as others are judged; the next one goes on from there."""
PAUSE_S = 0.1


def place(orders: Sequence[Order], tools: Tools) -> int:
    """In this order, as far as it comes; answers how many were placed."""
    left, placed = list(orders), 0
    deadline = tools.clock.monotonic() + PATIENCE_S
    while left:
        room = WAITING_MAX - tools.ledger.orders.protective_waiting()
        some, left = left[: max(0, room)], left[max(0, room) :]
        for order in some:
            now = tools.clock.now()
            fresh = replace(order, created_at=now, signal_expires_at=now + LIFE)
            placed += tools.ledger.orders.add(fresh, now)
        if some:
            tools.ring(tools.clock.now())
        if not left or tools.clock.monotonic() >= deadline:
            break
        tools.pause(PAUSE_S)
    return placed
