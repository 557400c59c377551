"""Puts the last prices where anybody can look at them, when that is possible just now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from botswarm.errors import BotswarmError
from botswarm.live.price import TTL_S, LivePrice, prices_of
from botswarm.market.wire import Digest

logger = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 5.0

Write = Callable[[Sequence[LivePrice], Collection[str]], None]
"""These changed, those are all that are on the board; raises BotswarmError where it cannot."""


class Board:
    """A thread of its own: who tells it prices never waits, and only the newest of each counts."""

    def __init__(self, write: Write, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._monotonic = monotonic
        self._waiting: dict[str, LivePrice] = {}
        self._heard: dict[str, float] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)
        self._backoff_s = 0.0
        self.written = 0
        self.replaced = 0
        """Prices that were overtaken by newer ones before they could be written."""
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_s)

    def hear(self, digest: Digest) -> None:
        now = self._monotonic()
        with self._changed:
            for price in prices_of(digest):
                self.replaced += price.symbol in self._waiting
                self._waiting[price.symbol] = price
                self._heard[price.symbol] = now
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                prices, contents = self._take()
            if not prices:
                continue
            try:
                self._write(prices, contents)
                self.written += len(prices)
                self._well()
            except BotswarmError as error:
                self._missed(prices, str(error))
            except Exception as error:
                # Whatever the library raises: the next digest is due in a moment.
                self._missed(prices, f"{type(error).__name__}: {error}")
            self._stopped.wait(self._backoff_s)

    def _take(self) -> tuple[list[LivePrice], list[str]]:
        """What waits, without that which grew old while nothing could be written."""
        since = self._monotonic() - TTL_S
        self._heard = {symbol: at for symbol, at in self._heard.items() if at >= since}
        prices = [price for symbol, price in self._waiting.items() if symbol in self._heard]
        self._waiting = {}
        return prices, list(self._heard)

    def _well(self) -> None:
        if self._backoff_s:
            logger.info("live prices are written again")
        self._backoff_s = 0.0

    def _missed(self, prices: Sequence[LivePrice], reason: str) -> None:
        self.failed += 1
        if not self._backoff_s:
            logger.warning("live prices are not written: %s; trying again", reason)
        self._backoff_s = min(2 * self._backoff_s or BACKOFF_FIRST_S, BACKOFF_MAX_S)
        with self._changed:
            for price in prices:
                self._waiting.setdefault(price.symbol, price)
