"""What both sides of Coinbase have in common by REST: pages of candles, and what they lack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Status, Trade
from botswarm.exchanges import candles
from botswarm.exchanges.allowance import Allowance
from botswarm.exchanges.coinbase import limits
from botswarm.exchanges.rest import PublicRest

REQUESTS_PER_S = 5.0
REQUESTS_AT_ONCE = 5
"""Half of what the venue allows one address: the feed and the workers ask, and others may."""
REQUESTS_MAX = 10
TRADES_PER_REQUEST_MAX = 1000
LENGTHS = frozenset({"1m", "5m", "15m", "1h", "1d"})
MADE_OF = {"4h": "1h"}
"""Lengths the venue has not, and what they are put together from; seconds are made of trades."""


class History(ABC):
    candles_per_request: ClassVar[int]

    def __init__(
        self, *, name: str, rest_url: str, stream_url: str, allowance: Allowance | None = None
    ) -> None:
        self.name = name
        self._rest = PublicRest(
            name,
            rest_url,
            per_s=REQUESTS_PER_S,
            burst=REQUESTS_AT_ONCE,
            allowance=allowance,
            cost=lambda weight: {limits.PUBLIC: weight},
        )
        self._stream_url = stream_url
        self._instruments: Sequence[Instrument] = ()

    def statuses(self) -> Sequence[Status]:
        return ()

    def book(self, symbol: str) -> Book | None:
        return None

    def close(self) -> None:
        self._rest.close()

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        now_ms = self._settled_ms()
        if (part := MADE_OF.get(timeframe)) is not None:
            times = TIMEFRAMES_S[timeframe] // TIMEFRAMES_S[part]
            shorter = self._closed(symbol, part, now_ms, (limit + 1) * times)
            return candles.merged(shorter, timeframe)[-limit:]
        if timeframe not in LENGTHS:
            trades = self.latest_trades(symbol, limit=TRADES_PER_REQUEST_MAX)
            return candles.of_trades(trades, timeframe, now_ms, limit)
        return self._closed(symbol, timeframe, now_ms, limit)

    def _closed(self, symbol: str, timeframe: str, now_ms: int, limit: int) -> Sequence[Candle]:
        found: list[Candle] = []
        for start_s, end_s in self._periods(now_ms // 1000, TIMEFRAMES_S[timeframe], limit):
            found += self._candles_between(symbol, timeframe, start_s, end_s)
        return candles.whole(found, timeframe, now_ms, limit)

    def _periods(self, now_s: int, length_s: int, limit: int) -> Iterator[tuple[int, int]]:
        """The newest first; one candle more than asked for, which the oldest may begin with."""
        end_s, missing = now_s, limit + 2
        for _ in range(REQUESTS_MAX):
            if missing <= 0:
                return
            # The venue counts both ends of a period.
            count = min(missing, self.candles_per_request - 1)
            yield end_s - length_s * count, end_s
            end_s -= length_s * count
            missing -= count

    @abstractmethod
    def _candles_between(
        self, symbol: str, timeframe: str, start_s: int, end_s: int
    ) -> Sequence[Candle]: ...

    @abstractmethod
    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]: ...

    @abstractmethod
    def server_time_ms(self) -> int: ...

    def _settled_ms(self) -> int:
        return self._rest.settled_ms(self.server_time_ms)
