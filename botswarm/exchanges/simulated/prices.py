"""A seeded price line: what a market is worth at any moment, past or future, by pure arithmetic.

Because it is a function of the seed and the time, candles from before the start need not be
stored, a restart goes on where the market would have been, and a test names any moment it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final, Literal
from zlib import crc32

Scenario = Literal["calm", "trend", "flash-crash", "feed-outage"]
SCENARIOS: Final[tuple[Scenario, ...]] = ("calm", "trend", "flash-crash", "feed-outage")

# Waves of random height, from seconds to a day: periods with the share of the price they move
# it by. They grow about as the square root of the period, as a random walk does; the short ones
# are higher than that, so that strategies over seconds have something to do.
WAVES: Final = (
    (5_000, 0.0006),
    (12_000, 0.0010),
    (31_000, 0.0014),
    (90_000, 0.0020),
    (420_000, 0.0035),
    (2_700_000, 0.008),
    (14_400_000, 0.018),
    (86_400_000, 0.04),
)
TREND_MS: Final = 1_200_000
TREND_SHARE: Final = 0.06
CRASH_FIRST_MS: Final = 20_000
CRASH_EVERY_MS: Final = 300_000
CRASH_LASTS_MS: Final = 20_000
CRASH_SHARE: Final = 0.12
OUTAGE_FIRST_MS: Final = 20_000
OUTAGE_EVERY_MS: Final = 120_000
OUTAGE_LASTS_MS: Final = 15_000

_MASK: Final = (1 << 64) - 1


def dice(seed: int, *place: int) -> float:
    """A number in [0, 1) that depends on nothing but where it is rolled."""
    state = seed & _MASK
    for word in place:
        state = (state ^ (word & _MASK)) * 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return (state >> 11) / (1 << 53)


@lru_cache(maxsize=65_536)
def _corner(seed: int, wave: int, index: int) -> float:
    return dice(seed, wave, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    symbol: str
    seed: int
    around: Decimal
    tick_size: Decimal
    scenario: Scenario
    epoch_ms: int
    """When the scenario began; what it does happens some time after."""

    @property
    def key(self) -> int:
        return self.seed * 1_000_003 + crc32(self.symbol.encode())

    def at(self, ms: int) -> Decimal:
        key, share = self.key, 0.0
        for number, (period, height) in enumerate(WAVES):
            index, rest = divmod(ms, period)
            here, there = _corner(key, number, index), _corner(key, number, index + 1)
            part = rest / period
            part = part * part * (3.0 - 2.0 * part)
            share += height * (2.0 * (here + (there - here) * part) - 1.0)
        exact = float(self.around) * (1.0 + share + self._scenario(ms))
        return Decimal(exact).quantize(self.tick_size, ROUND_HALF_EVEN)

    def _scenario(self, ms: int) -> float:
        since = ms - self.epoch_ms
        if since < 0:
            return 0.0
        if self.scenario == "trend":
            there_and_back = since % (2 * TREND_MS)
            return TREND_SHARE * min(there_and_back, 2 * TREND_MS - there_and_back) / TREND_MS
        if self.scenario == "flash-crash":
            into = (since - CRASH_FIRST_MS) % CRASH_EVERY_MS
            if since >= CRASH_FIRST_MS and into < CRASH_LASTS_MS:
                # Down in a tenth of the time, back in the rest.
                part = into / CRASH_LASTS_MS
                return -CRASH_SHARE * (part * 10 if part < 0.1 else (1 - part) / 0.9)
        return 0.0

    def feed_is_out(self, ms: int) -> bool:
        """Whether the market trades on, and nobody is told."""
        since = ms - self.epoch_ms - OUTAGE_FIRST_MS
        return (
            self.scenario == "feed-outage"
            and since >= 0
            and since % OUTAGE_EVERY_MS < OUTAGE_LASTS_MS
        )
