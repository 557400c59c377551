"""Missed trades from venues that know them by time and not by id: by stepping back in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from botswarm.domain.market import Trade

STEPS_MAX = 4
"""Requests for one gap; what lies further back is not asked for."""
MARGIN = 1.5
"""Trades do not come evenly: go back so much further than their mean distance says."""
STEP_MIN_MS = 1000

Page = Callable[[int | None], Sequence[Trade]]


def between(first_id: int, last_id: int, page: Page, most: int) -> list[Trade]:
    """Those of these ids, by rising id, at most ``most`` of them.

    ``page`` tells trades from a moment on, in milliseconds, or the latest ones where it is None.
    """
    found: dict[int, Trade] = {}
    since_ms: int | None = None
    for _ in range(STEPS_MAX):
        told = sorted(page(since_ms), key=lambda trade: trade.trade_id)
        found.update((trade.trade_id, trade) for trade in told)
        if not told or told[0].trade_id <= first_id:
            break
        before, since_ms = since_ms, _further_back(told, first_id)
        if before is not None and since_ms >= before:
            break
    wanted = sorted(number for number in found if first_id <= number <= last_id)
    return [found[number] for number in wanted[:most]]


def _further_back(told: Sequence[Trade], first_id: int) -> int:
    oldest, newest = told[0], told[-1]
    passed_ms = max(newest.exchange_ms - oldest.exchange_ms, STEP_MIN_MS)
    mean_ms = passed_ms / max(newest.trade_id - oldest.trade_id, 1)
    step_ms = mean_ms * (oldest.trade_id - first_id) * MARGIN
    return max(0, oldest.exchange_ms - max(STEP_MIN_MS, int(step_ms)))
