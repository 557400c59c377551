"""A venue's public REST: asked, its JSON read exactly, its errors in our own words."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from botswarm import __version__
from botswarm.errors import Malformed, Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose, TooSoon, Unlimited
from botswarm.exchanges.reading import shown
from botswarm.exchanges.transport import Transport

# Coinbase refuses who does not say its name.
HEADERS = {"User-Agent": f"botswarm/{__version__}", "Accept": "application/json"}
WORDS_MAX = 200
WAIT_MAX_S = 20.0
TIME_KEPT_S = 60.0
SETTLED_MS = 1000
"""Venues still change a candle in the moment after its end."""


Cost = Callable[[int], Mapping[str, int]]
"""What a question of this weight takes from the venue's limits."""
Used = Callable[[Mapping[str, str]], Mapping[str, int]]
"""What an answer's headers say is used up."""


class Pace:
    """At most so many requests a second, a few at once after a rest. Threads share it."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._step_s = 1 / per_s
        self._ahead_s = burst / per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, venue: str, weight: int = 1) -> None:
        """Raises Unreachable where the turn would come too late."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now - self._ahead_s) + self._step_s * weight
            if turn - now > WAIT_MAX_S:
                raise Unreachable(
                    f"more is asked of {venue} than it allows",
                    cure="wait; it is asked again by itself",
                )
            self._next = turn
        if turn > now:
            time.sleep(turn - now)


class PublicRest:
    """Threads share it; it signs nothing and knows no secret."""

    def __init__(
        self,
        venue: str,
        base_url: str,
        *,
        per_s: float,
        burst: int,
        allowance: Allowance | None = None,
        cost: Cost = lambda weight: {},
        used: Used = lambda headers: {},
    ) -> None:
        """``per_s`` is what one process may ask; what all of an address may is in ``allowance``."""
        self.venue = venue
        self._allowance = Unlimited() if allowance is None else allowance
        self._cost, self._used = cost, used
        self._transport = Transport(base_url, self._allowance)
        self._pace = Pace(per_s, burst)
        self._time: tuple[int, float] | None = None

    def settled_ms(self, server_time_ms: Callable[[], int]) -> int:
        """The venue's clock, less what it takes to be done with a candle; asked once a minute."""
        now = time.monotonic()
        if self._time is None or now - self._time[1] > TIME_KEPT_S:
            self._time = server_time_ms(), now
        return self._time[0] + int((now - self._time[1]) * 1000) - SETTLED_MS

    def ask(self, target: str, *, weight: int = 1) -> Any:
        """The answer's JSON, decimal numbers as Decimal. Raises Unreachable.

        ``weight`` is as many requests as the venue counts it for.
        """
        self._pace.wait(self.venue, weight)
        self._spend(self._cost(weight))
        response = self._transport.request("GET", target, HEADERS)
        self._allowance.heard(self._used(response.headers))
        if response.status != 200:
            words = response.body[:WORDS_MAX].decode(errors="replace")
            raise Unreachable(
                f"{self.venue} answered {response.status} to {target.partition('?')[0]}: {words}",
                cure="see the venue's status; it is asked again by itself",
            )
        try:
            return json.loads(response.body, parse_float=Decimal, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise Unreachable(
                f"{self.venue}'s answer to {target.partition('?')[0]} is not JSON: "
                f"{shown(str(error))}",
                cure="see the venue's status; something may stand between it and us",
            ) from error

    def _spend(self, cost: Mapping[str, int]) -> None:
        """Wait for the turn among all processes. Raises TooSoon where it would come too late."""
        until = time.monotonic() + WAIT_MAX_S
        while True:
            try:
                self._allowance.spend(cost, Purpose.MARKET)
            except TooSoon as error:
                wait_s = (error.until - datetime.now(UTC)).total_seconds()
                if time.monotonic() + wait_s > until:
                    raise
                time.sleep(max(0.01, wait_s))
            else:
                return

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Within it, an answer of another shape than documented becomes Unreachable."""
        try:
            yield
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise self._unread(what, error) from error
        except Malformed as error:
            raise self._unread(what, error) from error

    def _unread(self, what: str, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.venue}'s {what} cannot be read: {type(error).__name__}: {shown(str(error))}",
            cure="see whether the venue announced a change of its API",
        )

    def close(self) -> None:
        self._transport.close()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
