"""Binance's public side over REST: its markets, candles, missed trades and whole order books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from botswarm.clock import Clock, SystemClock
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Status, Trade
from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges.allowance import Allowance, Unlimited
from botswarm.exchanges.binance import limits, symbols
from botswarm.exchanges.binance.depth import SNAPSHOT_LEVELS
from botswarm.exchanges.binance.events import levels
from botswarm.exchanges.binance.session import (
    BOOK_LEVELS,
    CHANNELS,
    RULES,
    BinanceSession,
    Resolve,
)
from botswarm.exchanges.reading import number, positive, whole
from botswarm.exchanges.rest import PublicRest
from botswarm.exchanges.streams import Session

CANDLES_PER_REQUEST_MAX = 1000
TRADES_PER_REQUEST_MAX = 1000
WEIGHT_PER_S, WEIGHT_BURST = 80.0, 1200
"""Of the 6000 a minute that an address has: orders and other processes need the rest."""
TIME_HOLDS_S = 10.0
"""The venue is asked what time it is that often at most."""


class BinanceMarketData:
    """``instruments`` is asked once and kept; sessions ask nobody."""

    rules = RULES
    channels = CHANNELS

    def __init__(
        self,
        *,
        name: str,
        rest_url: str,
        stream_url: str,
        instruments: Sequence[Instrument] | None = None,
        book_levels: int = BOOK_LEVELS,
        clock: Clock | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.name = name
        self._allowance = Unlimited() if allowance is None else allowance
        self._rest = PublicRest(
            name,
            rest_url,
            per_s=WEIGHT_PER_S,
            burst=WEIGHT_BURST,
            allowance=self._allowance,
            cost=limits.asking,
            used=limits.used,
        )
        self._stream_url = stream_url.rstrip("/")
        self._book_levels = book_levels
        self._clock = SystemClock() if clock is None else clock
        self._told_time = 0, float("-inf")
        """The venue's, and when it was told by our monotonic clock."""
        self._instruments: Sequence[Instrument] = ()
        self._symbols: dict[str, str] = {}
        if instruments is not None:
            self._take(instruments)

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            self._keep(self._described())
        return self._instruments

    def statuses(self) -> Sequence[Status]:
        """No stream tells them; this costs weight 20 and up to 2 MB."""
        described = self._described()
        self._keep(described)
        now_ms = self._now_ms()
        with self._rest.reading("list of markets"):
            return [
                Status(
                    venue=self.name,
                    symbol=f"{each['baseAsset']}-{each['quoteAsset']}",
                    trading=symbols.trading(each["status"]),
                    exchange_ms=now_ms,
                    received_ms=now_ms,
                    words=each["status"],
                )
                for each in symbols.spot(described)
            ]

    def _described(self) -> Any:
        described = self._rest.ask("/api/v3/exchangeInfo", weight=20)
        with self._rest.reading("list of limits"):
            self._allowance.learn(limits.told(described))
        return described

    def session(self) -> Session:
        return self._session(lambda theirs: None)

    def reader(self) -> Session:
        return self._session(
            lambda theirs: self._symbols.get(theirs) or symbols.split(theirs), tells_changes=True
        )

    def _session(self, resolve: Resolve, *, tells_changes: bool = False) -> BinanceSession:
        return BinanceSession(
            name=self.name,
            stream_url=self._stream_url,
            resolve=resolve,
            book_levels=self._book_levels,
            tells_changes=tells_changes,
        )

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        """The latest closed candles, oldest first; a pause of the venue is a flat line."""
        length_ms = TIMEFRAMES_S[timeframe] * 1000
        # One more, because the last one is still open.
        count = min(limit, CANDLES_PER_REQUEST_MAX - 1) + 1
        query = {"symbol": symbols.to_venue(symbol), "interval": timeframe, "limit": count}
        # Asked before: what has ended by then is whole in the rows that come after.
        now_ms = self._venue_now_ms()
        rows = self._rest.ask(f"/api/v3/klines?{urlencode(query)}", weight=2)
        with self._rest.reading("candles"):
            found = [_candle_of_row(self.name, symbol, timeframe, row) for row in _list(rows)]
        # A garbled time long ago would be followed by flat candles without end.
        first_ms = now_ms - (CANDLES_PER_REQUEST_MAX + limit) * length_ms
        closed = [each for each in found if first_ms <= each.open_ms <= now_ms - length_ms]
        return _without_holes(closed, length_ms)[-limit:]

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        query = {
            "symbol": symbols.to_venue(symbol),
            "limit": min(limit, TRADES_PER_REQUEST_MAX),
        }
        rows = self._rest.ask(f"/api/v3/trades?{urlencode(query)}", weight=25)
        return self._trades(symbol, rows)

    def _trades(self, symbol: str, rows: Any) -> Sequence[Trade]:
        with self._rest.reading("trades"):
            found = [_trade_of_row(self.name, symbol, row) for row in _list(rows)]
        return sorted(found, key=lambda trade: trade.trade_id)

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """At most a thousand; where older ones are not told, those of the latest that match."""
        wanted = range(first_id, last_id + 1)
        query = {
            "symbol": symbols.to_venue(symbol),
            "fromId": first_id,
            "limit": min(len(wanted), TRADES_PER_REQUEST_MAX),
        }
        try:
            rows = self._rest.ask(f"/api/v3/historicalTrades?{urlencode(query)}", weight=25)
            found = self._trades(symbol, rows)
        except Unreachable:
            found = self.latest_trades(symbol, limit=TRADES_PER_REQUEST_MAX)
        return [trade for trade in found if trade.trade_id in wanted]

    def book(self, symbol: str) -> Book:
        query = {"symbol": symbols.to_venue(symbol), "limit": SNAPSHOT_LEVELS}
        answer = self._rest.ask(f"/api/v3/depth?{urlencode(query)}", weight=50)
        now_ms = self._now_ms()
        with self._rest.reading("order book"):
            return Book(
                venue=self.name,
                symbol=symbol,
                sequence=whole(answer["lastUpdateId"]),
                bids=levels(answer["bids"]),
                asks=levels(answer["asks"]),
                exchange_ms=now_ms,
                received_ms=now_ms,
            )

    def close(self) -> None:
        self._rest.close()

    # --- what the venue has -------------------------------------------------------------------

    def _keep(self, described: Any) -> None:
        with self._rest.reading("list of markets"):
            self._take(symbols.instruments(self.name, described))

    def _take(self, instruments: Sequence[Instrument]) -> None:
        self._symbols = {symbols.to_venue(each.symbol): each.symbol for each in instruments}
        self._instruments = instruments

    def _venue_now_ms(self) -> int:
        """By the venue's clock, or a little less: it was so late when its answer began its way."""
        told_ms, at = self._told_time
        passed_s = self._clock.monotonic() - at
        if passed_s > TIME_HOLDS_S:
            told = self._rest.ask("/api/v3/time")
            at, passed_s = self._clock.monotonic(), 0.0
            with self._rest.reading("time"):
                told_ms = whole(told["serverTime"])
            self._told_time = told_ms, at
        return told_ms + int(passed_s * 1000)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _list(rows: Any) -> list[Any]:
    if isinstance(rows, list):
        return rows
    raise TypeError("not a list")


def _candle_of_row(venue: str, symbol: str, timeframe: str, row: Sequence[Any]) -> Candle:
    return Candle(
        venue=venue,
        symbol=symbol,
        timeframe=timeframe,
        open_ms=whole(row[0]),
        open=positive(row[1]),
        high=positive(row[2]),
        low=positive(row[3]),
        close=positive(row[4]),
        volume=number(row[5]),
        trades=whole(row[8]),
        is_closed=True,
    )


def _trade_of_row(venue: str, symbol: str, row: Mapping[str, Any]) -> Trade:
    at_ms = whole(row["time"])
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(row["id"]),
        price=positive(row["price"]),
        quantity=positive(row["qty"]),
        taker_side=Side.SELL if row["isBuyerMaker"] else Side.BUY,
        exchange_ms=at_ms,
        # Nobody received it when it happened.
        received_ms=at_ms,
    )


def _without_holes(candles: Sequence[Candle], length_ms: int) -> list[Candle]:
    whole: list[Candle] = []
    for candle in candles:
        while whole and whole[-1].open_ms + length_ms < candle.open_ms:
            whole.append(_flat_after(whole[-1], length_ms))
        whole.append(candle)
    return whole


def _flat_after(candle: Candle, length_ms: int) -> Candle:
    return Candle(
        venue=candle.venue,
        symbol=candle.symbol,
        timeframe=candle.timeframe,
        open_ms=candle.open_ms + length_ms,
        open=candle.close,
        high=candle.close,
        low=candle.close,
        close=candle.close,
        volume=Decimal(0),
        trades=0,
        is_closed=True,
    )
