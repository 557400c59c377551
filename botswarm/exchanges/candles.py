"""What venues leave out of their candles: which are closed, pauses, and lengths they lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade
from botswarm.exchanges.streams import StreamedCandle

LATE_MS = 60_000
"""A candle that the venue has not published so long after its end had no trades."""


class ClosedByNext:
    """Streams without a word for "closed": a candle is closed when the next one has begun."""

    def __init__(self) -> None:
        self._open: dict[str, StreamedCandle] = {}

    def put(self, candles: Iterable[StreamedCandle]) -> list[StreamedCandle]:
        """Those of one frame, oldest first; none is told open that the same frame closes."""
        told = [each for candle in candles for each in self._put(candle)]
        closed = {(each.symbol, each.open_ms) for each in told if each.is_closed}
        return [
            each for each in told if each.is_closed or (each.symbol, each.open_ms) not in closed
        ]

    def _put(self, candle: StreamedCandle) -> list[StreamedCandle]:
        last = self._open.get(candle.symbol)
        if last is not None and candle.exchange_ms < last.exchange_ms:
            return []  # said before what we know already
        if last is not None and candle.open_ms < last.open_ms:
            # A correction of one that has ended.
            return [replace(candle, is_closed=True)]
        self._open[candle.symbol] = candle
        if last is None or candle.open_ms == last.open_ms:
            return [candle]
        closed = replace(
            last,
            is_closed=True,
            exchange_ms=candle.exchange_ms,
            received_ms=candle.received_ms,
        )
        return [closed, candle]

    def forget(self, symbol: str | None = None) -> None:
        """Of one market, or of all: changes were missed, so what is known is not their last."""
        if symbol is None:
            self._open.clear()
        else:
            self._open.pop(symbol, None)


def whole(candles: Iterable[Candle], timeframe: str, now_ms: int, limit: int) -> list[Candle]:
    """The last ``limit`` closed ones, oldest first, a flat line for each pause of the market."""
    length_ms = TIMEFRAMES_S[timeframe] * 1000
    end_ms = now_ms - now_ms % length_ms
    first_ms = end_ms - limit * length_ms
    told = {candle.open_ms: candle for candle in candles}
    last = told.get(max((open_ms for open_ms in told if open_ms < first_ms), default=-1))
    told_until_ms = max(max(told, default=0), now_ms - LATE_MS - length_ms)
    found = []
    for open_ms in range(first_ms, end_ms, length_ms):
        if (candle := told.get(open_ms)) is None and last is not None and open_ms <= told_until_ms:
            candle = _flat(last, open_ms)
        if candle is not None:
            found.append(candle)
            last = candle
    return found


def _flat(candle: Candle, open_ms: int) -> Candle:
    price, nothing = candle.close, Decimal(0)
    return replace(
        candle, open_ms=open_ms, open=price, high=price, low=price, volume=nothing, trades=0
    )


def merged(candles: Sequence[Candle], timeframe: str) -> list[Candle]:
    """Candles of a length the venue has not, from shorter ones without holes; whole ones only."""
    length_ms = TIMEFRAMES_S[timeframe] * 1000
    groups: dict[int, list[Candle]] = {}
    for candle in candles:
        groups.setdefault(candle.open_ms - candle.open_ms % length_ms, []).append(candle)
    return [
        replace(
            parts[0],
            timeframe=timeframe,
            open_ms=open_ms,
            high=max(part.high for part in parts),
            low=min(part.low for part in parts),
            close=parts[-1].close,
            volume=sum((part.volume for part in parts), Decimal(0)),
            trades=sum(part.trades for part in parts),
        )
        for open_ms, parts in groups.items()
        if len(parts) * TIMEFRAMES_S[parts[0].timeframe] * 1000 == length_ms
    ]


def of_trades(trades: Sequence[Trade], timeframe: str, now_ms: int, limit: int) -> list[Candle]:
    """Closed candles of trades without a gap, by rising id; the first may be a part: left out."""
    length_ms = TIMEFRAMES_S[timeframe] * 1000
    groups: dict[int, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(trade.exchange_ms - trade.exchange_ms % length_ms, []).append(trade)
    found = [_of_group(timeframe, open_ms, group) for open_ms, group in groups.items()]
    return whole(sorted(found, key=lambda each: each.open_ms)[1:], timeframe, now_ms, limit)


def _of_group(timeframe: str, open_ms: int, group: Sequence[Trade]) -> Candle:
    prices = [trade.price for trade in group]
    return Candle(
        venue=group[0].venue,
        symbol=group[0].symbol,
        timeframe=timeframe,
        open_ms=open_ms,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=sum((trade.quantity for trade in group), Decimal(0)),
        trades=len(group),
        is_closed=True,
    )
