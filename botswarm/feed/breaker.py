"""When a connection that failed is tried again, and when the whole venue is given a rest."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from botswarm.exchanges.streams import StreamRules
from botswarm.feed.rules import PoolRules

PROBE_PAUSE_MIN_S, PROBE_PAUSE_MAX_S = 2.5, 5.0
"""From one attempt of the probe to the next, between which its venue may have come back."""
PROBE_TIMEOUT_S = 4.0
"""Less than the pause: an attempt that nobody answers may not delay the next one."""
STABLE_S = 30.0
"""A connection that brought something and stayed so long is a success, and so again and again."""


class Retries:
    """Failures in a row, forgotten only after real successes."""

    def __init__(self, rules: PoolRules) -> None:
        self._rules = rules
        self.failures = 0
        self._successes = 0

    def failed(self) -> None:
        self.failures += 1
        self._successes = 0

    def succeeded(self) -> None:
        self._successes += 1
        if self._successes >= self._rules.reset_after:
            self.failures = 0

    def pause_s(self, chance: Callable[[], float] = random.random) -> float:
        """Before the next attempt; none to speak of after a life without failures."""
        rules = self._rules
        spread = 1 + rules.jitter * (2 * chance() - 1)
        if self.failures == 0:
            return rules.base_s * rules.jitter * chance()
        # Beyond this the pause is the longest one anyway, and the power too large to reckon.
        power = min(self.failures - 1, 32)
        grown_s = rules.base_s * float(rules.multiplier) ** power
        return min(grown_s, rules.pause_max_s) * spread


def probe_pause_s(venue: StreamRules) -> float:
    """As often as is of use, and never more often than the venue allows for ever.

    Binance (300 in 5 min) and Coinbase (8 a second) allow more than one each 2.5 s; Kraken's 120
    in 10 min are one each 5 s, to the attempt.
    """
    sustained_s = venue.connects_period_s / venue.connects_max
    return min(max(PROBE_PAUSE_MIN_S, sustained_s), PROBE_PAUSE_MAX_S)


class BreakerState(StrEnum):
    CLOSED = "closed"
    """The venue answers: every connection goes its own way."""
    WAITING = "waiting"
    """The last attempt failed: one connection tries for all."""
    OPEN = "open"
    """So did many before it: said loudly, and one connection goes on trying."""


class Breaker:
    """One venue's. It stops nobody for ever: the probe goes on at its own pace."""

    def __init__(self, rules: PoolRules) -> None:
        self._rules = rules
        self._retries = Retries(rules)
        self._is_down = False
        self.opened = 0
        """How often it has opened."""
        self.reason = ""

    @property
    def failures(self) -> int:
        return self._retries.failures

    @property
    def state(self) -> BreakerState:
        if not self._is_down:
            return BreakerState.CLOSED
        if self.failures >= self._rules.tries_max:
            return BreakerState.OPEN
        return BreakerState.WAITING

    def failed(self, reason: str) -> bool:
        """Whether it opened just now."""
        was_open = self.state is BreakerState.OPEN
        self._retries.failed()
        self._is_down, self.reason = True, reason
        opens = self.state is BreakerState.OPEN and not was_open
        self.opened += opens
        return opens

    def answered(self) -> bool:
        """A connection brought something: the others may follow. Whether it was down before."""
        was_down, self._is_down = self._is_down, False
        return was_down

    def succeeded(self) -> None:
        self._retries.succeeded()
