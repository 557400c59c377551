"""Rings for the bots of a market that moved: the latest word only, and not too often."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Collection

from botswarm.domain.market import Quote, Trade
from botswarm.errors import BotswarmError
from botswarm.market.wire import Digest, MarketDigest
from botswarm.messages import EvaluateMarket

logger = logging.getLogger(__name__)

EVERY_S = 0.7
"""A market that moves once a second rings once a second and with the tick, though a digest or
two of it came late.
"""
TRAILING_S = 1.2
"""What moved a market too soon after a ring is told so long after that at the latest."""
SPACING_S = 0.5
"""No market rings more often, whatever happens."""
SHORTEST = "1s"
"""Candles of it close with the very ticks that ring, or in a market that is silent."""

Ring = Callable[[EvaluateMarket], object]
"""Sends it and returns when the broker has it; raises BotswarmError where it does not."""


class Bell:
    """A thread of its own: a broker that takes its time delays only what is worthless by then."""

    def __init__(self, ring: Ring, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ring = ring
        self._monotonic = monotonic
        self._listening: frozenset[str] = frozenset()
        self._rung: dict[str, float] = {}
        self._heard: dict[str, tuple[Trade | None, Quote | None]] = {}
        self._told: dict[str, float] = {}
        """When it rang for a tick: what a candle rang for besides holds up no tick."""
        self._due: dict[str, tuple[float, EvaluateMarket, bool]] = {}
        """When, with what, and whether because of a tick."""
        self._turns: list[tuple[float, str]] = []
        """A heap of what is due when; one whose time is not that of ``_due`` is void."""
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
        """Rings with the tick that moved a market, and right after a candle of it closed.

        A tick too soon after a ring waits, and nothing of it is lost: it is told with the next
        one, or after a moment by itself.
        """
        now = self._monotonic()
        with self._changed:
            next_turn = self._turns[0] if self._turns else None
            for market in digest.markets:
                if market.symbol in self._listening:
                    self._hear(digest.venue, market, now)
            # Digests come fifty times a second: whoever waits is woken only to ring sooner.
            if self._turns and self._turns[0] != next_turn:
                self._changed.notify()

    def _hear(self, venue: str, market: MarketDigest, now: float) -> None:
        symbol, ticks = market.symbol, (market.trade, market.quote)
        turns = []
        if ticks != self._heard.get(symbol):
            told = self._told.get(symbol, float("-inf"))
            turns.append((now if now - told >= EVERY_S else told + TRAILING_S, True))
        if any(candle.timeframe != SHORTEST for candle in market.candles):
            turns.append((max(now, self._rung.get(symbol, now) + SPACING_S), False))
        if not turns:
            return
        self._heard[symbol] = ticks
        # One that still waits speaks of an older digest: it is replaced.
        if (waits := self._due.get(symbol)) is not None:
            self.coalesced += 1
            turns.append((waits[0], waits[2]))
        due, is_tick = min(turns, key=lambda turn: turn[0])
        message = EvaluateMarket(venue=venue, symbol=symbol, sequence=market.sequence)
        self._due[symbol] = due, message, is_tick
        heapq.heappush(self._turns, (due, symbol))

    def _run(self) -> None:
        while (message := self._next()) is not None:
            self._send(message)

    def _next(self) -> EvaluateMarket | None:
        """Waits until one is due; None when it was told to stop."""
        with self._changed:
            while not self._stopped:
                while self._turns and self._is_void(self._turns[0]):
                    heapq.heappop(self._turns)
                now = self._monotonic()
                if self._turns and self._turns[0][0] <= now:
                    _, symbol = heapq.heappop(self._turns)
                    _, message, is_tick = self._due.pop(symbol)
                    self._rung[symbol] = now
                    if is_tick:
                        self._told[symbol] = now
                    return message
                self._changed.wait(self._turns[0][0] - now if self._turns else None)
            return None

    def _is_void(self, turn: tuple[float, str]) -> bool:
        waits = self._due.get(turn[1])
        return waits is None or waits[0] != turn[0]

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
