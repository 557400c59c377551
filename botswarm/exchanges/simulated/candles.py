"""Candles of a market: live ones from its trades, older ones from its price line."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from botswarm.domain.instrument import step_down
from botswarm.exchanges.simulated.orders import ZERO
from botswarm.exchanges.simulated.prices import PriceLine, dice

INTERVALS_MS: Final = {
    "1s": 1_000,
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}
LIVE_KEPT: Final = 5_000
OLD_KEPT: Final = 20_000
SAMPLES_MAX: Final = 8


@dataclass(slots=True)
class Kline:
    open_ms: int
    close_ms: int
    """The last millisecond it covers."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    quote_volume: Decimal = ZERO
    trades: int = 0
    taker_volume: Decimal = ZERO
    """Bought by takers."""
    taker_quote_volume: Decimal = ZERO
    first_trade_id: int = -1
    last_trade_id: int = -1
    touched: bool = True
    """Changed since its stream last showed it."""

    def add(self, price: Decimal, quantity: Decimal, trade_id: int, taker_buys: bool) -> None:
        if self.trades == 0:
            # As at real venues: it opens with its first trade, and only a silent one where the
            # one before it closed.
            self.open = self.high = self.low = price
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += quantity
        self.quote_volume += price * quantity
        self.trades += 1
        if taker_buys:
            self.taker_volume += quantity
            self.taker_quote_volume += price * quantity
        if self.first_trade_id < 0:
            self.first_trade_id = trade_id
        self.last_trade_id = trade_id
        self.touched = True


class Candles:
    """Of one market, in every interval."""

    def __init__(self, line: PriceLine, lot_size: Decimal, now_ms: int) -> None:
        self.line = line
        self.lot_size = lot_size
        self._old: OrderedDict[tuple[str, int], Kline] = OrderedDict()
        self._live: dict[str, deque[Kline]] = {}
        self.current: dict[str, Kline] = {}
        for interval, length in INTERVALS_MS.items():
            self._live[interval] = deque(maxlen=LIVE_KEPT)
            # What went before the start is told by the line, up to this moment.
            self.current[interval] = self._from_line(now_ms - now_ms % length, length, now_ms)

    def add(
        self, now_ms: int, price: Decimal, quantity: Decimal, trade_id: int, taker_buys: bool
    ) -> None:
        for candle in self.current.values():
            candle.add(price, quantity, trade_id, taker_buys)

    def roll(self, now_ms: int) -> list[tuple[str, Kline]]:
        """Close what has ended by ``now_ms``; the next opens where it closed."""
        closed: list[tuple[str, Kline]] = []
        for interval, length in INTERVALS_MS.items():
            candle = self.current[interval]
            while candle.close_ms < now_ms:
                closed.append((interval, candle))
                self._live[interval].append(candle)
                price, opens = candle.close, candle.close_ms + 1
                candle = Kline(opens, opens + length - 1, price, price, price, price)
                self.current[interval] = candle
        return closed

    def between(
        self,
        interval: str,
        now_ms: int,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Kline]:
        """Oldest first; the one that is not over yet included."""
        length = INTERVALS_MS[interval]
        newest = self.current[interval]
        last = min(end_ms if end_ms is not None else now_ms, newest.open_ms)
        last -= last % length
        if start_ms is None:
            first = last - (limit - 1) * length
        else:
            first = -(-start_ms // length) * length
            last = min(last, first + (limit - 1) * length)
        live = self._live[interval]
        live_from = live[0].open_ms if live else newest.open_ms
        found = []
        for opens in range(max(first, 0), last + 1, length):
            if opens == newest.open_ms:
                found.append(newest)
            elif opens >= live_from:
                found.append(live[(opens - live_from) // length])
            else:
                found.append(self._before_start(interval, opens, length))
        return found

    def _before_start(self, interval: str, opens: int, length: int) -> Kline:
        candle = self._old.get((interval, opens))
        if candle is None:
            candle = self._old[interval, opens] = self._from_line(opens, length, opens + length)
            if len(self._old) > OLD_KEPT:
                self._old.popitem(last=False)
        return candle

    def _from_line(self, opens: int, length: int, until: int) -> Kline:
        samples = max(1, min(SAMPLES_MAX, length // 500))
        ends = [opens + length * n // samples for n in range(samples + 1)]
        prices = [self.line.at(min(ms, until)) for ms in ends]
        candle = Kline(opens, opens + length - 1, prices[0], max(prices), min(prices), prices[-1])
        share = (min(until, opens + length) - opens) / 1000
        worth = Decimal(share * (500 + 1_500 * dice(self.line.key, opens, length)))
        candle.volume = step_down(worth / candle.close, self.lot_size)
        candle.quote_volume = candle.volume * candle.close
        candle.taker_volume = step_down(candle.volume / 2, self.lot_size)
        candle.taker_quote_volume = candle.taker_volume * candle.close
        candle.trades = int(share * 5)
        return candle
