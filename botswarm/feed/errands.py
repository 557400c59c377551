"""What the feed does beside publishing: asks the venue for missed candles, and keeps the others."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade
from botswarm.errors import BotswarmError
from botswarm.feed.tracker import CANDLES_KEPT_MAX, Tracker

logger = logging.getLogger(__name__)

MEND_EVERY_S = 0.5
MEND_AGAIN_S = 10.0
REFUSED_AGAIN_S, REFUSED_AGAIN_MAX_S = 0.5, 5.0
"""A market of which the venue tells nothing, such as one it gave up, holds up no other."""
REQUESTS_PER_ROUND_MAX = 20
CANDLES_PER_REQUEST_MAX = 900
TRADES_PER_REQUEST = 1000
TRADES_PAGES_MAX = 20
"""Of one gap: what is older than that has no use for bots, and is given up."""

CANDLES_COST, TRADES_COST = 2, 25
"""What Binance charges; others charge less or nothing."""
ALLOWANCE, ALLOWANCE_PER_S = 2000, 50
"""Half of what Binance allows an address: orders need the rest."""

PAST = 500
PAST_PER_ROUND_MAX = 6

SAVE_EVERY_S = 2.0
SAVED = tuple(name for name, seconds in TIMEFRAMES_S.items() if seconds >= 60)
"""Shorter candles are a million rows a market in ten days, and any venue tells them again."""
ROWS_MAX = 500

Save = Callable[[Sequence[Candle]], None]


class History(Protocol):
    """What is asked of the venue for what the streams did not bring."""

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]: ...

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]: ...

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]: ...


class _Allowance:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(ALLOWANCE)
        self._at = monotonic()

    def take(self, cost: int) -> bool:
        now = self._monotonic()
        self._left = min(ALLOWANCE, self._left + ALLOWANCE_PER_S * (now - self._at))
        self._at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True


class _Errand(ABC):
    """Something done again and again in a thread of its own until it is told to stop."""

    every_s: float

    def __init__(self, name: str) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failing = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopped.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.wait(self.every_s):
            self._once_more()
        self._once_more()

    def _once_more(self) -> None:
        try:
            self.run()
            self._failing = ""
        except BotswarmError as error:
            if self._failing != str(error):
                logger.warning("%s: %s; trying again", self._thread.name, error)
            self._failing = str(error)
        except Exception:
            logger.exception("%s failed; going on", self._thread.name)

    @abstractmethod
    def run(self) -> None:
        """One round of it."""


class Mender(_Errand):
    """Asks the venue for what the streams missed: trades first, while it still has them."""

    every_s = MEND_EVERY_S

    def __init__(self, tracker: Tracker, data: History, monotonic: Callable[[], float]) -> None:
        super().__init__("mender")
        self._tracker = tracker
        self._data = data
        self._monotonic = monotonic
        self._allowance = _Allowance(monotonic)
        self._not_before: dict[tuple[str, str], float] = {}
        self._refused: dict[str, tuple[float, float, str]] = {}
        """By market: when it is asked for again, after which pause, and the venue's words."""
        self._past: deque[tuple[str, str]] = deque()
        self.asked = 0

    def load_past(self, symbols: Iterable[str]) -> None:
        """So that the ledger has what was before the feed came, and while it was away."""
        self._past.extend((symbol, timeframe) for timeframe in SAVED for symbol in symbols)

    def run(self) -> None:
        # Whoever publishes does so too, but may wait for the broker: gaps do not.
        self._tracker.advance()
        for symbol, lost in self._wanted_trades():
            if self._stopped.is_set() or not self._try_to_mend(symbol, lost):
                return
        self._fill_holes()
        for _ in range(min(len(self._past), PAST_PER_ROUND_MAX)):
            if self._is_needed_elsewhere() or not self._may_ask(CANDLES_COST):
                return
            symbol, timeframe = self._past.popleft()
            try:
                self._tracker.keep(self._data.candles(symbol, timeframe, limit=PAST))
            except BotswarmError:
                self._past.append((symbol, timeframe))
                raise

    def _wanted_trades(self) -> list[tuple[str, list[range]]]:
        now, refused = self._monotonic(), self._refused
        return [
            (symbol, lost)
            for symbol, lost in self._tracker.wanted_trades()
            if symbol not in refused or refused[symbol][0] <= now
        ]

    def _is_needed_elsewhere(self) -> bool:
        """Some venues allow one question a second: a missed trade does not wait for candles."""
        return self._stopped.is_set() or bool(self._wanted_trades())

    def _may_ask(self, cost: int) -> bool:
        if not self._allowance.take(cost):
            return False
        self.asked += 1
        return True

    def _try_to_mend(self, symbol: str, lost: Sequence[range]) -> bool:
        """Whether the round may go on."""
        try:
            is_well = self._mend(symbol, lost)
        except BotswarmError as error:
            _, pause_s, words = self._refused.get(symbol, (0.0, REFUSED_AGAIN_S / 2, ""))
            if words != str(error):
                logger.warning("trades of %s were missed: %s; trying again", symbol, error)
            pause_s = min(2 * pause_s, REFUSED_AGAIN_MAX_S)
            self._refused[symbol] = self._monotonic() + pause_s, pause_s, str(error)
            return False
        if is_well:
            self._refused.pop(symbol, None)
        return is_well

    def _mend(self, symbol: str, lost: Sequence[range]) -> bool:
        """Whether there is allowance left; a gap that is half mended is gone on with later."""
        if not lost or max(ids.stop for ids in lost) - lost[0].start <= TRADES_PER_REQUEST:
            if not self._may_ask(TRADES_COST):
                return False
            trades = self._data.latest_trades(symbol, limit=TRADES_PER_REQUEST)
            self._tracker.recover(symbol, trades)
            if not lost or (trades and trades[0].trade_id <= lost[0].start):
                # What is newer than all it told it may tell in a moment.
                told = [ids for ids in lost if trades and ids.stop <= trades[-1].trade_id]
                return self._give_up(symbol, told)
        return all(self._page(symbol, ids) for ids in lost)

    def _page(self, symbol: str, ids: range) -> bool:
        """From the oldest on, until the venue has no more of them."""
        first = max(ids.start, ids.stop - TRADES_PAGES_MAX * TRADES_PER_REQUEST)
        while first < ids.stop and not self._stopped.is_set():
            if not self._may_ask(TRADES_COST):
                return False
            trades = self._data.trades_between(symbol, first, ids.stop - 1)
            if not trades:
                break
            self._tracker.recover(symbol, trades)
            first = trades[-1].trade_id + 1
        return self._give_up(symbol, [ids])

    def _give_up(self, symbol: str, lost: Sequence[range]) -> bool:
        for ids in lost:
            self._tracker.give_up(symbol, ids)
        return True

    def _fill_holes(self) -> None:
        now = self._monotonic()
        wanted = [
            (symbol, timeframe, count)
            for symbol, timeframe, count in self._tracker.wanted_candles()
            if self._not_before.get((symbol, timeframe), 0.0) <= now
        ]
        for symbol, timeframe, count in wanted[:REQUESTS_PER_ROUND_MAX]:
            if self._is_needed_elsewhere() or not self._may_ask(CANDLES_COST):
                return
            # Noted before it is known to work: a venue that is down is not asked twice a second.
            self._not_before[symbol, timeframe] = now + min(MEND_AGAIN_S, TIMEFRAMES_S[timeframe])
            limit = min(count + 1, CANDLES_PER_REQUEST_MAX)
            candles = self._data.candles(symbol, timeframe, limit=limit)
            self._tracker.fill(symbol, timeframe, candles)


class Keeper(_Errand):
    """Writes closed candles to the ledger, many at a time."""

    every_s = SAVE_EVERY_S

    def __init__(self, tracker: Tracker, save: Save) -> None:
        super().__init__("keeper")
        self._tracker = tracker
        self._save = save
        self._waiting: deque[Candle] = deque()
        self.is_on_duty = False
        """Only the feed that leads writes; the others remember a little, in case it dies."""
        self.saved = 0

    def run(self) -> None:
        if not self.is_on_duty:
            return
        self._waiting.extend(
            candle for candle in self._tracker.take_unsaved() if candle.timeframe in SAVED
        )
        while len(self._waiting) > CANDLES_KEPT_MAX:
            self._waiting.popleft()
            if not self._tracker.counts.unsaved_candles:
                logger.error("too many candles wait: the oldest will not be in the ledger")
            self._tracker.counts.unsaved_candles += 1
        while self._waiting:
            rows = list(islice(self._waiting, ROWS_MAX))
            self._save(rows)
            for _ in rows:
                self._waiting.popleft()
            self.saved += len(rows)
