"""How well a connection is, from 0 to 1, and what takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LAG_FINE_MS, LAG_BAD_MS = 1000.0, 30_000.0
RECONNECTS_FORGOTTEN_S = 600.0
SILENT_AND_ALIVE = 0.55
"""A silence alone condemns no connection that answers pings: a market may have closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the score is made of; all of it is shown beside it."""

    is_up: bool
    ping_ms: float | None = None
    """The last ping's way there and back."""
    pings_missed: int = 0
    pings_missed_max: int = 3
    silent_s: float = 0.0
    silence_limit_s: float = 0.0
    lag_ms: float = 0.0
    """From the venue's stamp to our receiving, over the least that was seen: clocks differ."""
    malformed_share: float = 0.0
    malformed_share_max: float = 0.05
    reconnects: int = 0
    """Within ten minutes."""
    quiet_share: float = 0.0
    """Of its streams that are silent for longer than they ever are, or talk of the past."""


def factors(found: Inputs) -> dict[str, float]:
    """Each 1 where nothing is wrong; their product is the score."""
    over_s = found.silent_s - found.silence_limit_s
    slow = (found.lag_ms - LAG_FINE_MS) / (LAG_BAD_MS - LAG_FINE_MS)
    return {
        "pings": max(0.0, 1 - found.pings_missed / (found.pings_missed_max or 1)),
        "silence": max(SILENT_AND_ALIVE, 0.7 - 0.3 * over_s / found.silence_limit_s)
        if found.silence_limit_s and over_s > 0
        else 1.0,
        "lag": 1 - 0.8 * min(1.0, max(0.0, slow)),
        "malformed": 0.4 if found.malformed_share > found.malformed_share_max else 1.0,
        "reconnects": max(0.6, 0.95**found.reconnects),
        "streams": 1 - 0.5 * found.quiet_share,
    }


def score(found: Inputs) -> float:
    if not found.is_up:
        return 0.0
    product = 1.0
    for factor in factors(found).values():
        product *= factor
    return round(product, 3)


def overall(scores: Sequence[tuple[float, int]], streams_wanted: int) -> float:
    """Of connections with so many streams each: a stream that nobody carries counts as 0."""
    if not streams_wanted:
        return 1.0
    carried = sum(count for _, count in scores)
    whole = max(carried, streams_wanted)
    return round(sum(score * count for score, count in scores) / whole, 3)
