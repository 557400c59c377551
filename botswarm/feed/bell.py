"""Rings for the bots of a market that moved: the latest word only, and not too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from botswarm.errors import BotswarmError
from botswarm.market.wire import Digest
from botswarm.messages import EvaluateMarket

logger = logging.getLogger(__name__)

EVERY_S = 1.0
"""A market without a closed candle rings this often, as long as anything of it changes."""
SPACING_S = 0.5
"""No market rings more often, whatever happens."""

Ring = Callable[[EvaluateMarket], object]
"""Sends it and returns when the broker has it; raises BotswarmError where it does not."""


class Bell:
    """A thread of its own: a broker that takes its time delays only what is worthless by then."""

    def __init__(self, ring: Ring, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ring = ring
        self._monotonic = monotonic
        self._listening: frozenset[str] = frozenset()
        self._rung: dict[str, float] = {}
        self._due: dict[str, EvaluateMarket] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._failing = False
        self.rings = 0
        self.coalesced = 0
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def listen(self, symbols: Collection[str]) -> None:
        """The markets that have running bots: nobody is woken for the others."""
        with self._changed:
            self._listening = frozenset(symbols)

    def hear(self, digest: Digest) -> None:
        """Right after a candle closed bots have most to decide, so that is when it rings."""
        now = self._monotonic()
        with self._changed:
            for market in digest.markets:
                since_s = now - self._rung.get(market.symbol, float("-inf"))
                is_due = since_s >= (SPACING_S if market.candles else EVERY_S)
                if market.symbol not in self._listening or not is_due:
                    continue
                # One that still waits speaks of an older digest: it is replaced.
                self.coalesced += market.symbol in self._due
                self._due[market.symbol] = EvaluateMarket(
                    venue=digest.venue, symbol=market.symbol, sequence=market.sequence
                )
                self._rung[market.symbol] = now
            if self._due:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._stopped)
                if self._stopped:
                    return
                message = self._due.pop(next(iter(self._due)))
            self._send(message)

    def _send(self, message: EvaluateMarket) -> None:
        try:
            self._ring(message)
            self.rings += 1
            self._failing = False
        except BotswarmError as error:
            self._missed(str(error))
        except Exception as error:
            # Whatever the sender's libraries raise: the next ring is due in a second.
            self._missed(f"{type(error).__name__}: {error}")

    def _missed(self, reason: str) -> None:
        self.failed += 1
        if not self._failing:
            logger.warning("bots are not told about their markets: %s", reason)
        self._failing = True
