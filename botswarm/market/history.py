"""Where a market's past is loaded from: several sources, the nearest first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise

from botswarm.domain.market import TIMEFRAMES_S, Candle
from botswarm.errors import BotswarmError
from botswarm.market.book import CLOSING_TIME_MS, LoadHistory

logger = logging.getLogger(__name__)


def first_whole(*sources: LoadHistory, wall_ms: Callable[[], int]) -> LoadHistory:
    """A source that asks the next one only for what those before it do not have whole.

    What several know of a candle is taken from the last one asked: the venue knows best, and
    stands last. Sources that cannot be reached are left out; the last one's error is raised
    where nothing was found at all.
    """

    def load(venue: str, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        found: dict[int, Candle] = {}
        failure: BotswarmError | None = None
        for source in sources:
            try:
                found |= {each.open_ms: each for each in source(venue, symbol, timeframe, limit)}
            except BotswarmError as error:
                logger.debug("a source of history is left out: %s", error)
                failure = error
            candles = [found[open_ms] for open_ms in sorted(found)][-limit:]
            if is_whole(candles, limit, wall_ms()):
                return candles
        if failure is not None and not found:
            raise failure
        return candles if sources else ()

    return load


def is_whole(candles: Sequence[Candle], limit: int, now_ms: int) -> bool:
    """Whether it is ``limit`` candles without a hole, up to the last that can have closed."""
    if len(candles) < limit:
        return False
    length_ms = TIMEFRAMES_S[candles[-1].timeframe] * 1000
    return (
        all(after.open_ms - before.open_ms == length_ms for before, after in pairwise(candles))
        and now_ms < candles[-1].open_ms + 2 * length_ms + CLOSING_TIME_MS
    )
