"""Two markets that move together: in the cheaper one while they are unusually far apart."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import numpy

from botswarm.strategies.api import (
    ALL,
    NOTHING,
    Candles,
    Decision,
    Needs,
    Strategy,
    View,
    above,
    below,
    parameter,
)
from botswarm.strategies.indicators import Floats

SYMBOL = r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}"


class Pairs(Strategy, name="pairs"):
    """Holds whichever of two markets is cheap against the other, until they are close again.

    Measured is how many standard deviations the ratio of their prices is from its average (the
    z-score). A spot market cannot be sold short, so the dear one is only left, never bet against:
    half of what the textbooks call pairs trading.
    """

    other: str = parameter(default="ETH-USDT", words="the other market, of the same venue")
    length: int = parameter(
        default=60, at_least=5, at_most=1000, words="candles that say what is usual"
    )
    enter_at: Decimal = parameter(
        default=Decimal(2),
        at_least=Decimal("0.1"),
        at_most=Decimal(10),
        words="z-score at which it buys the cheap one",
    )
    leave_at: Decimal = parameter(
        default=Decimal("0.5"),
        at_least=Decimal(0),
        at_most=Decimal(9),
        words="z-score at which it leaves",
    )

    def objection(self) -> str | None:
        if not re.fullmatch(SYMBOL, self.other):
            return f"other {self.other!r} is no market: write it like ETH-USDT"
        if self.leave_at < self.enter_at:
            return None
        return f"leave_at {self.leave_at} is not under enter_at {self.enter_at}"

    @property
    def history(self) -> int:
        # One more: the candle of one market may close a moment before that of the other.
        return self.length + 1

    def needs(self) -> Needs:
        return Needs(others=(self.other,))

    def decide(self, view: View) -> Decision:
        if self.other == view.symbol:
            return Decision(
                verdict="stays: its other market is its own",
                nearest=f"set other to another market than {view.symbol}",
            )
        other = view.others[self.other]
        ratios = _ratios(view.candles, other.candles)[-self.length :]
        if len(ratios) < self.length:
            return Decision(
                verdict="stays: too few candles are of the same moments",
                rules=[above("candles in common", len(ratios), self.length - 1)],
            )
        mean, deviation = float(ratios.mean()), float(ratios.std())
        if deviation < 1e-12:
            return Decision(
                verdict="stays: the two markets do not move against each other",
                rules=[above("deviation", deviation, 1e-12)],
            )
        now = math.log(float(view.price)) - math.log(float(other.price))
        score = (now - mean) / deviation
        shown = {"z": score, "mean": mean, "deviation": deviation}
        enter, leave = float(self.enter_at), float(self.leave_at)
        closes = below("distance |z|", abs(score), leave)
        if score < -enter:
            return Decision(
                verdict="in: the own market is the cheap one",
                indicators=shown,
                targets={self.other: NOTHING, view.symbol: ALL},
                rules=[closes],
            )
        if score > enter:
            return Decision(
                verdict="in: the other market is the cheap one",
                indicators=shown,
                targets={view.symbol: NOTHING, self.other: ALL},
                rules=[closes],
            )
        opens = above("distance |z|", abs(score), enter)
        if abs(score) < leave:
            return Decision(
                verdict="out: the two are close to each other",
                indicators=shown,
                targets={view.symbol: NOTHING, self.other: NOTHING},
                rules=[opens],
            )
        return Decision(
            verdict="stays: neither far apart nor close",
            indicators=shown,
            rules=[closes if view.holds else opens],
        )


def _ratios(own: Candles, other: Candles) -> Floats:
    """Logarithms of the price ratio at the moments of which both have a candle."""
    _, here, there = numpy.intersect1d(own.open_ms, other.open_ms, return_indices=True)
    ratios: Floats = numpy.log(own.close[here]) - numpy.log(other.close[there])
    return ratios
